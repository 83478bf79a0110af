"""Logging set-up: one line an event to standard error, as text or as JSON.

Whatever a message holds, it stays within its line: what is not printable is escaped, so no
client can forge a line or talk to a terminal. Knows no sink and no session.
"""

import logging
import sys
import time

import orjson

from fastsmtp.settings import Settings


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


def escaped(text: str, keep: str = "") -> str:
    """`text` with everything that is not printable, but for `keep`, as a backslash escape."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


class TextLines(logging.Formatter):
    """`2026-11-23T01:02:03Z info message`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        message = escaped(_message(self, record))
        return f"{_time(record)} {record.levelname.lower()} {message}"


class JsonLines(logging.Formatter):
    """One object with `time`, `level` and `message`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "message": escaped(_message(self, record), keep="\n\t"),  # JSON escapes these itself
        }
        return orjson.dumps(event).decode()


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))


def _message(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The message, and the traceback behind it where there is one."""
    message = record.getMessage()
    if record.exc_info:
        message += "\n" + formatter.formatException(record.exc_info)
    return message
