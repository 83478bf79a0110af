"""The embedded queue: accepted mail goes into a SQLite file (`store`), no broker needed.

Keeps the contract `base.Sink`: 250 may be said only after the commit (`committer`). Several
processes may share one file: their commits take turns. A file that is damaged is set aside, and
recovered into the one that takes its place (`repair`).
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from fastsmtp import replies
from fastsmtp.availability import Availability
from fastsmtp.payload import Outgoing
from fastsmtp.sinks.base import Settle
from fastsmtp.sinks.committer import Committer
from fastsmtp.sinks.queue_counters import QueueCounters
from fastsmtp.sinks.recovery import open_store
from fastsmtp.sinks.repair import Repair
from fastsmtp.sinks.store import Store


class Embedded:
    """A sink into the file `path`, which with its WAL takes at most `maxsize` octets of disk."""

    def __init__(
        self, path: str, maxsize: int, availability: Availability, counters: QueueCounters
    ) -> None:
        self._path = path
        self._availability = availability
        self._max_body = 0  # octets
        make = partial(Store, path, maxsize, create=True)
        self._repair = Repair(path, make)
        self._committer = Committer(
            partial(open_store, path, make, self._repair.tell),
            maxsize,
            str(self),
            counters.commit_seconds,
            self._on_room,
            counters.failed,
            self._repair.tell,
        )

    def __str__(self) -> str:
        return f"the queue file {self._path}"

    async def start(self) -> None:
        """Open the file, or create it with its folder. Raises OSError or ValueError."""
        self._loop = asyncio.get_running_loop()
        try:
            self._max_body = await self._committer.start()
        except OSError as error:
            raise OSError(f"queue-file: {error}") from error
        except ValueError as error:
            raise ValueError(f"queue-maxsize: {error}") from error
        self._availability.limit_body(self._max_body)
        self._repair.start()

    def put(self, message: Sequence[Outgoing], settle: Settle) -> None:
        """See `base.Sink.put`."""
        if any(row.size > self._max_body for row in message):
            self._loop.call_soon(settle, [replies.TOO_LARGE] * len(message))
        else:
            self._committer.put(message, settle)

    async def close(self, grace: float = 0.0) -> None:
        """See `base.Sink.close`."""
        await self._committer.close()
        await asyncio.to_thread(self._repair.close)

    def _on_room(self, has_room: bool) -> None:
        """Refuse mail while there is no room, unless it is refused for another reason."""
        if has_room and self._availability.refusal is replies.NO_SPACE:
            self._availability.refusal = None
        elif not has_room:
            self._availability.refusal = replies.NO_SPACE
