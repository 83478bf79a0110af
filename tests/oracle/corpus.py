"""Contents worth sending, the same in every run.

Content here is what a client holds, before stuffing. Whatever does not end in CRLF can only go by
BDAT (`content.fits_data`).
"""

import importlib.util
import random
from collections.abc import Iterator
from pathlib import Path

HEADER = b"From: a@example.org\r\nTo: b@example.net\r\nSubject: test\r\n"
MEGABYTE = 1024 * 1024

DOTS = [
    b".",
    b"..",
    b".\r\n",
    b"..\r\n",
    b"...\r\n",
    b".a\r\n",
    b"..a\r\n",
    b"\r\n.\r\n",
    b"\r\n..\r\n",
    b"\r\n.",
    b"a\r\n.",
    b"a\r\n.\r\nb\r\n",
    b"a\r\n.b\r\n..c\r\n...d\r\n",
    b"a.\r\nb\r\n",
    b".\r\n.\r\n.\r\n",
    b"\r\n.\r\n.\r\n",
    b"MAIL FROM:<x@example.org>\r\n.\r\nQUIT\r\n",
]
BARE = [
    b"\n",
    b"\r",
    b"\n\n",
    b"\r\r",
    b"\n\r",
    b"\r\r\n",
    b"\n\r\n",
    b"\r\n\n",
    b"\r\n\r",
    b"a\nb\r\n",
    b"a\rb\r\n",
    b"a\n.\nb\r\n",
    b"a\n.\r\nb\r\n",
    b"a\r.\r\nb\r\n",
    b"a\r\n.\nb\r\n",
    b"a\r\n.\rb\r\n",
    b"a\r.\rb\r\n",
    b".\nb\r\n",
    b".\rb\r\n",
    b".\r\r\n",
    b"a\r\n.\r\r\nb\r\n",
    b"a\r\r\n.\r\r\nb\r\n",
    b"\r\r\n.\n\r\n",
    b"Subject: a\nX-MQ-Pool: b\r\n\r\n",
    b"Subject: a\rX-MQ-Pool: b\r\n\r\n",
]
HEADERS = [
    b"X-MQ-Pool: p\r\n\r\nbody\r\n",
    b"X-MQ-Pool: p",
    b"X-MQ-Pool: p\r\n",
    b"x-mq-pool \t:  p \t\r\n\r\n",
    b"Subject: a\r\nX-MQ-Tag: one\r\n two\r\n\tthree\r\nTo: b\r\n\r\nX-MQ-Tag: body\r\n",
    b" X-MQ-Pool: leading space\r\n\r\n",
    b"no field\r\nX-MQ-Pool: p\r\n\r\n",
    b"Subject: x\r\n\r\n",
    b"Subject: x\r\n \r\nX-MQ-Pool: p\r\n\r\nbody\r\n",
    b"X-MQ-Tag: 1\r\nX-MQ-Tag: 2\r\nX-MQ-IP: 192.0.2.1\r\nX-MQ-IP: 192.0.2.2\r\n\r\n",
    b"X-MQ-Envelope: <new@example.org>\r\n\r\n",
    b"X-MQ-Envelope: new@example.org\r\nX-MQ-Envelope: not valid\r\n\r\n",
    b"X-MQ-Envelope:\r\n\r\n",
    b"X-MQ-Envelope: <>\r\n\r\n",
    b"X-MQ-Delayed: 2026-02-30 00:00:00\r\nX-MQ-MaxDeliverTime: 2028-02-29 23:59:59\r\n\r\n",
    b"X-MQ-MaxAttempts: 9223372036854775807\r\nX-MQ-Priority: 9223372036854775808\r\n\r\n",
    b"X-MQ-Retries: 300, 600 ,3600\r\n\r\n",
    b"X-MQ-Retries: 300,,3600\r\n\r\n",
    b"X-MQ-InlineCSS: YES\r\nX-MQ-KeepMime: maybe\r\n\r\n",
    b"X-MQ-Results-Queue: r\r\nX-MQ-DSN-Queue: d\r\nX-MQ-Other-Queue: o\r\n\r\n",
    b"X-MQ-Smarthost-Name: h\r\nX-MQ-Smarthost-Port: 25\r\nX-MQ-Smarthost-Password: p\r\n\r\n",
    b"X-MQ-DSN-Notify: never\r\nX-MQ-DSN-Ret: hdrs\r\nX-MQ-DSN-EnvID: e\r\n\r\n",
    b'X-MQ-Custom: 1\r\nX-MQ-CUSTOM: 2\r\nX-MQ-quote"d\\: 3\r\n\r\n',
    b"X-MQ-: empty\r\nX-MQ-Mime: no\r\nX-MQ-Message-ID: no\r\nX-MQ-Tags: no\r\n\r\n",
    b"X-MQ-Custom: caf\xc3\xa9\r\nX-MQ-Latin: caf\xe9\r\n\r\nbody\r\n",
    b"X-MQ-Custom: a\0b\x01\x7f\r\n\r\n",
    b"X-MQ-Pool:\r\n p\r\n\r\n",
    b"X-MQ-Pool: p\r\n \r\n \r\n\r\n",
    b"X-MQ-Pool: p\r\n.\r\nX-MQ-Tag: t\r\n\r\n",
]
TEXT = [
    b"",
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b"\0\0\0\r\n",
    b"a",
    b"a\r\n",
    b"\xef\xbb\xbfSubject: bom\r\n",
    "Subject: \u00e9\u20ac\U0001f600\u2028\r\n".encode(),
    b"\xff\xfe\r\n",
    b"\xc3\r\n",
    b"\xc3\r\n\xa9\r\n",
    b"\xed\xa0\x80\r\n",
    b"\xf4\x90\x80\x80\r\n",
    b"\xc0\xaf\r\n",
    b'"\\/\b\f\t\x1b\x7f\x85\r\n',
]


