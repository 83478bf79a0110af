"""What a worker counts of broker and spill together, and how that is shown."""

from fastsmtp._durations import Durations, now
from fastsmtp.counters import LAST_STORED, Snapshot
from fastsmtp.exposed import Exposed
from fastsmtp.sinks.rabbitmq.counters import EXPOSED as OF_BROKER
from fastsmtp.sinks.rabbitmq.counters import BrokerCounters

EXPOSED = OF_BROKER | {
    "spill_stored": Exposed(
        "counter",
        "fastsmtp_spill_stored",
        "Messages, one per recipient, that were accepted into rabbitmq-spill",
    ),
    "spill_published": Exposed(
        "counter", "fastsmtp_spill_published", "Messages of rabbitmq-spill that RabbitMQ confirmed"
    ),
    "spill_unsent": Exposed(
        "counter",
        "fastsmtp_spill_unsent",
        "Messages of rabbitmq-spill that RabbitMQ confirmed late, so that they were deleted unsent",
    ),
    "spill_repeated": Exposed(
        "counter",
        "fastsmtp_spill_repeated",
        "Messages of rabbitmq-spill whose first publish had no answer when its channel ended: "
        "RabbitMQ may get them twice, with the same message-id",
    ),
    "spill_stuck": Exposed(
        "gauge",
        "fastsmtp_spill_stuck_messages",
        "Messages of rabbitmq-spill that RabbitMQ did not take when they were published; they are "
        "tried again",
    ),
    "spill_seconds": Exposed(
        "histogram",
        "fastsmtp_spill_commit_seconds",
        "One transaction of rabbitmq-spill, many messages",
    ),
}


class SpillCounters(BrokerCounters):
    """Shared by broker, spill and drain of a worker."""

    exposed = EXPOSED

    def __init__(self) -> None:
        super().__init__()
        self.spill_stored = 0
        self.spill_published = 0
        self.spill_unsent = 0
        self.spill_repeated = 0
        self.spill_seconds = Durations()  # one transaction, until it is on the disk

    def failed(self, why: str) -> None:
        """The file did not take a message."""
        self.failures.append((now(), why))

    def counted(self) -> Snapshot:
        """See `Counters.counted`."""
        found = super().counted()
        last = max(self.confirm_seconds.last, self.spill_seconds.last)
        if last:
            found[LAST_STORED] = last
        return found
