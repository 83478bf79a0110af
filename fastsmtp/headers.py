"""The `x-mq-*` headers of a message become properties of its JSON.

Takes each header's name and value as `_content.HeaderScan` finds them; gives the properties and
says which headers leave the MIME. No mail is lost over a header: one that does not parse, or has a
name of the server's, stays in the MIME and is counted.
"""

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from fastsmtp import replies
from fastsmtp._content import unfold
from fastsmtp._parser import CommandError, parse_mailbox
from fastsmtp.escaping import printable
from fastsmtp.metrics import Metrics
from fastsmtp.peer import Peer
from fastsmtp.replies import Reply

log = logging.getLogger(__name__)

MAX_LIFTED = 1000
"""Headers that are lifted from one message."""

MAX_LIFTED_OCTETS = 256 * 1024
"""Octets of those headers, names and line ends included."""

MAX_LOGGED = 3
"""Log lines about one message's headers, and one that says that there are more."""

RESERVED = frozenset(
    [
        "",
        *("message-id", "received", "hostname", "recipient", "connection", "smtputf8"),
        *("mime", "mime-encoding", "key", "key-encoding", "mime-size", "mime-sha256"),
        *("ips", "tags", "queues", "smarthost", "dsn", "nextattempt"),
        *("checks", "domain", "forcedip", "seen", "results", "http", "spool", "cli"),
        *("dkim", "data", "headers", "traceparent", "fingerprint"),
        *("__proto__", "constructor", "prototype"),  # a key of these breaks consumers in JavaScript
    ]
)
"""Names that are the server's own. `envelope` is one, too, but its header is in `SCALARS`."""

_INTEGER = re.compile(r"([+-]?)0*([1-9][0-9]{0,18}|0)", re.ASCII)
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})", re.ASCII)
_BOOLEANS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}

Value = str | int | bool | list[int]


