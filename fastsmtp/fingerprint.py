"""The fingerprint of a recipient's message: sent again by the same client, it has the same one.

Takes who the client is, the envelope and the content as it was received, so before headers are
lifted or a Received field is added. Gives the SHA-256 in hex over these parts in this order, each
behind its length in bytes as a number of 8 bytes, big endian: the word "user" and the name after
AUTH, or else the word "address" and the client's address; the sender in MAIL FROM; the content; the
recipient in RCPT TO. Nothing else counts: no port, no HELO, no TLS, no other parameter of MAIL and
RCPT, no other recipient.
"""

from hashlib import sha256

from fastsmtp.envelope import Envelope, Recipient
from fastsmtp.peer import Peer


class Fingerprints:
    """The fingerprints of one message; what its recipients share is hashed once."""

    __slots__ = ("_shared",)

    def __init__(self, envelope: Envelope, peer: Peer, size: int) -> None:
        """`size` is the content's, in bytes; the content itself is given to `add`."""
        kind, name = ("user", peer.user) if peer.user else ("address", peer.remote_ip)
        self._shared = sha256(_part(kind) + _part(name) + _part(envelope.sender) + _length(size))

    def add(self, content: bytes | bytearray, start: int, stop: int) -> None:
        """Take the next bytes of the content."""
        self._shared.update(memoryview(content)[start:stop])

    def of(self, recipient: Recipient) -> str:
        """The fingerprint for `recipient`, once the whole content was added."""
        own = self._shared.copy()
        own.update(_part(recipient.mailbox))
        return own.hexdigest()


def _part(text: str) -> bytes:
    octets = text.encode()
    return _length(len(octets)) + octets


def _length(size: int) -> bytes:
    return size.to_bytes(8, "big")
