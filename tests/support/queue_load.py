"""A process that puts mail into an embedded queue: `python -m tests.support.queue_load`.

Arguments: file, messages to put, messages in flight, octets of a tail, recipients of a message (1).
The recipients share the tail; behind the first one, whose row has the message's id, rows have the
id and their number. Each answer is one write to standard output: "ID stored" or "ID 451"; each row
holds "token-ID-". Ends when all are answered.
"""

import asyncio
import os
import sys

from fastsmtp._tail import Tail
from fastsmtp.availability import Availability
from fastsmtp.payload import Outgoing
from fastsmtp.sinks.base import Outcomes, Settle
from fastsmtp.sinks.embedded import Embedded
from fastsmtp.sinks.queue_counters import QueueCounters


async def main(path: str, messages: int, in_flight: int, octets: int, recipients: int = 1) -> None:
    sink = Embedded(path, 1 << 30, Availability(1 << 30), QueueCounters())
    await sink.start()
    finished = asyncio.Event()
    sent = answered = 0

    def put() -> None:
        nonlocal sent
        sent += 1
        id = f"{os.getpid():08}X{sent:08}"
        ids = [id, *(f"{id}R{n}" for n in range(1, recipients))]
        tail = Tail.of(b"x" * octets)
        sink.put(
            [Outgoing(one, None, "", b"token-%b-" % one.encode(), tail) for one in ids], answer(id)
        )

    def answer(id: str) -> Settle:
        def settle(outcomes: Outcomes) -> None:
            nonlocal answered
            (reply,) = set(outcomes)
            os.write(1, f"{id} {reply.code if reply else 'stored'}\n".encode())
            answered += 1
            if sent < messages:
                put()
            elif answered == sent:
                finished.set()

        return settle

    for _ in range(min(in_flight, messages)):
        put()
    await finished.wait()
    await sink.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
