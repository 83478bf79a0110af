"""What a session waits for: one question at a time, put to whoever can answer it.

A question is a value. The session makes it and takes one `Reply` as its answer; it never knows who
answers. `net/answerers.py` is the table of who does.
"""

from collections.abc import Callable

from fastsmtp.envelope import Envelope
from fastsmtp.memory_budget import Claim
from fastsmtp.peer import Peer


class Question:
    """What every question has in common."""

    __slots__ = ("peer",)

    command = b""
    """The command (MAIL or RCPT) that waits for the answer before it is accepted, if one does."""

    def __init__(self, peer: Peer, envelope: Envelope | None = None) -> None:
        """`envelope` is that of the open transaction, if there is one."""
        self.peer = peer


class Message(Question):
    """One message, from the beginning of its content: is it stored? 250 says so."""

    __slots__ = ("claim", "envelope", "overhead", "pieces", "size")

    def __init__(self, peer: Peer, envelope: Envelope, pieces: list[bytes]) -> None:
        self.peer = peer
        self.envelope = envelope
        self.pieces = pieces  # the content so far, in order
        self.size = 0  # bytes of it after unstuffing, before newlines are repaired
        # Of a finished message
        self.overhead = 0  # bytes that the envelope takes in memory
        self.claim: Claim | None = None  # owned by whoever has the message


class Room(Question):
    """Is there memory for a message of so many bytes? 354 says so."""

    __slots__ = ("size",)

    def __init__(self, peer: Peer, size: int) -> None:
        self.peer = peer
        self.size = size


class Introduction(Question):
    """XCLIENT tells who the client is: may that one come in? 2yz says so."""

    __slots__ = ("said",)

    def __init__(self, peer: Peer, said: dict[str, str]) -> None:
        self.peer = peer
        self.said = said  # see `xclient.parse`


class Credentials(Question):
    """User name and password of AUTH: do they belong together? 235 says so."""

    __slots__ = ("on_hang_up", "password", "user")

    def __init__(self, peer: Peer, user: str, password: bytes) -> None:
        self.peer = peer
        self.user = user
        self.password = password
        # Called when the client hangs up before the answer; owned by whoever is asked
        self.on_hang_up: Callable[[], None] | None = None
