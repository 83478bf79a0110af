"""What may come in now: the one place where pressure is decided.

Sinks write it (what they can take), sessions read it (at the greeting, MAIL, the content). Whoever
holds octets of mail, in whatever form, says so here; over the budget no new mail comes in, and of
what is coming in the oldest alone goes on, so that some of it always comes to its end.
"""

import sys
from typing import Protocol

from fastsmtp.replies import Reply

BASE64_SLACK = 64 * 1024
"""Octets of the largest body that are kept for everything in it but the content."""


class Arriving(Protocol):
    """Content that is coming in: somebody who can be made to wait."""

    def regulate(self) -> None:
        """What `Gate.must_wait` says may have changed."""


class Gate:
    """Size limit, refusals and memory of one worker."""

    __slots__ = (
        "_arriving",
        "_enough",
        "_maxsize",
        "body_limit",
        "granted",
        "greeting",
        "is_full",
        "maxmemory",
        "maxsize",
        "refusal",
    )

    def __init__(self, maxsize: int, maxmemory: int = sys.maxsize) -> None:
        self._maxsize = maxsize  # octets, smtp-maxsize
        self.maxsize = maxsize  # octets of content that a session may accept; SIZE of EHLO
        self.body_limit = sys.maxsize  # octets of a JSON body that the sink takes
        self.refusal: Reply | None = None  # the answer to MAIL; None: mail may come in
        self.greeting: Reply | None = None  # said instead of 220, then the connection closes
        self.maxmemory = maxmemory  # octets, smtp-maxmemory
        self._enough = maxmemory - maxmemory // 8  # below it what waits goes on, all at once
        self.granted = 0  # octets of mail that are held
        self.is_full = False  # from over the budget until there is `_enough` room again
        self._arriving: dict[Arriving, None] = {}  # the oldest first

    def limit_body(self, octets: int) -> None:
        """The sink takes JSON bodies of at most `octets`: content must fit as base64 too."""
        self.body_limit = octets
        self.maxsize = max(0, min(self._maxsize, (octets - BASE64_SLACK) * 3 // 4))

    def hold(self, octets: int) -> None:
        """So many octets more are held; where negative, fewer."""
        self.granted += octets
        if self.granted > self.maxmemory:
            self._fill(True)
        elif self.is_full and self.granted <= self._enough:
            self._fill(False)

    def enter(self, arriving: Arriving) -> None:
        """Its content is coming in; who is here keeps the place."""
        self._arriving[arriving] = None

    def leave(self, arriving: Arriving) -> None:
        """Nothing more of it is to come; who is not here may say so, too."""
        goes_on = self.goes_on(arriving)
        self._arriving.pop(arriving, None)
        if goes_on and self._arriving:
            next(iter(self._arriving)).regulate()

    def goes_on(self, arriving: Arriving) -> bool:
        """It is the one that goes on while memory is full."""
        return self.is_full and arriving is next(iter(self._arriving), None)

    def must_wait(self, arriving: Arriving) -> bool:
        """No more of it may be read for now."""
        return self.is_full and arriving in self._arriving and not self.goes_on(arriving)

    def _fill(self, is_full: bool) -> None:
        if is_full != self.is_full:
            self.is_full = is_full
            for arriving in list(self._arriving):
                arriving.regulate()
