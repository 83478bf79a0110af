"""RabbitMQ as a choice of the settings: every `rabbitmq-address` but none; with a spill or not."""

from collections.abc import Iterable

from fastsmtp.availability import Availability
from fastsmtp.counters import Snapshot
from fastsmtp.needs import Use
from fastsmtp.settings import Settings
from fastsmtp.sinks.base import Sink
from fastsmtp.sinks.choice import Choice, Verdict
from fastsmtp.sinks.queue_file import file_uses, snapshot
from fastsmtp.sinks.spill_counters import SpillCounters
from fastsmtp.sinks.spill_file import SpillFile


class Broker(Choice[SpillCounters]):
    """Makes `rabbitmq.sink.RabbitMQ`, or `spill.Spill` around it."""

    late = ("fastsmtp.sinks.rabbitmq.sink", "fastsmtp.sinks.spill")
    reads = ("rabbitmq-ca", "rabbitmq-certificate", "rabbitmq-key")
    counters = SpillCounters

    def is_chosen(self, settings: Settings) -> bool:
        """See `Choice.is_chosen`."""
        return bool(settings.rabbitmq_address)

    def uses(self, settings: Settings) -> Iterable[Use]:
        """See `Choice.uses`."""
        if settings.rabbitmq_spill:
            yield from file_uses("rabbitmq-spill", settings.rabbitmq_spill, makes_folder=False)

    def warnings(self, settings: Settings) -> Iterable[str]:
        """See `Choice.warnings`."""
        if not settings.rabbitmq_persistent:
            yield (
                "rabbitmq-persistent is false: confirmed mail does not survive a crash of the "
                "broker"
            )

    def make(
        self, settings: Settings, availability: Availability, counters: SpillCounters, worker: int
    ) -> Sink:
        """See `Choice.make`."""
        if settings.rabbitmq_spill:
            from fastsmtp.sinks.spill import Spill

            return Spill(settings, availability, counters, worker)
        from fastsmtp.sinks.rabbitmq.sink import RabbitMQ

        return RabbitMQ(settings, availability, counters, worker)

    async def examine(self, settings: Settings) -> Verdict:
        """Log in at every address; takes ten seconds per address that does not answer."""
        from fastsmtp.sinks.rabbitmq.examination import Examination

        found = await Examination(settings).run()
        return Verdict(
            any(not each.bad for each in found),
            [f"RabbitMQ at {each.address}: {line}" for each in found for line in each.good],
            [f"RabbitMQ at {each.address}: {line}" for each in found for line in each.bad],
        )

    def snapshot(self, settings: Settings) -> Snapshot:
        """What the spill holds."""
        return snapshot(settings.rabbitmq_spill, settings.queue_maxsize, SpillFile, _stuck)


def _stuck(file: SpillFile) -> Snapshot:
    return {"spill_stuck": file.stuck()}
