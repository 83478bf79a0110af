"""The one outlet of refusals: every 4yz and 5yz reply that a client is given, as one event.

Whoever decides on the reply tells it here, once: the session its own replies, the intake those of
messages, the authenticator those of credentials, a connection those given before its session.
Readers (the log, the received-log) get each event at once; this module keeps none.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fastsmtp.envelope import Envelope
from fastsmtp.peer import Peer
from fastsmtp.replies import Reply


@dataclass(slots=True)
class Refusal:
    """One client was refused (5yz) or deferred (4yz)."""

    reply: Reply
    peer: Peer
    envelope: Envelope | None = None  # of the open transaction, as far as it has come
    recipient: str | None = None  # of the RCPT that was refused, as the client wrote it
    size: int | None = None  # bytes of content; None unless a message came to its end
    tried: str | None = None  # the name that AUTH gave, where it is to be logged


class Refusals:
    """Passes each event on to the readers; one object per worker."""

    __slots__ = ("_readers",)

    def __init__(self, readers: Iterable[Callable[[Refusal], None]] = ()) -> None:
        self._readers = tuple(readers)

    def tell(self, refusal: Refusal) -> None:
        """Report one refusal."""
        for read in self._readers:
            read(refusal)