class RefusedError(Exception):
    """The message is not accepted; `reply` is the answer to it."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


def text(value: str) -> Value:
    """Any value."""
    return value


def upper(value: str) -> Value:
    """A keyword of RFC 3461, in upper case as the SMTP parameter is."""
    return value.upper()


def integer(value: str) -> int:
    """A signed 64-bit integer in decimal digits."""
    if found := _INTEGER.fullmatch(value):
        number = int(found[1] + found[2])
        if -(2**63) <= number < 2**63:
            return number
    raise ValueError("an integer of 64 bits")


def integers(value: str) -> Value:
    """Integers with commas between."""
    try:
        return [integer(word.strip(" \t")) for word in value.split(",")]
    except ValueError:
        raise ValueError("integers of 64 bits, commas between") from None


def boolean(value: str) -> Value:
    """One of `true false yes no on off 1 0` in any case."""
    try:
        return _BOOLEANS[value.lower()]
    except KeyError:
        raise ValueError("true, false, yes, no, on, off, 1 or 0") from None


def date(value: str) -> Value:
    """`YYYY-MM-DD HH:MM:SS`, a date that exists."""
    if found := _DATE.fullmatch(value):
        year, month, day, hour, minute, second = map(int, found.groups())
        with suppress(ValueError):
            datetime(year, month, day, hour, minute, second)
            return value
    raise ValueError("YYYY-MM-DD HH:MM:SS, a date that exists")


def mailbox(value: str) -> Value:
    """A mailbox with or without `<>`, or nothing: the null path."""
    try:
        return parse_mailbox(value.encode())
    except CommandError:
        raise ValueError("a mailbox, or nothing") from None


# name: (object the property is in, or ""; property; parser, whose ValueError is what was expected)
SCALARS: dict[str, tuple[str, str, Callable[[str], Value]]] = {
    "envelope": ("", "envelope", mailbox),
    "pool": ("", "pool", text),
    "delayed": ("", "delayed", date),
    "maxdelivertime": ("", "maxdelivertime", date),
    "maxattempts": ("", "maxattempts", integer),
    "priority": ("", "priority", integer),
    "retries": ("", "retries", integers),
    "inlinecss": ("", "inlinecss", boolean),
    "keepmime": ("", "keepmime", boolean),
    "results-queue": ("queues", "results", text),
    "failure-queue": ("queues", "failure", text),
    "success-queue": ("queues", "success", text),
    "retry-queue": ("queues", "retry", text),
    "dsn-queue": ("queues", "dsn", text),
    "smarthost-hostname": ("smarthost", "hostname", text),
    "smarthost-name": ("smarthost", "hostname", text),
    "smarthost-port": ("smarthost", "port", integer),
    "smarthost-username": ("smarthost", "username", text),
    "smarthost-password": ("smarthost", "password", text),
    "dsn-notify": ("dsn", "notify", upper),
    "dsn-ret": ("dsn", "ret", upper),
    "dsn-orcpt": ("dsn", "orcpt", text),
    "dsn-envid": ("dsn", "envid", text),
    "dsn-envelope": ("dsn", "envelope", text),
    "dsn-mta": ("dsn", "mta", text),
}
"""Headers whose last value counts."""

LISTS = {"ip": "ips", "tag": "tags"}
"""Headers that may be repeated, and the property that holds all their values."""


class Lifted:
    """What the headers of one message said."""

    __slots__ = (
        "_content",
        "_count",
        "_malformed",
        "_metrics",
        "_octets",
        "_peer",
        "dsn",
        "properties",
    )

    def __init__(self, content: bytes | bytearray, metrics: Metrics, peer: Peer) -> None:
        """`peer` sent the message: log lines name it."""
        self._content = content
        self._peer = peer
        self._metrics = metrics
        self._count = 0
        self._octets = 0
        self._malformed = 0
        self.dsn: dict[str, Any] = {}  # over the SMTP parameters of the same name
        self.properties: dict[str, Any] = {}  # all others; `envelope` replaces MAIL's

    def lift(self, name: str, start: int, stop: int, octets: int) -> bool:
        """Take the header X-MQ-`name`, its value at `start` to `stop`; true where it is lifted.

        `octets` is the size of the whole header. Raises RefusedError where it is one too many.
        """
        if name in RESERVED:
            self.reserved(name)
            return False
        if octets > MAX_LIFTED_OCTETS:
            raise RefusedError(replies.TOO_MANY_HEADERS)
        value = decode(unfold(self._content, start, stop))
        scalar = SCALARS.get(name)
        typed: Value = value
        if scalar is not None:
            try:
                typed = scalar[2](value)
            except ValueError as expected:
                self.malformed(name, value, str(expected))
                return False
        self._count += 1
        self._octets += octets
        if self._count > MAX_LIFTED or self._octets > MAX_LIFTED_OCTETS:
            raise RefusedError(replies.TOO_MANY_HEADERS)
        if scalar is not None:
            self._set(scalar[0], scalar[1], typed)
        elif name in LISTS:
            self.properties.setdefault(LISTS[name], []).append(value)
        else:
            self.own(name, value)
        return True

    def reserved(self, name: str) -> None:
        """A name is the server's; the header stays in the MIME."""
        self._metrics.headers_reserved += 1

    def malformed(self, name: str, value: str, expected: str) -> None:
        """A value is not of its header's type, `expected`; the header stays in the MIME."""
        self._metrics.headers_malformed += 1
        self._malformed += 1
        about: dict[str, object] = {"peer": self._peer}
        if self._malformed <= MAX_LOGGED:
            about["value"] = printable(value)
            log.warning("header X-MQ-%s does not parse", printable(name), extra=about)
        elif self._malformed == MAX_LOGGED + 1:
            log.warning("more X-MQ headers of this message do not parse", extra=about)

    def own(self, name: str, value: str) -> None:
        """A header of the sender's own: a string, or a list of them where it is repeated."""
        self._metrics.headers_unknown += 1
        before = self.properties.get(name)
        if before is None:
            self.properties[name] = value
        elif isinstance(before, list):
            before.append(value)
        else:
            self.properties[name] = [before, value]

    def _set(self, group: str, key: str, value: Value) -> None:
        if not group:
            self.properties[key] = value
            if key == "delayed":  # MailerQ after 5.3 reads the second
                self.properties["nextattempt"] = {"time": value}
        elif group == "dsn":
            self.dsn[key] = value
        else:
            self.properties.setdefault(group, {})[key] = value


def decode(value: bytes) -> str:
    """Header octets as text: UTF-8, else Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
