"""Pairs of a user and a password that the settings hold: smtp-username and smtp-password.

Keeps digests under a key of its own, so that all comparisons are of one length, and compares with
every pair, so that the time says nothing of whether a user exists.
"""

import hashlib
import os
from collections.abc import Iterable
from hmac import compare_digest


class Pairs:
    """A back end that is never down."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        """`pairs` of user and password."""
        self._key = os.urandom(32)
        self._known = [self._digest(user, password.encode()) for user, password in pairs]

    async def check(self, user: str, password: bytes) -> bool:
        """Whether they are one of the pairs."""
        given = self._digest(user, password)
        return sum(compare_digest(given, known) for known in self._known) > 0

    def _digest(self, user: str, password: bytes) -> bytes:
        name = user.encode()
        framed = len(name).to_bytes(4) + name + password
        return hashlib.blake2b(framed, key=self._key, digest_size=32).digest()
