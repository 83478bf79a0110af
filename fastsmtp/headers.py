"""The `x-mq-*` headers of a message become properties of its JSON.

Takes each header's name and value as `_content.HeaderScan` finds them; gives the properties and
says which headers leave the MIME. Loses no mail over a header: what does not parse stays a string
or stays in the MIME, and is counted.
"""

import logging
import re
from collections.abc import Callable
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
        "message-id",
        "received",
        "hostname",
        "recipient",
        "envelope",
        "mime",
        "mime-encoding",
        "connection",
        "key",
        "checks",
        "ips",
        "tags",
        "queues",
        "smarthost",
        "dsn",
        "smtputf8",
    ]
)
"""Names that are the server's own; `envelope` is in the table all the same."""

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}", re.ASCII)
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
    if not _INTEGER.fullmatch(value) or not -(2**63) <= int(value) < 2**63:
        raise ValueError("an integer of 64 bits")
    return int(value)


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
    try:
        if not _DATE.fullmatch(value):
            raise ValueError
        datetime.strptime(value, "%Y-%m-%d %H:%M:%S")
    except ValueError:
        raise ValueError("YYYY-MM-DD HH:MM:SS, a date that exists") from None
    return value


# name: (object the property is in, or ""; property; parser, whose ValueError is what was expected)
SCALARS: dict[str, tuple[str, str, Callable[[str], Value]]] = {
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
        "envelope",
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
        self.envelope: str | None = None  # replaces MAIL's where it is given
        self.dsn: dict[str, Any] = {}  # over the SMTP parameters of the same name
        self.properties: dict[str, Any] = {}  # all others, as they stand in the JSON

    def lift(self, name: str, start: int, stop: int, octets: int) -> bool:
        """Take the header X-MQ-`name`, its value at `start` to `stop`; true where it is lifted.

        `octets` is the size of the whole header. Raises RefusedError where it is one too many.
        """
        if name in RESERVED and name != "envelope":
            self.reserved(name)
            return False
        if octets > MAX_LIFTED_OCTETS:
            raise RefusedError(replies.TOO_MANY_HEADERS)
        value = unfold(self._content, start, stop)
        if name == "envelope" and not self._lift_envelope(decode(value)):
            return False
        self._count += 1
        self._octets += octets
        if self._count > MAX_LIFTED or self._octets > MAX_LIFTED_OCTETS:
            raise RefusedError(replies.TOO_MANY_HEADERS)
        if name != "envelope":
            self._set(name, decode(value))
        return True

    def reserved(self, name: str) -> None:
        """A name is the server's; the header stays in the MIME."""
        self._metrics.headers_reserved += 1

    def malformed(self, name: str, value: str, expected: str) -> None:
        """A value is not of its header's type; `expected` says what is."""
        self._metrics.headers_malformed += 1
        self._malformed += 1
        about = {"peer": self._peer}
        if self._malformed <= MAX_LOGGED:
            log.warning(
                "header X-MQ-%s does not parse: %s", printable(name), printable(value), extra=about
            )
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

    def _lift_envelope(self, value: str) -> bool:
        try:
            self.envelope = parse_mailbox(value.encode())
        except CommandError:
            self.malformed("envelope", value, "a mailbox, or nothing")
            return False
        return True

    def _set(self, name: str, value: str) -> None:
        if name in LISTS:
            self.properties.setdefault(LISTS[name], []).append(value)
        elif name in SCALARS:
            group, key, parse = SCALARS[name]
            parent = self._group(group)
            try:
                parent[key] = parse(value)
            except ValueError as expected:
                self.malformed(name, value, str(expected))
                parent[key] = value
        else:
            self.own(name, value)

    def _group(self, name: str) -> dict[str, Any]:
        if not name:
            return self.properties
        if name == "dsn":
            return self.dsn
        group: dict[str, Any] = self.properties.setdefault(name, {})
        return group


def decode(value: bytes) -> str:
    """Header octets as text: UTF-8, else Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
