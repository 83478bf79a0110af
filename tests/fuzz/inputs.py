"""Inputs for the targets: words of their languages, and seeds to begin with."""

import random
from collections.abc import Iterator

import pamqp.frame
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from tests.oracle import content, corpus, strategies

NEWLINES = [b"\r\n", b"\r\n", b"\r", b"\n", b".", b"\r\n.\r\n", b"\0", b" ", b"\t", b":", b"x"]
ENVELOPE = b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
FRAMES = [
    pamqp.frame.marshal(value, channel)
    for channel in (1, 1, 2)
    for value in (
        commands.Basic.Ack(3),
        commands.Basic.Ack(7, multiple=True),
        commands.Basic.Nack(2**40, requeue=True),
        commands.Basic.Return(312, "NO_ROUTE", "", "queue"),
        ContentHeader(body_size=3, properties=commands.Basic.Properties(message_id="id")),
        ContentBody(b"abc"),
        commands.Channel.Close(406, "PRECONDITION_FAILED", 60, 40),
        Heartbeat(),
    )
]

WORDS: dict[str, list[bytes]] = {
    "proxy": [
        b"PROXY ", b"TCP4", b"TCP6", b"UNKNOWN", b" ", b"1.2.3.4", b"::1", b"::ffff:1.2.3.4",
        b"25", b"65536", b"\r\n", b"\r", b"\n", b"\r\n\r\n\0\r\nQUIT\n", b"\x21\x11\0\x0c",
        b"\x20\0\0\0", b"\x20\0\0\x02", b"\x21\x21\0\x24", b"\x21\0\0\x08",
        b"\x01\x02\x03\x04\x05\x06\x07\x08", b"\x05\0\x02ab", b"\x20\0\x05\x01\0\0\0\0",
        b"\x03\0\x04", b"\x16\x03\x01",
    ],
    "parser": [
        b"MAIL ", b"RCPT ", b"FROM:", b"TO:", b"<", b">", b"@", b" ", b'"', b"\\", b"[", b"]",
        b":", b",", b"=", b"\xc3\xa9", b"\xe9", b"NAME=", b"ADDR=", b"IPV6:", b"::1", b"1.2.3.4",
        b"PORT=", b"25", b"PROTO=ESMTP", b"LOGIN=", b"+41", b"HELO=", b"[UNAVAILABLE]", b"DESTPORT",
        *strategies.LOCALS, *strategies.DOMAINS, *strategies.MAIL_PARAMS, *strategies.RCPT_PARAMS,
    ],
    "content": [*NEWLINES, *strategies.CONTENT_PIECES, *corpus.DOTS, *corpus.BARE],
    "session": [
        *NEWLINES, b"EHLO c\r\n", b"HELO c\r\n", b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n",
        b"DATA\r\n", b"DATA x\r\n", b"BDAT 3\r\nabc", b"BDAT 2 LAST\r\n\r\n", b"BDAT 0\r\n",
        b"BDAT 0 LAST\r\n", b"BDAT 9999 LAST\r\n", b"BDAT\r\n", b"RSET\r\n", b"NOOP\r\n",
        b"VRFY x\r\n", b"EXPN x\r\n", b"HELP\r\n", b"QUIT\r\n", b"AUTH PLAIN\r\n",
        b"STARTTLS\r\n", b"XCLIENT ADDR=1.2.3.4 LOGIN=a+40b\r\n", b"XCLIENT PORT=x\r\n",
        b"FOO\r\n", b"y" * 4097 + b"\r\n", b"z" * 2100, ENVELOPE, ENVELOPE,
        ENVELOPE + b"DATA\r\nSubject: x\r\n\r\nbody\r\n.\r\n", ENVELOPE + b"BDAT 1\r\n",
    ],
    "confirms": [
        *FRAMES, b"\x01\0\x01\0\0\0\x0d", b"\x01\0\x01\0\0\0\x0c", b"\x02\0\x01\0\0\0\x04",
        b"\x03\0\x01\0\0\0\x02", b"\x03\0\x02\0\0\0\x02", b"\x02\0\x01\0\x01\0\x01",
        b"\0\x3c\0\x50", b"\0\x3c\0\x78", b"\0\x3c\0\x32", b"\0\0\0\0\0\0\0\x09\0", b"\xce",
    ],
    "escape": [
        *NEWLINES, b'"', b"\\", b"\x7f", b"\x1f", b"x" * 127, b"y" * 76 + b"\r\n",
        "\u00e9".encode(), "\u20ac".encode(), "\U0001f600".encode(), "\u07ff\u0800\uffff".encode(),
        b"\xc0\xaf", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80",
        b"\xff", b"\x80", b"\xe2\x82", b"\xf0\x9f",
    ],
}  # fmt: skip


def seeds(target: str) -> Iterator[bytes]:
    """Whole inputs that reach far into the target."""
    if target in ("content", "escape"):
        for _, text in corpus.contents():
            if len(text) < 5000:
                yield text
    elif target == "session":
        for _, text in corpus.contents():
            if len(text) < 1000:
                yield ENVELOPE + b"".join(content.bdat(text, [3])) + b"QUIT\r\n"
                if content.fits_data(text):
                    yield ENVELOPE + b"DATA\r\n" + content.data(text) + b"QUIT\r\n"
    elif target == "parser":
        for local in strategies.LOCALS:
            yield from (b"<" + local + b"@" + domain + b">" for domain in strategies.DOMAINS)
        for word in strategies.MAIL_PARAMS + strategies.RCPT_PARAMS:
            yield b"<a@example.org> " + word
    elif target == "confirms":
        yield b"".join(FRAMES)
        yield from FRAMES
    else:
        yield b"PROXY TCP4 1.2.3.4 5.6.7.8 25 65535\r\n\x16\x03"
        yield b"PROXY TCP6 ::1 ::ffff:1.2.3.4 1 2\r\n"
        yield b"PROXY UNKNOWN x y\r\n"
        for block in (b"\x11\0\x0c", b"\x11\0\x11", b"\x21\0\x29", b"\0\0\x05", b"\x31\0\xdd"):
            size = int.from_bytes(block[1:], "big")
            body = bytes(range(size - 5)) + b"\x05\0\x02ab" if size % 12 else bytes(range(size))
            yield b"\r\n\r\n\0\r\nQUIT\n\x21" + block + body + b"\x16\x03"


def endless(target: str, dice: random.Random) -> Iterator[bytes]:
    """Words in a row, and seeds with a few octets changed."""
    known = list(seeds(target))
    while True:
        if dice.random() < 0.5:
            yield b"".join(dice.choices(WORDS[target], k=dice.randrange(1, 14)))
            continue
        data = bytearray(dice.choice(known))
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(data) + 1)
            data[at : at + dice.randrange(3)] = dice.choice(WORDS[target] + [dice.randbytes(1)])
        yield bytes(data)
