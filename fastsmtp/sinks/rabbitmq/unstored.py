"""Publishes that the broker did not store: what the log and `/ready` say of them.

Returned (unroutable), nacked, refused, or not confirmed in time. The log gets one line per minute
and reason at most; the metrics keep the last few, from which `/ready` is decided. Says when to look
for a missing queue; looks at nothing itself. Publishes that succeed cost nothing here.
"""

import logging

from fastsmtp._durations import now
from fastsmtp.counters import IN_A_ROW
from fastsmtp.rate_limited_log import RateLimitedLog
from fastsmtp.route import Route
from fastsmtp.settings import Settings
from fastsmtp.sinks.rabbitmq.counters import BrokerCounters

log = logging.getLogger(__name__)

RECHECK = 5.0
"""Seconds between two looks for a queue that is missing."""

PATIENCE = 30.0
"""Seconds after the last unroutable publish in which one looks for the queue."""

UNROUTABLE = "unroutable"
"""How the reason of an unroutable publish begins."""


class Unstored:
    """Shared by all connections of a worker."""

    def __init__(self, settings: Settings, metrics: BrokerCounters, spills: bool = False) -> None:
        """`spills`: what is not stored goes into the spill, as far as the settings say so."""
        self._default = Route(settings.rabbitmq_exchange, settings.rabbitmq_inbox)
        self._declares = settings.rabbitmq_declare
        self._metrics = metrics
        # Kinds of mail that the spill does not take; what it takes is no failure
        self._refuses_lost = not spills
        self._refuses_returned = not (spills and settings.rabbitmq_spill_unroutable)
        self._refuses_nacked = not (spills and settings.rabbitmq_spill_nacked)
        self._lost = _meanwhile(spills, "4.3.0")  # of mail whose outcome is unknown
        self._returned = _meanwhile(spills and settings.rabbitmq_spill_unroutable, "4.3.5")
        self._nacked = _meanwhile(spills and settings.rabbitmq_spill_nacked, "4.3.0")
        self._log = RateLimitedLog(log, logging.WARNING)
        self._missing_at = 0.0  # monotonic; when a publish last found no queue; 0: not lately
        self._next_look = 0.0  # monotonic

    def returned(self, reason: str, route: Route | None) -> None:
        """The broker sent a publish back; `reason` is its own: "312 NO_ROUTE"."""
        exchange, key = self._default.exchange, self._default.routing_key
        if route is not None:
            exchange, key = route.exchange, route.routing_key
        if exchange:
            what = f"exchange {exchange!r} has no queue bound with routing key {key!r}"
            remedy = f"bind the queue {key!r}"
        else:
            what = f"queue {key!r} is missing"
            remedy = "create the queue"
        if route is None and (self._declares or not exchange):
            if not self._missing_at:
                self._next_look = now() + (0.0 if self._declares else RECHECK)
            self._missing_at = now()
        if self._declares and route is None:
            remedy = "fastsmtp declares it anew"
        if self._refuses_returned:
            self._count(f"{UNROUTABLE}: {what} ({reason})")
        self._log.event(
            ("returned", route, reason),
            "%s: RabbitMQ returned a publish because %s (%s). Its mail %s meanwhile: %s",
            UNROUTABLE,
            what,
            reason,
            self._returned,
            remedy,
        )

    def nacked(self, route: Route | None) -> None:
        """The broker did not store a publish; AMQP has no room for its reason."""
        target = route or self._default
        if self._refuses_nacked:
            self._count(f"nacked: RabbitMQ did not store a publish to {target}")
        self._log.event(
            ("nacked", route),
            "nacked: RabbitMQ did not store a publish to %s, and gives no reason. Usual ones: the "
            "queue is full and its overflow is reject-publish, or fewer than a majority of a "
            "quorum queue's members are up. Its mail %s",
            target,
            self._nacked,
        )

    def nacked_everywhere(self, seconds: float) -> None:
        """A new connection to each address that is up was nacked too; the next are in `seconds`."""
        self._log.event(
            "nacked everywhere",
            "nacked: new connections to all addresses of RabbitMQ that are up store nothing in %s "
            "either; the connection stays, and others are tried after %g seconds, then less often",
            self._default,
            seconds,
        )

    def moved(self, where: str, why: str, to: str) -> None:
        """Mail goes to another address, as this one stores nothing."""
        self._log.event(
            ("moved", where, why),
            "RabbitMQ at %s %s: mail goes to %s now",
            where,
            why,
            to,
        )

    def violated(self, where: str, reason: str) -> None:
        """A broker said what it may not say; its connection is closed."""
        self._log.event(
            ("violated", where),
            "violation: the connection to %s is closed, and nothing that it says later counts: %s. "
            "Is it RabbitMQ, and does nothing between change what it says?",
            where,
            reason,
        )

    def refused(self, publishes: int, reason: str) -> None:
        """The broker closed the channel over a publish, for a `reason` other than its size."""
        for _ in range(min(publishes, IN_A_ROW) if self._refuses_lost else 0):
            self._count(f"refused: RabbitMQ refused a publish to {self._default} ({reason})")
        self._log.event(
            ("refused", reason),
            "refused: RabbitMQ refused a publish to %s and closed the channel (%s). Publishes "
            "whose mail %s: %d. Look at the permissions of the user in rabbitmq-address, and at "
            "rabbitmq-exchange",
            self._default,
            reason,
            self._lost,
            publishes,
        )

    def timed_out(self, publishes: int, seconds: float) -> None:
        """So many publishes on one connection had no confirm for `seconds`."""
        for _ in range(min(publishes, IN_A_ROW) if self._refuses_lost else 0):
            self._count(f"no confirm for {seconds:g} seconds of a publish to {self._default}")

    def late(self, where: str, publishes: int, seconds: float) -> None:
        """Log that so many had no confirm in time, on a connection that goes on."""
        self._log.event(
            ("late", where),
            "late: %s did not confirm a publish to %s within %g seconds, though the connection "
            "works; publishes whose mail %s: %d. Look at the broker's load and disk; "
            "rabbitmq-timeout is how long fastsmtp waits",
            where,
            self._default,
            seconds,
            self._lost,
            publishes,
        )

    def explain(self, where: str, publishes: int, seconds: float, finding: str) -> None:
        """Log a timeout; `where` is the broker's address, `finding` what a look at it gave."""
        self._log.event(
            ("timed out", where, finding),
            "timed out: %s confirmed no publish to %s for %g seconds; publishes whose mail %s: "
            "%d. %s",
            where,
            self._default,
            seconds,
            self._lost,
            publishes,
            finding,
        )

    def is_look_due(self) -> bool:
        """Mail finds no queue, and it is time to look for it: the caller does."""
        if not self._missing_at:
            return False
        time = now()
        if time - self._missing_at > PATIENCE:
            self._missing_at = 0.0
            return False
        if time < self._next_look:
            return False
        self._next_look = time + RECHECK
        return True

    def found(self) -> None:
        """The queue is there: what found none is past."""
        if self._missing_at:
            self._missing_at = 0.0
            how = ", declared anew" if self._declares else ""
            log.info(
                "RabbitMQ has the queue %r%s: mail goes there again", self._default.routing_key, how
            )
            failures = self._metrics.failures
            others = [failure for failure in failures if not failure[1].startswith(UNROUTABLE)]
            failures.clear()
            failures.extend(others)

    def close(self) -> None:
        """Write what was counted and not logged."""
        self._log.close()

    def _count(self, reason: str) -> None:
        self._metrics.failures.append((now(), reason))


def _meanwhile(is_spilled: bool, status: str) -> str:
    """What becomes of mail that is not stored; `status` is an enhanced status code."""
    return "goes into rabbitmq-spill" if is_spilled else f"is answered 451 {status}"
