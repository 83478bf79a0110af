"""The received-log: a file with one line per recipient, accepted or refused.

A line stands for a recipient of a message that came to its end, or for a RCPT that was refused.
Its fields are separated by tabs: time, message-id or "-", envelope, recipient, size, client
address, user or "-", reply; whatever a client sent is escaped. Or it is a JSON object. Lines are
gathered and written together, at most a second late; `close` writes the rest. A new worker opens
the file anew, so that it can be rotated.
"""

import asyncio
import logging
import os
import time
from collections.abc import Sequence

from fastsmtp.escaping import escaped, json_line
from fastsmtp.own_files import open_log
from fastsmtp.peer import Peer
from fastsmtp.questions import Message
from fastsmtp.refusals import Refusal
from fastsmtp.replies import Reply

log = logging.getLogger(__name__)

GATHER = 64 * 1024
"""Octets of lines that are not kept waiting."""

DELAY = 1.0
"""Seconds that a line waits at most."""


class ReceivedLog:
    """One worker's end of the file."""

    def __init__(self, path: str, log_format: str = "text") -> None:
        """`log_format`: "text" or "json". Raises OSError, whose text names the file."""
        self._format = _json if log_format == "json" else _text
        self._path = path
        try:
            self._file = open_log(path)
        except OSError as error:
            raise OSError(f"received-log: {error}") from None
        self._lines: list[bytes] = []
        self._size = 0  # octets of them
        self._timer: asyncio.TimerHandle | None = None
        self._second = 0
        self._time = ""
        self._full = False  # the last write failed, and the log tells

    def accepted(self, ids: Sequence[str], message: Message, reply: Reply) -> None:
        """Write a line per recipient of a stored message."""
        envelope, size, peer = message.envelope, message.size, message.peer
        for message_id, recipient in zip(ids, envelope.recipients, strict=True):
            self._add(message_id, envelope.sender, recipient.mailbox, size, peer, reply)

    def refused(self, refusal: Refusal) -> None:
        """Write a line per recipient that was refused; a refusal without recipients has none.

        The size of a message whose content has not come is what MAIL declared, or 0.
        """
        envelope = refusal.envelope
        if envelope is None:
            return
        if refusal.recipient is not None:
            mailboxes, size = [refusal.recipient], envelope.size
        elif refusal.size is not None:
            mailboxes, size = [each.mailbox for each in envelope.recipients], refusal.size
        else:
            return
        for mailbox in mailboxes:
            self._add("-", envelope.sender, mailbox, size, refusal.peer, refusal.reply)

    def _add(
        self, message_id: str, sender: str, mailbox: str, size: int, peer: Peer, reply: Reply
    ) -> None:
        moment = time.time()
        second = int(moment)
        if second != self._second:
            self._second = second
            self._time = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        now = f"{self._time}.{int((moment - second) * 1000):03d}Z"
        line = self._format(now, message_id, sender, mailbox, size, peer, reply)
        self._gather(line.encode())

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


def _text(
    now: str, message_id: str, sender: str, mailbox: str, size: int, peer: Peer, reply: Reply
) -> str:
    return (
        f"{now}\t{message_id}\t{escaped(sender)}\t{escaped(mailbox)}\t{size}\t"
        f"{peer.remote_ip}\t{escaped(peer.user) or '-'}\t"
        f"{reply.code} {reply.enhanced} {reply.lines[0]}\n"
    )


def _json(
    now: str, message_id: str, sender: str, mailbox: str, size: int, peer: Peer, reply: Reply
) -> str:
    event = {
        "time": now,
        "id": None if message_id == "-" else message_id,
        "envelope": sender,
        "recipient": mailbox,
        "size": size,
        "client": peer.remote_ip,
        "user": peer.user or None,
        "reply": f"{reply.code} {reply.enhanced} {reply.lines[0]}",
    }
    return json_line(event) + "\n"
