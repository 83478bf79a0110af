"""The argument of XCLIENT (Postfix's XCLIENT_README), without I/O.

Takes octets, gives texts. Knows nothing of who may say XCLIENT, nor of what it changes.
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from fastsmtp.addresses import canonical

UNKNOWN = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
"""Values of what the peer does not know, in upper case."""

_XTEXT = re.compile(rb"(?:[!-*,-~]|\+[0-9A-Fa-f]{2})+")
_ENCODED = re.compile(rb"\+(..)")


class XclientError(ValueError):
    """The argument is wrong."""


def parse(argument: bytes) -> dict[str, str]:
    """Give the value of each attribute that is there, by its name in upper case.

    A value is "" where the peer does not know it. Addresses are canonical text, ports digits,
    texts printable. Raises XclientError: no attribute, an unknown one, one twice, a bad value.
    """
    said: dict[str, str] = {}
    for word in argument.split():
        name, equals, value = word.partition(b"=")
        attribute = name.decode("latin-1").upper()
        if attribute not in ATTRIBUTES or not equals or attribute in said:
            raise XclientError(f"bad attribute {attribute!r}")
        text = _decoded(value)
        said[attribute] = "" if text.upper() in UNKNOWN else ATTRIBUTES[attribute](text)
    if not said:
        raise XclientError("no attribute")
    return said


def _decoded(value: bytes) -> str:
    """The text behind xtext (RFC 3461 §4); a "=" may stand in it, as Postfix allows."""
    if not _XTEXT.fullmatch(value):
        raise XclientError("no xtext")
    octets = _ENCODED.sub(lambda found: bytes([int(found[1], 16)]), value)
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise XclientError("no UTF-8") from None


def _text(value: str) -> str:
    if not value.isprintable():
        raise XclientError("not printable")
    return value


def _address(value: str) -> str:
    """An IPv4 address, or "IPV6:" and an IPv6 address."""
    try:
        if value[:5].upper() == "IPV6:" and "%" not in value:
            return canonical(IPv6Address(value[5:]))
        return canonical(IPv4Address(value))
    except ValueError:
        raise XclientError("bad address") from None


def _port(value: str) -> str:
    if not (value.isascii() and value.isdigit() and len(value) <= 5 and int(value) < 65536):
        raise XclientError("bad port")
    return value


def _protocol(value: str) -> str:
    if value.upper() not in ("SMTP", "ESMTP"):
        raise XclientError("bad protocol")
    return value


ATTRIBUTES: dict[str, Callable[[str], str]] = {
    "NAME": _text,
    "ADDR": _address,
    "PORT": _port,
    "PROTO": _protocol,
    "HELO": _text,
    "LOGIN": _text,
    "DESTADDR": _address,
    "DESTPORT": _port,
}
"""Name → what checks its value and gives it in its one form; in the order that EHLO offers."""
