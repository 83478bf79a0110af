"""A message that the embedded queue can never hold, or not now, beside small ones that it can."""

import time

from tests.hostile.arena import Arena, Attack, counted, outcome
from tests.hostile.expansion import TEXT, lines
from tests.support.resident import MB
from tests.support.wire import Reply


def too_large(arena: Arena, size: int, recipients: int, fill: int = 0) -> str:
    """The message comes again and again for `seconds`; `fill` bytes are in the queue before."""
    for _ in range(fill // (4 * MB)):
        assert arena.client().mail(lines(TEXT, 4 * MB)).code == 250
    content = lines(TEXT, size)
    heard: list[str] = []

    def message() -> Reply:
        client = arena.client("127.0.3.1")
        to = [f"r{n}@example.org" for n in range(recipients)]
        for line in ("MAIL FROM:<a@example.com>", *(f"RCPT TO:<{each}>" for each in to)):
            if (reply := client.command(line)).code != 250:
                return reply
        return client.data(content)

    end = time.monotonic() + arena.seconds
    while time.monotonic() < end:
        heard.append(outcome(message))
        time.sleep(0.5)  # the rate of the attack
    full = sum("mail gets 452" in line for line in arena.daemon.log.splitlines())
    return f"the sender: {counted(heard)}; the log said {full} times that the queue is full"


ATTACKS = [
    Attack(
        "3: 7 MB to 4 recipients, queue of 20 MB",
        lambda arena: too_large(arena, 7 * MB, 4),
        "433 of 483 small mails refused, the log says full",
        settings={"queue_maxsize": "20MB"},
    ),
    Attack(
        "3: 7 MB, queue of 24 MB with 12 MB in it",
        lambda arena: too_large(arena, 7 * MB, 1, 12 * MB),
        settings={"queue_maxsize": "24MB"},
    ),
]
