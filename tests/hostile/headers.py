"""Little content that makes much text: X-MQ-DSN-* headers stand in every recipient's message."""

from tests.hostile.arena import Arena, Attack
from tests.support.wire import Reply

KB = 1024


def dsn(size: int, filler: bytes = b"x") -> bytes:
    """A mail whose X-MQ-DSN-* headers have `size` bytes."""
    names = (b"Envid", b"Orcpt", b"Envelope", b"Mta", b"Notify")
    each = size // len(names)
    # Lines of a few hundred characters: long ones would be no header.
    value = b"\r\n ".join([filler * 500] * (each // 503))
    return b"".join(b"X-MQ-DSN-%b: %b\r\n" % (name, value) for name in names) + b"\r\nHello\r\n"


def many_recipients(arena: Arena, messages: int, content: bytes) -> str:
    """So many messages at once, each to as many recipients as there may be."""
    recipients = arena.scaled(1000)

    def one(number: int) -> Reply:
        client = arena.client(f"127.0.3.{number + 1}")
        lines = (f"RCPT TO:<r{n}@example.org>\r\n" for n in range(recipients))
        client.send(b"MAIL FROM:<a@example.com>\r\n" + "".join(lines).encode())
        refused = [reply for reply in client.replies(recipients + 1) if reply.code != 250]
        return refused[0] if refused else client.data(content)

    return arena.crowd(messages, one)


def shared(arena: Arena) -> str:
    """Controls in headers that all recipients share: six-fold, once."""
    value = b"\r\n ".join([b"\x01" * 500] * 490)
    return many_recipients(arena, 3, b"X-MQ-Tag: %b\r\n\r\nHello\r\n" % value)


TEXT = dsn(250 * KB)
CONTROLS = dsn(250 * KB, b"\x01")

ATTACKS = [
    Attack(
        "1a: X-MQ-DSN-* of 250 KB of controls, 1,000 recipients",
        lambda arena: many_recipients(arena, 1, CONTROLS),
        "1.6 GB, the loop kept for 1.8 s",
        broker="well",
    ),
    Attack(
        "1a: three of them",
        lambda arena: many_recipients(arena, 3, CONTROLS),
        "4.6 GB",
        broker="well",
    ),
    Attack(
        "1a: X-MQ-DSN-* of 250 KB of text, 3 x 1,000 recipients",
        lambda arena: many_recipients(arena, 3, TEXT),
        broker="well",
    ),
    Attack("1a: the same, embedded", lambda arena: many_recipients(arena, 3, TEXT)),
    Attack(
        "1a: X-MQ-Tag of 250 KB of controls, 3 x 1,000 recipients",
        shared,
        broker="well",
        holds=True,
    ),
]
