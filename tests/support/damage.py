"""Damage to a queue file, as a disk does it: in place, under processes that have it open."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

PAGE = 8192


def overwrite(path: str, first: int, octets: bytes) -> None:
    """Write `octets` into the file from `first` on."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, octets, first)
    finally:
        os.close(descriptor)


def zero_pages(path: str, *pages: int) -> None:
    """Make zeros of these pages, in the file and in its log. Page 1 is the first."""
    for page in pages:
        overwrite(path, (page - 1) * PAGE, bytes(PAGE))
    log = path + "-wal"
    frame = PAGE + 24
    octets = Path(log).read_bytes() if os.path.exists(log) else b""
    for offset in range(32, len(octets) - frame + 1, frame):
        if int.from_bytes(octets[offset : offset + 4], "big") in pages:
            overwrite(log, offset + 24, bytes(PAGE))


def pages_of(path: str, kind: int) -> list[int]:
    """The pages of the file that are of that kind: 2, 5, 10 or 13, as SQLite numbers them."""
    octets = Path(path).read_bytes()
    return [n // PAGE + 1 for n in range(PAGE, len(octets), PAGE) if octets[n] == kind]


def root(path: str, name: str) -> int:
    """The page where that table or index begins. Not to be asked while the file is in use here."""
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)
        ).fetchone()
    return int(page)
