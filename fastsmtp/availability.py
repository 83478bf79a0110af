"""Whether mail can be taken now, and how large: written by the sink, read by sessions.

Greeting, MAIL and the content read it, so that a client hears of trouble before it sends its mail.
"""

import sys

from fastsmtp.memory_budget import MemoryBudget
from fastsmtp.replies import Reply

BASE64_SLACK = 64 * 1024
"""Bytes of the largest body that are kept for everything in it but the content."""


class Availability:
    """Size limit, refusals and memory budget of one worker."""

    __slots__ = (
        "_maxsize",
        "body_limit",
        "greeting",
        "is_refused",
        "maxsize",
        "memory",
        "refusal",
        "trouble",
    )

    def __init__(self, maxsize: int, maxmemory: int = sys.maxsize) -> None:
        self._maxsize = maxsize  # bytes, smtp-maxsize
        self.maxsize = maxsize  # bytes of content that a session may accept; SIZE of EHLO
        self.body_limit = sys.maxsize  # bytes of a JSON body that the sink takes
        self.refusal: Reply | None = None  # the answer to MAIL; None: mail may come in
        self.greeting: Reply | None = None  # said instead of 220, then the connection closes
        self.trouble = ""  # what the sink says of its refusal to an operator, without passwords
        self.is_refused = False  # the sink's store is there, and does not let us in
        self.memory = MemoryBudget(maxmemory, maxsize)

    def limit_body(self, size: int) -> None:
        """The sink takes JSON bodies of at most `size` bytes: content must fit as base64 too."""
        self.body_limit = size
        self.maxsize = max(0, min(self._maxsize, (size - BASE64_SLACK) * 3 // 4))

    @property
    def reason(self) -> str:
        """Why no mail can be taken now, for an operator; "" where it can."""
        refusal = self.greeting or self.refusal
        if refusal is not None:
            return self.trouble or refusal.lines[0]
        return "mail takes all of smtp-maxmemory" if self.memory.is_full else ""
