"""The file with one line a recipient of every message that came to its end.

Tab-separated: time, message-id or "-", envelope, recipient, size, client address, user or "-",
reply. Whatever a client sent is escaped. Lines are gathered and written together, a second late
at most; `close` writes the rest. A new worker opens the file anew, so that it can be rotated.
"""

import asyncio
import logging
import os
import time
from collections.abc import Sequence

from fastsmtp.envelope import Envelope
from fastsmtp.escaping import escaped
from fastsmtp.peer import Peer
from fastsmtp.replies import Reply

log = logging.getLogger(__name__)

GATHER = 64 * 1024
"""Octets of lines that are not kept waiting."""

DELAY = 1.0
"""Seconds that a line waits at most."""


class ReceivedLog:
    """One worker's end of the file."""

    def __init__(self, path: str) -> None:
        """Raises OSError, whose text names the file."""
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lines: list[bytes] = []
        self._size = 0  # octets of them
        self._timer: asyncio.TimerHandle | None = None
        self._second = 0
        self._time = ""
        self._full = False  # the last write failed, and the log tells

    def add(
        self, ids: Sequence[str], envelope: Envelope, size: int, peer: Peer, reply: Reply
    ) -> None:
        """A message was answered; `ids` is empty where it was refused."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._time = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
        sender = escaped(envelope.sender)
        rest = f"{size}\t{peer.remote_ip}\t{escaped(peer.user) or '-'}\t{reply.code}"
        rest += f" {reply.enhanced} {reply.lines[0]}\n"
        for position, recipient in enumerate(envelope.recipients):
            message_id = ids[position] if ids else "-"
            self._gather(
                f"{self._time}\t{message_id}\t{sender}\t{escaped(recipient.mailbox)}\t{rest}".encode()
            )

    def flush(self) -> None:
        """Write what was gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._lines:
            return
        lines, self._lines, self._size = b"".join(self._lines), [], 0
        try:
            while lines:
                lines = lines[os.write(self._file, lines) :]
            self._full = False
        except OSError as error:
            if not self._full:
                log.error("received-log %s: lines are lost: %s", self._path, error.strerror)
            self._full = True

    def close(self) -> None:
        """Write the rest and let go of the file."""
        self.flush()
        os.close(self._file)

    def _gather(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        if self._size >= GATHER:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY, self.flush)
