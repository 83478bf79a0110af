"""What one large message costs beside nobody: CPU per byte, memory above the content."""

from tests.hostile.arena import Arena, Attack
from tests.hostile.expansion import TEXT, lines
from tests.support.resident import processor_seconds
from tests.support.wire import stuffed


def one_after_the_other(arena: Arena, size: int) -> str:
    """Messages of one client, as many as make 600 MB."""
    content = lines(TEXT, size)
    data = stuffed(content)
    count = max(1, 600 * arena.unit // size)
    client = arena.client()
    before = processor_seconds(arena.worker)
    for _ in range(count):
        client.envelope("a@example.com", ["b@example.org"])
        assert client.command("DATA").code == 354
        client.send(data)
        if (code := client.reply().code) != 250:
            return f"{code}"
    used = processor_seconds(arena.worker) - before
    above = arena.watch.look() - arena.watch.before - size
    return (
        f"{used / count / size * 1e9:.2f} ns of CPU per byte, {above / size:.2f} times the content "
        "in memory above it"
    )


ATTACKS = [
    Attack(
        f"4: one client, {size} MB each, {name}",
        lambda arena, size=size: one_after_the_other(arena, size * arena.unit),
        reported,
        broker=broker,
        alone=True,
    )
    for name, broker in (("RabbitMQ", "well"), ("embedded", ""))
    for size, reported in (
        (1, "0.8 to 1.1 ns per byte; to reach: 0.7"),
        (10, "1.4 to 2.7 ns per byte; to reach: 0.7, memory 1.1"),
        (59, "to reach: 0.7, memory 1.1"),
    )
]
