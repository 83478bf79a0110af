"""Plain counters of one worker: whoever does the work adds to them, whoever asks reads them.

A snapshot is plain data, fit for JSON: the supervisor asks every worker for one and adds them up.
`process/exposition.py` says under which name each is shown.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

from fastsmtp import __version__, replies
from fastsmtp._durations import Durations
from fastsmtp.availability import Availability
from fastsmtp.refusals import Refusal
from fastsmtp.replies import Reply

Snapshot = dict[str, Any]
"""By name: a number, or numbers by label, or a histogram (`Durations.snapshot`)."""

GAUGES = frozenset(
    [
        "accepting",
        "broker_failures",
        "broker_state",
        "broker_stored",
        "connections_open",
        "in_flight",
        "memory_held",
        "memory_limit",
        "trouble",
        "workers",
    ]
)
"""What is true of workers that run; all else was counted, and stays true of those that ended."""

LATEST = frozenset(["broker_stored"])
"""Times: of several workers the latest counts."""

IN_A_ROW = 3
"""Publishes that fail with nothing stored between, after which `/ready` says so."""

BROKER_STATES = ("up", "away", "blocked")


class Metrics:
    """Counts since the worker started."""

    __slots__ = (
        "authentications",
        "broker_confirmed",
        "broker_connects",
        "broker_failures",
        "broker_lost",
        "broker_nacked",
        "broker_published",
        "broker_returned",
        "broker_state",
        "commit_seconds",
        "confirm_seconds",
        "connections",
        "connections_open",
        "headers_malformed",
        "headers_reserved",
        "headers_unknown",
        "in_flight",
        "messages",
        "octets",
        "recipients",
        "rejected",
        "replies",
        "reply_seconds",
    )

    def __init__(self) -> None:
        # Clients
        self.connections = 0  # accepted by the listener
        self.connections_open = 0
        self.authentications = dict.fromkeys(("accepted", "refused", "unavailable"), 0)
        self.replies = dict.fromkeys(replies.KINDS, 0)  # by `Reply.kind`

        # Messages that came to their end
        self.messages = 0  # answered with 250
        self.recipients = 0  # of those messages
        self.octets = 0  # content of those messages
        self.rejected: dict[str, int] = {}  # answered otherwise, by `Reply.kind`
        self.in_flight = 0  # not answered yet
        self.reply_seconds = Durations()  # from the end of the content to the answer

        # x-mq-* headers
        self.headers_unknown = 0  # of no known name, lifted as strings
        self.headers_malformed = 0  # the value is not of the header's type, left in the MIME
        self.headers_reserved = 0  # the name is the server's, left in the MIME

        # RabbitMQ, in publishes: one a recipient
        self.broker_state = ""  # one of BROKER_STATES; "": there is none to publish to
        self.broker_connects = 0  # connections that came up
        self.broker_published = 0  # began to leave
        self.broker_confirmed = 0  # of those, acked and not returned
        self.broker_returned = 0  # unroutable
        self.broker_nacked = 0
        self.broker_lost = 0  # no answer before the channel ended
        # The last that were returned, nacked or not confirmed in time: when (monotonic), and why
        self.broker_failures: deque[tuple[float, str]] = deque(maxlen=IN_A_ROW)
        self.confirm_seconds = Durations()  # from the write to the confirm

        # The embedded queue
        self.commit_seconds = Durations()  # one transaction, until it is on the disk

    def say(self, reply: Reply) -> None:
        """`reply` is given outside a session."""
        self.replies[reply.kind] = self.replies.get(reply.kind, 0) + 1

    def refused(self, refusal: Refusal) -> None:
        """Count it where a message came to its end; `replies` are counted as they are said."""
        if refusal.size is not None:
            kind = refusal.reply.kind
            self.rejected[kind] = self.rejected.get(kind, 0) + 1

    def snapshot(self, availability: Availability) -> Snapshot:
        """Everything, as it is now."""
        found = {name: _plain(getattr(self, name)) for name in self.__slots__}
        found["broker_state"] = {state: int(state == self.broker_state) for state in BROKER_STATES}
        reason = availability.reason
        found["accepting"] = int(not reason)
        found["trouble"] = {reason: 1} if reason else {}
        # By "time reason": a snapshot over several workers has those of all.
        found["broker_failures"] = Counter(f"{at:.6f} {why}" for at, why in self.broker_failures)
        found["broker_stored"] = self.confirm_seconds.last
        found["memory_held"] = availability.memory.held
        found["memory_limit"] = availability.memory.limit
        found["workers"] = {__version__: 1}
        found["cpu_seconds"] = time.process_time()
        return found


def _plain(value: Any) -> Any:
    return value.snapshot() if isinstance(value, Durations) else value


def total(running: Iterable[Snapshot], ended: Iterable[Snapshot] = ()) -> Snapshot:
    """The sum over workers that run, and what those that ended have counted.

    A total is a snapshot too; workers may be of other versions, and know other counters.
    """
    found: Snapshot = {}
    for snapshot in running:
        _add(found, snapshot)
    for snapshot in ended:
        _add(found, {name: value for name, value in snapshot.items() if name not in GAUGES})
    return found


def _add(found: Snapshot, more: Snapshot) -> None:
    for name, value in more.items():
        if isinstance(value, dict):
            _add(found.setdefault(name, {}), value)
        elif name in LATEST:
            found[name] = max(found.get(name, value), value)
        else:
            found[name] = found.get(name, 0) + value
