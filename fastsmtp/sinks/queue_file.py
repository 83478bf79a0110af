"""The queue file as a choice of the settings, and how much is in it, whoever writes it."""

import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from fastsmtp.availability import Availability
from fastsmtp.counters import Snapshot
from fastsmtp.needs import Use
from fastsmtp.own_files import COMPANIONS
from fastsmtp.settings import Settings
from fastsmtp.sinks import file_moves
from fastsmtp.sinks.base import Sink
from fastsmtp.sinks.choice import Choice, Verdict
from fastsmtp.sinks.embedded import Embedded
from fastsmtp.sinks.queue_counters import QueueCounters
from fastsmtp.sinks.recovery import is_queue
from fastsmtp.sinks.store import Store
from fastsmtp.sinks.store_errors import StoreDamagedError, StoreFullError

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Store)


class QueueFile(Choice[QueueCounters]):
    """Makes `embedded.Embedded`; where no other sink is chosen, this one is."""

    counters = QueueCounters

    def is_chosen(self, settings: Settings) -> bool:
        """Always: it is the last row."""
        return True

    def uses(self, settings: Settings) -> Iterable[Use]:
        """The file, and what SQLite has put beside it."""
        # A folder that somebody has named and that is not there is more likely misspelt.
        default = settings.queue_file == Settings().queue_file
        return file_uses("queue-file", settings.queue_file, makes_folder=default)

    def make(
        self, settings: Settings, availability: Availability, counters: QueueCounters, worker: int
    ) -> Sink:
        """See `Choice.make`."""
        return Embedded(settings.queue_file, settings.queue_maxsize, availability, counters)

    async def examine(self, settings: Settings) -> Verdict:
        """Open the file where it exists."""
        path = settings.queue_file
        where = f"rabbitmq-address is none: mail goes into the queue file {path}"
        return examine_file(path, settings.queue_maxsize, where)

    def snapshot(self, settings: Settings) -> Snapshot:
        """What the file holds: all workers share it, so it is asked once, not by each of them."""
        return snapshot(settings.queue_file, settings.queue_maxsize, Store, lambda _: {})


def examine_file(path: str, maxsize: int, where: str) -> Verdict:
    """Open the file where it exists; `where` says what goes into it. Blocks."""
    if not os.path.exists(path):
        return Verdict(True, [f"{where}, which will be made"], [])
    try:
        store = Store(path, maxsize)
    except StoreDamagedError as error:
        if is_queue(path):
            return Verdict(True, [where], [f"{error}: the next start sets it aside"])
        return Verdict(False, [where], [f"{error}: mail will be answered 451 4.3.0"])
    except OSError as error:
        return Verdict(False, [where], [f"{error}: mail will be answered 451 4.3.0"])
    try:
        count, room = store.count(), store.room()
    except StoreFullError as error:
        return Verdict(False, [where], [f"{error}: mail will be answered 452 4.3.1"])
    except OSError as error:
        return Verdict(False, [where], [f"{error}: mail will be answered 451 4.3.0"])
    finally:
        store.close()
    line = f"{where}: it holds {count} messages and has room for {room} bytes"
    full = [] if room > 0 else [f"{path} is full: mail will be answered 452 4.3.1"]
    return Verdict(not full, [line], full)


def file_uses(key: str, path: str, *, makes_folder: bool) -> Iterable[Use]:
    """The file of the setting `key`, and what is beside it."""
    yield Use(key, path, writes=True, makes_folder=makes_folder)
    for companion in (path + suffix for suffix in COMPANIONS):
        if os.path.lexists(companion):
            yield Use(key, companion, writes=True)


def snapshot(
    path: str, maxsize: int, open_store: Callable[[str], S], more: Callable[[S], Snapshot]
) -> Snapshot:
    """What is in the file, and beside it; only the latter where the file is unusable. Blocks."""
    if not path:
        return {}
    damaged = len(file_moves.names(path))
    alone: Snapshot = {"queue_damaged": damaged} if damaged else {}
    try:
        store = open_store(path)
    except OSError as error:
        log.debug("%s", error)
        return alone
    try:
        oldest = store.oldest()
        return {
            "queue_damaged": damaged,
            "queue_oldest": max(0.0, time.time() - oldest) if oldest else 0.0,
            "queue_messages": store.span(),
            "queue_octets": store.octets(),
            "queue_limit": maxsize,
            **more(store),
        }
    except OSError as error:
        log.debug("%s", error)
        return alone
    finally:
        store.close()
