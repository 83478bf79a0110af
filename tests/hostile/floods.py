"""More large mail at once than memory holds, whatever becomes of the broker."""

import base64
import random

from tests.hostile.arena import Arena, Attack
from tests.hostile.envelopes import long_envelopes
from tests.hostile.expansion import TEXT, at_once, lines
from tests.hostile.headers import many_recipients
from tests.support.resident import MB


def noise(size: int) -> bytes:
    """Text that gzip can make a quarter smaller and no more."""
    text = base64.encodebytes(random.Random(1).randbytes(MB // 2)).replace(b"\n", b"\r\n")
    return b"Subject: x\r\n\r\n" + (text * (size // len(text) + 1))[:size] + b"\r\n"


def flood(arena: Arena) -> str:
    return at_once(arena, 50, lines(TEXT, 55 * arena.unit))


def after_envelopes(arena: Arena) -> str:
    """Many small pieces of memory are taken and given back, then large ones are wanted."""
    heard = long_envelopes(arena, connections=12)
    arena.hang_up()
    return f"{heard}; {flood(arena)}"


GZIP = {"rabbitmq_encoding": "gzip"}

ATTACKS = [
    Attack("1d: 50 x 55 MB", flood, "414 to 470 MB", broker="well"),
    Attack("1d: 50 x 55 MB, broker stopped", flood, "414 to 470 MB", broker="stopped", others=0),
    Attack("1d: 50 x 55 MB, broker blocked", flood, "414 to 470 MB", broker="blocked", others=0),
    Attack("1d: 50 x 55 MB, broker gone", flood, "414 to 470 MB", broker="gone", others=0),
    Attack("1d: 50 x 55 MB, embedded", flood, "529 MB"),
    Attack("1d: 12 long envelopes, gone again, then 50 x 55 MB", after_envelopes, broker="well"),
    Attack(
        "1d: 50 x 55 MB, gzip",
        lambda arena: at_once(arena, 50, noise(55 * arena.unit)),
        "414 to 470 MB",
        broker="well",
        settings=GZIP,
    ),
    Attack(
        "1d: 1 MB to 1,000 recipients, gzip",
        lambda arena: many_recipients(arena, 1, noise(MB + 100_000)),
        broker="well",
        settings=GZIP,
    ),
    Attack(
        "1d: 1 MB to 1,000 recipients, embedded",
        lambda arena: many_recipients(arena, 1, lines(TEXT, MB - 2000)),
    ),
]
