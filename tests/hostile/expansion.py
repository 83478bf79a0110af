"""Content whose JSON text is much longer than it is, or turns out late to be no text."""

from tests.hostile.arena import Arena, Attack, counted, outcome
from tests.support.wire import Reply

NUL = b"\0" * 998 + b"\r\n"
CONTROL = b"\x01" * 998 + b"\r\n"
TEXT = b"0123456789abcdef" * 62 + b"012345\r\n"


def lines(line: bytes, size: int) -> bytes:
    """About `size` bytes of content."""
    return b"Subject: x\r\n\r\n" + line * (size // len(line))


def at_once(arena: Arena, count: int, content: bytes, bdat: bool = False) -> str:
    """So many clients send the content; the broker's trouble begins when all have begun."""
    clients = [arena.client(f"127.0.3.{number + 1}") for number in range(count)]

    def begin(number: int) -> Reply:
        client = clients[number]
        client.envelope("a@example.com", ["b@example.org"])
        return client.command("DATA")

    if not bdat:
        started = arena.crowd(count, begin)
        if set(started.split()) != {f"{count}x354"}:
            return f"DATA {started}"
    arena.trouble()

    def one(number: int) -> Reply:
        client = clients[number]
        if bdat:
            client.envelope("a@example.com", ["b@example.org"])
            return client.bdat(content)
        client.send(content + b".\r\n")
        return client.reply()

    return arena.crowd(count, one)


def many_small(arena: Arena, connections: int, content: bytes) -> str:
    """Each client's content is there but for its end; then all of them end at once."""
    clients = [
        arena.client(f"127.0.{3 + number // 200}.{number % 200 + 1}")
        for number in range(arena.scaled(connections))
    ]
    began = []
    for client in clients:
        client.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
        if [reply.code for reply in client.replies(3)] == [250, 250, 354]:
            client.send(content)
            began.append(client)
    arena.trouble()
    for client in began:
        client.send(b".\r\n")
    return f"{len(began)} began: " + counted([outcome(client.reply) for client in began])


ATTACKS = [
    Attack(
        "1c: 12 x 20 MB of NULs",
        lambda arena: at_once(arena, 12, lines(NUL, 20 * arena.unit)),
        "991 MB",
        broker="well",
    ),
    Attack(
        "1c: 12 x 20 MB of NULs, broker stopped",
        lambda arena: at_once(arena, 12, lines(NUL, 20 * arena.unit)),
        "991 MB",
        broker="stopped",
        others=0,
    ),
    Attack(
        "1c: 12 x 20 MB of NULs by BDAT, embedded",
        lambda arena: at_once(arena, 12, lines(NUL, 20 * arena.unit), bdat=True),
        "991 MB",
    ),
    Attack(
        "1c: 4 x 59 MB of controls, embedded",
        lambda arena: at_once(arena, 4, lines(CONTROL, 59 * arena.unit)),
    ),
    Attack(
        "1c: 6 x 59 MB of NULs (base64)",
        lambda arena: at_once(arena, 6, lines(NUL, 59 * arena.unit)),
        broker="well",
    ),
    Attack(
        "1c: 6 x 59 MB, the last byte is no UTF-8",
        lambda arena: at_once(arena, 6, lines(TEXT, 59 * arena.unit) + b"\xff\r\n"),
        broker="well",
    ),
    Attack(
        "1c: 900 x 250 KB of NULs, broker stopped",
        lambda arena: many_small(arena, 900, lines(NUL, 250 * 1024)),
        broker="stopped",
        others=0,
    ),
    Attack(
        "1c: 59 MB of header without an end, 4 at once",
        lambda arena: at_once(arena, 4, b"X-A: b\r\n" * (59 * arena.unit // 8)),
        broker="well",
    ),
]
