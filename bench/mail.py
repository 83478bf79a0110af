"""The mail that the servers get, and the judgement of what became of it.

A content tells its own size, so that whatever comes out can be compared with what went in.
"""

import json
import re
from functools import cache
from typing import Any

SENDER = "sender@example.com"

LINE = b"x" * 62


def recipients(count: int) -> list[str]:
    """Addresses, all different."""
    return [f"rcpt{number}@example.org" for number in range(count)]


@cache
def content(size: int) -> bytes:
    """A message of `size` octets, lines of 66 octets, the last one shorter."""
    head = (
        b"From: <sender@example.com>\r\nTo: <rcpt0@example.org>\r\n"
        b"Subject: %d octets of mail\r\nMessage-Id: <1@example.com>\r\n\r\n" % size
    )
    lines, last = divmod(size - len(head), 66)
    if last == 1:  # no room for a line's end
        lines, last = lines - 1, 67
    body = b"".join(b"%02d%s\r\n" % (number % 100, LINE) for number in range(lines))
    made = head + body + (b"x" * (last - 2) + b"\r\n" if last else b"")
    assert len(made) == size, size
    return made


Copy = tuple[str, int]
"""One recipient's message: who, and the octets of its content."""


def judge(body: bytes) -> Copy:
    """The JSON of one message, compared byte for byte with what was sent: which copy it is."""
    message: dict[str, Any] = json.loads(body)
    assert message["envelope"] == SENDER, message["envelope"]
    assert re.fullmatch(r"rcpt\d+@example\.org", message["recipient"]), message["recipient"]
    mime = message["mime"].encode()
    size = re.search(rb"Subject: (\d+) octets", mime)
    assert size, mime[:2000]
    assert mime == content(int(size[1])), mime[:2000]
    return message["recipient"], len(mime)