def contents() -> Iterator[tuple[str, bytes]]:
    """(name, content): all of the lists above, and what is too long to write down."""
    for kind in ("DOTS", "BARE", "HEADERS", "TEXT"):
        for number, content in enumerate(globals()[kind]):
            yield f"{kind.lower()}-{number}", content
            yield f"{kind.lower()}-{number}-in-body", HEADER + b"\r\n" + content + b"\r\n"
    yield "header-only", HEADER
    yield "header-and-empty-line", HEADER + b"\r\n"
    yield "body-only", b"\r\nbody\r\n"
    for octet in range(256):
        yield f"octet-{octet:02x}", HEADER + b"\r\nx" + bytes([octet]) + b"y\r\n"
    yield "all-octets", HEADER + b"\r\n" + bytes(range(256)) * 8 + b"\r\n"
    yield "all-octets-first", bytes(range(255, -1, -1)) + b"\r\n"
    yield "long-line", HEADER + b"\r\n" + b"x" * MEGABYTE + b"\r\n"
    yield "long-header", b"Subject: " + b"x" * MEGABYTE + b"\r\n\r\nbody\r\n"
    yield "long-line-of-dots", b"." * MEGABYTE + b"\r\n"
    yield "long-nuls", HEADER + b"\r\n" + b"\0" * MEGABYTE + b"\r\n"
    yield "many-dot-lines", HEADER + b"\r\n" + b".\r\n" * 20_000
    yield "many-stuffed-lines", HEADER + b"\r\n" + b".x\r\n" * 20_000
    yield "many-bare-lf", HEADER + b"\r\n" + b"\n" * 50_000 + b"\r\n"
    yield "many-bare-cr", HEADER + b"\r\n" + b"\r" * 50_000 + b"\r\n"
    yield "name-998", b"X-MQ-Tag: t\r\n" + b"n" * 998 + b": v\r\nX-MQ-Tag: u\r\n\r\n"
    yield "name-999", b"X-MQ-Tag: t\r\n" + b"n" * 999 + b": v\r\nX-MQ-Tag: u\r\n\r\n"
    yield "lifted-1000", b"".join(b"X-MQ-Tag: %d\r\n" % n for n in range(1000)) + b"\r\n"
    yield "lifted-1001", b"".join(b"X-MQ-Tag: %d\r\n" % n for n in range(1001)) + b"\r\n"
    for extra in (0, 1):
        room = 256 * 1024 - len(b"X-MQ-Tag: \r\n") + extra
        yield f"lifted-256k-and-{extra}", b"X-MQ-Tag: " + b"t" * room + b"\r\n\r\nbody\r\n"
    yield "received-100", b"Received: x\r\n" * 100 + b"\r\nReceived: body\r\n"
    yield "received-101", b"Received: x\r\n" * 100 + b"received : y\r\n\r\n"
    dice = random.Random(5321)
    for number in range(60):
        words = dice.choices([b"\r", b"\n", b"\r\n", b".", b" ", b":", b"x", b"X-MQ-A"], k=60)
        yield f"newline-soup-{number}", b"".join(words)
    for number in range(20):
        yield f"random-{number}", dice.randbytes(dice.randrange(1, 5000)) + b"\r\n"


def python_messages() -> list[tuple[str, bytes]]:
    """CPython's own e-mail test data, byte for byte; empty where this Python came without it."""
    found = importlib.util.find_spec("test")
    folders = found.submodule_search_locations if found else None
    paths = sorted(Path(next(iter(folders or [""])), "test_email", "data").glob("*"))
    return [(path.name, path.read_bytes()) for path in paths if path.is_file()]


NO_PYTHON_MESSAGES = "this Python came without its test package (test.test_email's data)"
