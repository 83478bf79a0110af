"""RabbitMQ as a choice of the settings: every `rabbitmq-address` but none."""

from collections.abc import Iterable

from fastsmtp.availability import Availability
from fastsmtp.counters import Snapshot
from fastsmtp.settings import Settings
from fastsmtp.sinks.base import Sink
from fastsmtp.sinks.choice import Choice, Verdict
from fastsmtp.sinks.queue_file import snapshot
from fastsmtp.sinks.rabbitmq.counters import BrokerCounters


class Broker(Choice[BrokerCounters]):
    """Makes `sink.RabbitMQ`."""

    late = ("fastsmtp.sinks.rabbitmq.sink",)
    reads = ("rabbitmq-ca", "rabbitmq-certificate", "rabbitmq-key")
    counters = BrokerCounters

    def is_chosen(self, settings: Settings) -> bool:
        """See `Choice.is_chosen`."""
        return bool(settings.rabbitmq_address)

    def warnings(self, settings: Settings) -> Iterable[str]:
        """See `Choice.warnings`."""
        if not settings.rabbitmq_persistent:
            yield (
                "rabbitmq-persistent is false: confirmed mail does not survive a crash of the "
                "broker"
            )

    def make(
        self, settings: Settings, availability: Availability, counters: BrokerCounters, worker: int
    ) -> Sink:
        """See `Choice.make`."""
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
        return snapshot(settings.rabbitmq_spill, settings.queue_maxsize)
