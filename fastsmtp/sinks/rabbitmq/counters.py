"""What a worker counts of its publishes to RabbitMQ, one per recipient, and how it is shown."""

from collections import Counter, deque

from fastsmtp._durations import Durations
from fastsmtp.counters import IN_A_ROW, LAST_STORED, Counters, Snapshot
from fastsmtp.exposed import Exposed

STATES = ("up", "away", "blocked")


EXPOSED = {
    "broker_state": Exposed(
        "gauge",
        "fastsmtp_broker_workers",
        "Workers by what they see of RabbitMQ: up, away, or blocked by its memory or disk alarm",
        ("state",),
    ),
    "broker_connects": Exposed(
        "counter", "fastsmtp_broker_connects", "Connections to RabbitMQ that came up"
    ),
    "broker_published": Exposed(
        "counter", "fastsmtp_broker_published", "Publishes sent, one for each recipient"
    ),
    "broker_confirmed": Exposed(
        "counter", "fastsmtp_broker_confirmed", "Publishes that RabbitMQ confirmed and routed"
    ),
    "broker_returned": Exposed(
        "counter", "fastsmtp_broker_returned", "Publishes that no queue took (unroutable)"
    ),
    "broker_nacked": Exposed(
        "counter", "fastsmtp_broker_nacked", "Publishes that RabbitMQ did not want to store"
    ),
    "broker_lost": Exposed(
        "counter",
        "fastsmtp_broker_lost",
        "Publishes without an answer when the channel ended: their mail is answered 451, or goes "
        "into rabbitmq-spill",
    ),
    "confirm_seconds": Exposed(
        "histogram", "fastsmtp_confirm_seconds", "From a publish to its confirm"
    ),
}


class BrokerCounters(Counters):
    """Shared by all connections of a worker."""

    __slots__ = (
        "broker_confirmed",
        "broker_connects",
        "broker_lost",
        "broker_nacked",
        "broker_published",
        "broker_returned",
        "broker_state",
        "confirm_seconds",
        "failures",
    )

    exposed = EXPOSED

    def __init__(self) -> None:
        self.broker_state = ""  # one of STATES; "": there is none to publish to
        self.broker_connects = 0  # connections that came up
        self.broker_published = 0  # began to leave
        self.broker_confirmed = 0  # of those, acked and not returned
        self.broker_returned = 0  # unroutable
        self.broker_nacked = 0
        self.broker_lost = 0  # no answer before the channel ended
        self.confirm_seconds = Durations()  # from the write to the confirm
        # The last that were returned, nacked or not confirmed in time: when (monotonic), and why
        self.failures: deque[tuple[float, str]] = deque(maxlen=IN_A_ROW)

    def counted(self) -> Snapshot:
        """See `Counters.counted`; with what `/ready` reads, once there is any."""
        found = super().counted()
        found["broker_state"] = {state: int(state == self.broker_state) for state in STATES}
        if self.failures:
            found["failures"] = Counter(f"{at:.6f} {why}" for at, why in self.failures)
        if self.confirm_seconds.last:
            found[LAST_STORED] = self.confirm_seconds.last
        return found
