"""What back ends keep and compare instead of a user and a password."""

import hashlib
import os


class Digests:
    """Makes digests of one length under a key of its own, which nobody else knows."""

    __slots__ = ("_key",)

    def __init__(self) -> None:
        self._key = os.urandom(32)

    def of(self, user: str, password: bytes) -> bytes:
        """The digest of the two; no other split of the same bytes has it."""
        name = user.encode()
        framed = len(name).to_bytes(4) + name + password
        return hashlib.blake2b(framed, key=self._key, digest_size=32).digest()
