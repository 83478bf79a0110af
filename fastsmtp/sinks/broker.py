"""RabbitMQ as a choice of the settings: every `rabbitmq-address` but none; with a spill or not."""

import os
from collections.abc import Iterable
from urllib.parse import urlsplit

from fastsmtp.availability import Availability
from fastsmtp.counters import Snapshot
from fastsmtp.needs import Use
from fastsmtp.settings import Settings
from fastsmtp.sinks.base import Sink
from fastsmtp.sinks.choice import Choice, Verdict
from fastsmtp.sinks.queue_file import examine_file, file_uses, snapshot
from fastsmtp.sinks.spill_counters import SpillCounters
from fastsmtp.sinks.spill_file import SpillFile

BROKER_FOLDER = "/var/lib/rabbitmq"
"""Where RabbitMQ's own packages keep its data."""

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


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
        if settings.rabbitmq_spill and _shares_a_disk(settings):
            yield (
                f"rabbitmq-spill: {settings.rabbitmq_spill} is on the disk of the broker on this "
                "machine: where that is full, both are"
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
        verdict = Verdict(
            any(not each.bad for each in found),
            [f"RabbitMQ at {each.address}: {line}" for each in found for line in each.good],
            [f"RabbitMQ at {each.address}: {line}" for each in found for line in each.bad],
        )
        if not settings.rabbitmq_spill:
            return verdict
        path = settings.rabbitmq_spill
        where = f"while RabbitMQ is away, mail goes into rabbitmq-spill {path}"
        spill = examine_file(path, settings.queue_maxsize, where)
        return Verdict(
            verdict.accepted or spill.accepted,
            verdict.good + spill.good,
            verdict.bad + spill.bad,
        )

    def snapshot(self, settings: Settings) -> Snapshot:
        """What the spill holds."""
        return snapshot(settings.rabbitmq_spill, settings.queue_maxsize, SpillFile, _stuck)


def _shares_a_disk(settings: Settings) -> bool:
    """Whether the spill is on the disk where a broker of this machine keeps its data, usually."""
    if not any(urlsplit(address).hostname in LOCAL_HOSTS for address in settings.rabbitmq_address):
        return False
    try:
        own = os.stat(os.path.dirname(os.path.abspath(settings.rabbitmq_spill)))
        return own.st_dev == os.stat(BROKER_FOLDER).st_dev
    except OSError:
        return False


def _stuck(file: SpillFile) -> Snapshot:
    return {"spill_stuck": file.stuck()}
