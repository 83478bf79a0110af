"""Which users have authenticated lately from which addresses: over all workers, and restarts.

Such a pair is kept for 30 days after its last success, as a keyed digest in a SQLite file beside
the queue file (`known_clients_file`). SQLite lets the workers of all generations share it and makes
each change whole. The file holds no name, no address and no password; the key in it only keeps
digests of one server from telling anything about another's.

Whatever is wrong with the file, clients authenticate all the same: each worker then knows what it
has seen itself. Reads take microseconds and come from the event loop, writes have a thread.
"""

import hashlib
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor

from fastsmtp.addresses import client_network
from fastsmtp.net.auth import known_clients_file
from fastsmtp.net.auth.known_clients_file import Database, FileError
from fastsmtp.settings import Settings

log = logging.getLogger(__name__)

KEPT = 30 * 86_400
"""Seconds after its last success for which a pair is known, at least."""

RENEWED = 86_400
"""Seconds after which a further success is written again; a pair is known for so much longer."""

REMEMBERED = 10_000
"""Pairs that a worker remembers by itself, the oldest forgotten first."""


class KnownClients:
    """The pairs, as one worker sees them."""

    def __init__(self, settings: Settings) -> None:
        """Open the file, or make it; blocks."""
        self._remembered: dict[bytes, int] = {}  # pair: seconds since 1970 until which it is known
        self._thread = ThreadPoolExecutor(1, "known-clients")
        self._database: Database | None = None
        self._trouble = ""  # what was last logged
        key = os.urandom(32)
        try:
            file = known_clients_file.use(settings)
            self._database = Database(file.path, file.makes_folder)
            key = self._database.key
        except FileError as error:
            self._complain(error)
        self._key = key

    def pair(self, user: str, address: str) -> bytes:
        """The digest of a user's name and the network of an address."""
        network = client_network(address)
        return self._digest(b"pair", bytes([len(network)]) + network + user.encode())

    def has(self, pair: bytes) -> bool:
        """Whether the pair has succeeded within `KEPT`."""
        now = int(time.time())
        until = self._remembered.get(pair, 0)
        if until <= now and self._database is not None:
            try:
                until = self._database.until(pair, now, now + KEPT + RENEWED)
            except FileError as error:
                self._complain(error)
        return now < until

    def add(self, pair: bytes, user: str) -> None:
        """The pair, which is of `user`, has succeeded; the file has it a moment later."""
        now = int(time.time())
        if self._remembered.get(pair, 0) >= now + KEPT:
            return
        until = now + KEPT + RENEWED
        self._remembered.pop(pair, None)
        if len(self._remembered) >= REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[pair] = until
        if self._database is not None:
            owner = self._digest(b"user", user.encode())
            self._thread.submit(self._write, self._database, pair, owner, now, until)

    def _write(self, database: Database, pair: bytes, owner: bytes, now: int, until: int) -> None:
        try:
            database.keep(pair, owner, now, until)
        except FileError as error:
            self._complain(error)

    def _complain(self, error: FileError) -> None:
        """Log a trouble once, until another one comes."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("known clients are forgotten at the next restart or reload: %s", error)

    def _digest(self, kind: bytes, data: bytes) -> bytes:
        return hashlib.blake2b(data, key=self._key, person=kind, digest_size=16).digest()
