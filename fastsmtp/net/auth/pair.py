"""Pairs of a user and a password that the settings hold: smtp-username and smtp-password.

`Pairs` keeps digests, so that all comparisons are of one length, and compares with every pair, so
that the time says nothing of whether a user exists.
"""

from collections.abc import Iterable
from hmac import compare_digest
from typing import Self

from fastsmtp.needs import Problem
from fastsmtp.net.auth.base import Backend
from fastsmtp.net.auth.digest import Digests
from fastsmtp.settings import Settings


class Pairs:
    """What back ends that know pairs have in common; they are never down."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        """`pairs` of user and password."""
        self._digests = Digests()
        self._known = [self._digests.of(user, password.encode()) for user, password in pairs]

    async def check(self, user: str, password: bytes) -> bool:
        """Whether they are one of the pairs."""
        given = self._digests.of(user, password)
        return sum(compare_digest(given, known) for known in self._known) > 0


class Pair(Pairs, Backend):
    """The one pair of smtp-username and smtp-password."""

    key = "smtp-username"

    @classmethod
    def is_configured(cls, settings: Settings) -> bool:
        """See `Backend.is_configured`."""
        return bool(settings.smtp_username)

    @classmethod
    def errors(cls, settings: Settings) -> Iterable[Problem]:
        """One half of the pair is missing."""
        keys = "smtp-username", "smtp-password"
        if settings.smtp_username and not settings.smtp_password:
            yield keys, "needs smtp-password"
        if settings.smtp_password and not settings.smtp_username:
            yield keys[::-1], "needs smtp-username"

    @classmethod
    def make(cls, settings: Settings) -> Self:
        """See `Backend.make`."""
        return cls([(settings.smtp_username, settings.smtp_password)])
