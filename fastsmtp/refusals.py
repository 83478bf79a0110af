"""The one outlet of refusals: every 4yz and 5yz reply that a client is given, as one event.

Whoever decides on the reply tells it here, once: the session its own replies, the intake those of
messages, the authenticator those of credentials, a connection those given before its session.
Readers (the log, the received-log) get each event at once; this module keeps none.
"""

from collections.abc import Callable, Iterable

from fastsmtp.envelope import Envelope
from fastsmtp.peer import Peer
from fastsmtp.replies import Reply


class Refusal:
    """One client was refused (5yz) or deferred (4yz)."""

    __slots__ = ("envelope", "peer", "recipient", "reply", "size")

    def __init__(
        self,
        reply: Reply,
        peer: Peer,
        envelope: Envelope | None = None,
        recipient: str | None = None,
        size: int | None = None,
    ) -> None:
        self.reply = reply
        self.peer = peer
        self.envelope = envelope  # of the open transaction, as far as it has come
        self.recipient = recipient  # of the RCPT that was refused, as the client wrote it
        self.size = size  # bytes of content; None unless a message came to its end


class Refusals:
    """Passes each event on to the readers; one object per worker."""

    __slots__ = ("_readers",)

    def __init__(self, readers: Iterable[Callable[[Refusal], None]] = ()) -> None:
        self._readers = tuple(readers)

    def tell(
        self,
        reply: Reply,
        peer: Peer,
        envelope: Envelope | None = None,
        recipient: str | None = None,
        size: int | None = None,
    ) -> None:
        """Report one refusal; the arguments are those of `Refusal`."""
        if self._readers:
            refusal = Refusal(reply, peer, envelope, recipient, size)
            for read in self._readers:
                read(refusal)
