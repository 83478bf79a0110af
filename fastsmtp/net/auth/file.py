"""`smtp-auth: file:///path`: users in a file, a line `user:hash` each, argon2, bcrypt or SHA-crypt.

The file is looked at once a second while clients authenticate, and read again when it has changed.
Hashing runs in a few threads; who succeeded a while ago is known without it, by a digest under a
key that only this process has. No password is kept.
"""

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fastsmtp.escaping import printable
from fastsmtp.needs import Problem, Use
from fastsmtp.net.auth import libcrypt
from fastsmtp.net.auth.base import SchemeBackend, UnavailableError
from fastsmtp.net.auth.digest import Digests
from fastsmtp.settings import Settings

log = logging.getLogger(__name__)

THREADS = 2
"""That hash at one time in a worker; argon2 takes the memory that a hash asks for in each."""

REMEMBERED = 1024
"""Successes that are known without hashing, the oldest forgotten first."""

REMEMBER = 300.0
"""Seconds that a success is known."""

LOOK = 1.0
"""Seconds between two looks at the file."""

_HASH = re.compile(
    r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}"
    r"|\$argon2(id|i|d)\$(v=[0-9]+\$)?m=[0-9]+,t=[0-9]+,p=[0-9]+"
    r"\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{6,}"
)


class _Users:
    """What one reading of the file gave."""

    __slots__ = ("by_name", "hashes", "problems")

    def __init__(self, text: str) -> None:
        self.by_name: dict[str, str] = {}  # user: hash
        self.problems: list[str] = []  # a line each, without the hash
        for number, line in enumerate(text.split("\n"), 1):
            line = line.strip()
            if line and not line.startswith("#"):
                problem = self._take(line)
                if problem:
                    self.problems.append(f"line {number}: {problem}")
        self.hashes = list(self.by_name.values())

    def _take(self, line: str) -> str:
        """Why the line is of no use, else ""."""
        user, colon, hashed = line.partition(":")
        if not colon or not user or not user.isprintable():
            return "expected user:hash"
        problem = _problem(hashed)
        if problem:
            return f"{printable(user)}: {problem}"
        if user in self.by_name:
            return f"{printable(user)} is there already, the first line holds"
        self.by_name[user] = hashed
        return ""


def _problem(hashed: str) -> str:
    """Why the hash is of no use, else ""."""
    if _is_sha_crypt(hashed):
        return libcrypt.problem(hashed)
    if _HASH.fullmatch(hashed):
        return ""
    return "expected an argon2, bcrypt, $5$ or $6$ hash (fastsmtp passwd makes one)"


def _is_sha_crypt(hashed: str) -> bool:
    return hashed.startswith(("$5$", "$6$"))


def problems(url: str) -> list[str]:
    """Lines of the file that are of no use, and why. Raises OSError."""
    path = url.removeprefix(File.scheme)
    return [f"{path}, {problem}" for problem in _read(path).problems]


def lacking(url: str) -> str:
    """What the system lacks to check the hashes of the file, else "". Raises OSError."""
    if any(map(_is_sha_crypt, _read(url.removeprefix(File.scheme)).hashes)):
        try:
            libcrypt.crypt_r()
        except UnavailableError as error:
            return str(error)
    return ""


def _read(path: str) -> _Users:
    return _Users(Path(path).read_text("utf-8", "replace"))


class File(SchemeBackend):
    """The users of one file."""

    late = ("fastsmtp.net.auth.hashes",)
    scheme = "file://"
    rest = "/.+"
    form = "file:///path"
    note = ' (lines "user:hash")'

    @classmethod
    def uses(cls, settings: Settings) -> Iterable[Use]:
        """The file."""
        if cls.is_configured(settings):
            path = settings.smtp_auth.removeprefix(cls.scheme)
            yield Use(cls.key, path, writes=False)

    @classmethod
    def errors(cls, settings: Settings) -> Iterable[Problem]:
        """What the hashes of the file need, and this system does not have."""
        if cls.is_configured(settings):
            with contextlib.suppress(OSError):  # told by whoever tries what `uses` names
                if why := lacking(settings.smtp_auth):
                    yield (cls.key,), why

    @classmethod
    def warnings(cls, settings: Settings) -> Iterable[str]:
        """Lines of the file that are of no use."""
        if cls.is_configured(settings):
            with contextlib.suppress(OSError):
                for problem in problems(settings.smtp_auth):
                    yield f"{cls.key}: {problem}"

    def __init__(self, url: str) -> None:
        """Raises OSError where it cannot be read."""
        from fastsmtp.net.auth import hashes  # see `Backend.late`

        self._verify = hashes.verify
        self._path = url.removeprefix(self.scheme)
        self._digests = Digests()
        self._remembered: dict[bytes, tuple[str, float]] = {}  # digest: hash, until when
        self._threads = ThreadPoolExecutor(THREADS, "auth")
        self._turn = asyncio.Semaphore(THREADS)
        self._looking = asyncio.Lock()
        self._looked = 0.0
        self._trouble: str | None = None  # why the file cannot be read
        self._state = self._stat()
        self._users = _read(self._path)  # the supervisor has told its problems

    async def check(self, user: str, password: bytes) -> bool:
        """Whether the file has them. Raises UnavailableError."""
        await self._look()
        digest = self._digests.of(user, password)
        known = self._users.by_name.get(user)
        if known is not None and self._remembers(digest, known):
            return True
        tried = known or self._decoy(user)
        if tried is None:
            return False
        async with self._turn:
            if known is not None and self._remembers(digest, known):
                return True  # the same client, on another connection
            loop = asyncio.get_running_loop()
            fits = await loop.run_in_executor(self._threads, self._verify, tried, password)
        if known is None or not fits:
            return False
        self._remember(digest, known)
        return True

    def _decoy(self, user: str) -> str | None:
        """Somebody's hash for a user whom nobody knows, always the same: it costs as much."""
        hashes = self._users.hashes
        chosen = int.from_bytes(self._digests.of(user, b"")[:8])
        return hashes[chosen % len(hashes)] if hashes else None

    def _remembers(self, digest: bytes, hashed: str) -> bool:
        """It succeeded lately, and the user has the same hash still."""
        then, until = self._remembered.get(digest, ("", 0.0))
        return then == hashed and time.monotonic() < until

    def _remember(self, digest: bytes, hashed: str) -> None:
        self._remembered.pop(digest, None)
        if len(self._remembered) >= REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = hashed, time.monotonic() + REMEMBER

    async def _look(self) -> None:
        """Read the file again where it has changed. Raises UnavailableError."""
        async with self._looking:
            if time.monotonic() - self._looked > LOOK:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(None, self._refresh)
                self._looked = time.monotonic()
        if self._trouble is not None:
            raise UnavailableError(f"smtp-auth {self._path}: {self._trouble}")

    def _refresh(self) -> None:
        try:
            state = self._stat()
            if state != self._state or self._trouble is not None:
                self._users = _read(self._path)
                self._state = state
                log.info("smtp-auth %s: %d users", self._path, len(self._users.by_name))
                for problem in self._users.problems:
                    log.warning("smtp-auth %s, %s", self._path, problem)
            self._trouble = None
        except OSError as error:
            self._trouble = error.strerror or "it cannot be read"

    def _stat(self) -> tuple[int, int, int]:
        found = os.stat(self._path)
        return found.st_ino, found.st_mtime_ns, found.st_size
