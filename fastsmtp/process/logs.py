"""Logging set-up: one line an event to standard error, as text or as JSON.

Whatever a message holds, it stays within its line: what is not printable is escaped, so no
client can forge a line or talk to a terminal. Knows no sink and no session.
"""

import logging
import sys
import time
from collections.abc import Sequence

import orjson

from fastsmtp.escaping import escaped
from fastsmtp.peer import Peer
from fastsmtp.settings import Settings

log = logging.getLogger(__name__)


def setup(settings: Settings) -> None:
    """Log from `log-level` up, in `log-format`; libraries from warning up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if settings.log_format == "json" else TextLines())
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


def fields(record: logging.LogRecord) -> dict[str, str]:
    """What the event is about: the log call's `extra`.

    It may hold "peer" (a Peer), "envelope" and "recipient" (addresses), "value" (of a header),
    "tried" (a name that failed to authenticate), and "ids" (a list).
    """
    found: dict[str, str] = {}
    peer: Peer | None = getattr(record, "peer", None)
    if peer is not None:
        found["session"] = peer.session
        found["client"] = peer.remote_ip
        if peer.user:
            found["user"] = peer.user
    for name in ("envelope", "recipient", "value", "tried"):
        text = getattr(record, name, None)
        if text is not None:
            found[name] = text
    ids: Sequence[str] = getattr(record, "ids", ())
    if ids:
        found["ids"] = ",".join(ids)
    return found


class TextLines(logging.Formatter):
    """`2026-11-23T01:02:03Z info message session=… client=… user=… envelope=… ids=…`.

    Spaces in values are escaped, so that no client can forge another `name=value`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        message = escaped(_message(self, record), keep="\\")
        about = "".join(f" {name}={_unspaced(text)}" for name, text in fields(record).items())
        return f"{_time(record)} {record.levelname.lower()} {message}{about}"


class JsonLines(logging.Formatter):
    """One object with `time`, `level`, `message`, and `session`, `client`, `user`, `envelope`, …"""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "message": escaped(_message(self, record), keep="\\\n\t"),  # JSON escapes these itself
            **fields(record),
        }
        return orjson.dumps(event).decode()


def _unspaced(value: str) -> str:
    return escaped(value).replace(" ", "\\x20")


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))


def _message(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The message, and the traceback behind it where there is one."""
    message = record.getMessage()
    if record.exc_info:
        message += "\n" + formatter.formatException(record.exc_info)
    return message
