"""What is whole in a damaged queue file goes into the queue file that took its place.

Takes the name under which a file was set aside, and an open store. Each message is stored again as
it was, with the time of its acceptance, unless its id is there. Blocks; works in small transactions
with pauses between them, as mail goes on meanwhile. Killed in the middle, it is begun anew by the
next one: messages that were published and deleted in between are then published twice.
"""

import os
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from fastsmtp.sinks import file_moves
from fastsmtp.sinks.arrivals import Put
from fastsmtp.sinks.file_lock import SUFFIX
from fastsmtp.sinks.store import Store
from fastsmtp.sinks.store_errors import (
    StoreDamagedError,
    StoreError,
    StoreSetAsideError,
    explained,
)
from fastsmtp.sinks.undamaged_rows import Row, UndamagedRows

ROWS, OCTETS = 100, 4 << 20
"""Of a transaction; a larger message is one alone."""

S = TypeVar("S", bound=Store)

OnSetAside = Callable[[StoreDamagedError, str], None]
"""Is told the damage, and the new name of the file."""

Pause = Callable[[], bool]
"""Called between two transactions; False: no more of them."""


class Recovered(NamedTuple):
    """What became of the messages of a damaged file."""

    stored: int  # they are in the queue again
    known: int  # they were there already
    missing: int  # of which something is known, and not all; there may have been others

    def __str__(self) -> str:
        words = f"{_messages(self.stored)} recovered"
        if self.known:
            words += f", {self.known} were in the queue already"
        if self.missing:
            words += f"; at least {_messages(self.missing)} lost on damaged pages"
        return words


def recover(name: str, store: Store, pause: Pause = lambda: True) -> Recovered | None:
    """Store what is whole in the file `name`; None where `pause` has ended it. Raises OSError.

    StoreFullError is among these: what fitted is stored.
    """
    with explained(name):
        rows = UndamagedRows(name)
    stored = known = 0
    batch: list[Row] = []
    try:
        with explained(name):
            for row in rows:
                if batch and _is_full(batch, row):
                    added = _add(store, batch)
                    stored, known = stored + added, known + len(batch) - added
                    batch.clear()
                    if not pause():
                        return None
                batch.append(row)
        added = _add(store, batch)
        return Recovered(stored + added, known + len(batch) - added, rows.missing)
    finally:
        rows.close()


def is_queue(path: str) -> bool:
    """Whether a file that SQLite does not open was a queue of fastsmtp: its rows tell, or a lock.

    Raises OSError.
    """
    if os.path.exists(path + SUFFIX):
        return True
    with explained(path):
        rows = UndamagedRows(path)
        try:
            return next(iter(rows), None) is not None
        finally:
            rows.close()


def open_store(path: str, make: Callable[[], S], on_set_aside: OnSetAside) -> S:
    """Open the queue file at `path` by `make`, which makes it where it is missing.

    Where it is damaged, it is set aside, and a new one is made. Raises OSError or ValueError, as
    `Store` does: a file that never was a queue is not touched.
    """
    try:
        status = os.stat(path)
    except OSError:
        return make()
    try:
        return make()
    except StoreDamagedError as error:
        if not is_queue(path):
            raise
        name = file_moves.set_aside(path, (status.st_dev, status.st_ino))
        if name:
            on_set_aside(error, name)
    except StoreSetAsideError:
        pass
    return make()


def _is_full(batch: list[Row], row: Row) -> bool:
    tails = {id(one.message.tail): one.message.tail.size for one in [*batch, row]}
    return len(batch) >= ROWS or sum(tails.values()) > OCTETS


def _add(store: Store, batch: list[Row]) -> int:
    """Store those that are not there; how many."""
    for is_last in (False, True):
        known = store.known(row.message.id for row in batch)
        new = [row for row in batch if row.message.id not in known]
        if not new:
            return 0
        try:
            store.add_all([Put([row.message for row in new], lambda _: None, is_held=False)])
        except StoreError:
            if is_last or not store.known(row.message.id for row in new):
                raise
        else:
            return len(new)
    return 0


def _messages(number: int) -> str:
    return f"{number} {'message' if number == 1 else 'messages'}"
