"""What may come in now: the one place where pressure is decided.

Sinks write it (what they can take), sessions read it (at the greeting, MAIL, the content).
"""

import sys

from fastsmtp.replies import Reply

BASE64_SLACK = 64 * 1024
"""Octets of the largest body that are kept for everything in it but the content."""


class Gate:
    """Size limit and refusals of one worker."""

    __slots__ = ("_maxsize", "body_limit", "greeting", "maxsize", "refusal")

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize  # octets, smtp-maxsize
        self.maxsize = maxsize  # octets of content that a session may accept; SIZE of EHLO
        self.body_limit = sys.maxsize  # octets of a JSON body that the sink takes
        self.refusal: Reply | None = None  # the answer to MAIL; None: mail may come in
        self.greeting: Reply | None = None  # said instead of 220, then the connection closes

    def limit_body(self, octets: int) -> None:
        """The sink takes JSON bodies of at most `octets`: content must fit as base64 too."""
        self.body_limit = octets
        self.maxsize = max(0, min(self._maxsize, (octets - BASE64_SLACK) * 3 // 4))
