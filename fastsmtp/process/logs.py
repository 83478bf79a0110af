"""Logging set-up: one line an event to standard error, as text or as JSON.

Whatever a message or a value holds, it stays within its line and its field: what is not printable
is escaped, and so is what could be read as another field: no client can forge either or talk to a
terminal. Knows no sink and no session.
"""

import logging
import sys
import time
from collections.abc import Sequence

from fastsmtp.escaping import field_message, field_value, json_line
from fastsmtp.peer import Peer
from fastsmtp.settings import Settings

log = logging.getLogger(__name__)


def setup(settings: Settings, worker: int | None = None) -> None:
    """Log from `log-level` up, in `log-format`; libraries from warning up.

    `worker`: the number of this process, where it is one.
    """
    handler = logging.StreamHandler(sys.stderr)
    lines = JsonLines if settings.log_format == "json" else TextLines
    handler.setFormatter(lines(worker))
    handler.setLevel(settings.log_level.upper())
    root = logging.getLogger()
    root.handlers = [handler]
    # The broker's client writes whole frames at lower levels: mail has no place in a log.
    root.setLevel(logging.WARNING)
    logging.getLogger("fastsmtp").setLevel(settings.log_level.upper())
    logging.captureWarnings(True)


def ignored(error: "sys.UnraisableHookArgs") -> None:
    """For sys.unraisablehook: what Python tells nobody else about stays one line, too.

    A server name that is not ASCII comes here from ssl, before anybody could judge it: that is
    a handshake that fails, and no error of ours.
    """
    if isinstance(error.exc_value, UnicodeDecodeError) and isinstance(error.object, bytes):
        log.debug("a client asks for a server name that is none: %r", error.object)
    elif error.exc_value is not None:
        log.error("an error was ignored in %r", error.object, exc_info=error.exc_value)


def fields(record: logging.LogRecord) -> dict[str, str | int]:
    """What the event is about: the log call's `extra`.

    It may hold "peer" (a Peer), "envelope" and "recipient" (addresses), "value" (of a header),
    "tried" (a name that failed to authenticate), "size" (bytes), "recipients" (how many) and "ids"
    (a list).
    """
    found: dict[str, str | int] = {}
    peer: Peer | None = getattr(record, "peer", None)
    if peer is not None:
        found["session"] = peer.session
        found["client"] = peer.remote_ip
        if peer.user:
            found["user"] = peer.user
    for name in ("envelope", "recipient", "value", "tried", "size", "recipients"):
        value = getattr(record, name, None)
        if value is not None:
            found[name] = value
    ids: Sequence[str] = getattr(record, "ids", ())
    if ids:
        found["ids"] = ",".join(ids)
    return found


class Lines(logging.Formatter):
    """What both formats have in common."""

    def __init__(self, worker: int | None = None) -> None:
        """`worker`: the number of the process; None for any other."""
        super().__init__()
        self._about: dict[str, str | int] = {} if worker is None else {"worker": worker}

    def about(self, record: logging.LogRecord) -> dict[str, str | int]:
        """Which process writes the line, and what it is about."""
        return self._about | fields(record)

    def message(self, record: logging.LogRecord) -> str:
        """The message, and the traceback behind it where there is one."""
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        return message


class TextLines(Lines):
    """`2026-11-23T01:02:03.456Z info message worker=1 session=… client=… user=… envelope=… ids=…`.

    Nothing in a value or in the message reads as another field: see `escaping.field_value`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        about = "".join(
            f" {name}={field_value(str(value))}" for name, value in self.about(record).items()
        )
        message = field_message(self.message(record))
        return f"{_time(record)} {record.levelname.lower()} {message}{about}"


class JsonLines(Lines):
    """One object: `time`, `level`, `message`, `worker`, `session`, `client`, `user`, …"""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "message": self.message(record),
            **self.about(record),
        }
        return json_line(event)


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"
