"""The value types of settings: each turns text into a value and a value back into text.

`parse` takes text that is not empty (an empty value means the default, which is not decided
here) and raises ValueError saying what was expected; it never repeats the text, which may be a
secret. `parse(write(value)) == value`, passwords in broker addresses aside: those are masked.
"""

import os
import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from fastsmtp.addresses import canonical

Network = IPv4Network | IPv6Network

_SIZES = {"GB": 1 << 30, "MB": 1 << 20, "KB": 1 << 10, "B": 1}
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_BOOLEANS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(
    ("false", "no", "off", "0"), False
)
_SCHEME = re.compile("[A-Za-z]*://")
_NUMBER = r"([0-9]{1,19}(?:\.[0-9]{1,9})?)\s*"


class Kind(NamedTuple):
    """One type of value."""

    expected: str
    parse: Callable[[str], Any]
    write: Callable[[Any], str]
    empty: Any  # the value of a setting whose default is empty; written as ""


def _kind(
    expected: str,
    read: Callable[[str], Any],
    write: Callable[[Any], str] = str,
    empty: Any = "",
) -> Kind:
    """A kind whose `parse` says `expected` for whatever ValueError `read` raises."""

    def parse(text: str) -> Any:
        try:
            return read(text)
        except ValueError:
            raise ValueError(expected) from None

    return Kind(expected, parse, write, empty)


def _integer(text: str) -> int:
    if not re.fullmatch("[0-9]{1,10}", text):
        raise ValueError
    return int(text)


def _within(value: Any, low: float, high: float) -> Any:
    if not low <= value <= high:
        raise ValueError
    return value


def _read_size(text: str) -> int:
    match = re.fullmatch(_NUMBER + "(B|KB|MB|GB)?", text, re.IGNORECASE)
    if not match:
        raise ValueError
    number, unit = match.groups(default="B")
    return int(_within(int(Decimal(number) * _SIZES[unit.upper()]), 1, 1 << 60))


def _write_size(octets: int | None) -> str:
    if octets is None:
        return ""
    unit = next(unit for unit, factor in _SIZES.items() if octets % factor == 0)
    return f"{octets // _SIZES[unit]}{unit}" if unit != "B" else str(octets)


def _read_duration(text: str) -> float:
    match = re.fullmatch(_NUMBER + "(ms|s|m|h)?", text, re.IGNORECASE)
    if not match:
        raise ValueError
    number, unit = match.groups(default="s")
    return float(_within(Decimal(number) * _SECONDS[unit.lower()], 0, 1_000_000_000))


def _write_duration(seconds: float) -> str:
    return format(Decimal(str(seconds)), "f").removesuffix(".0")


def _read_boolean(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise ValueError
    return _BOOLEANS[text.lower()]


def _write_boolean(value: bool) -> str:
    return "true" if value else "false"


def _read_ports(text: str) -> tuple[int, ...]:
    if text.lower() == "none":
        return ()
    ports: list[int] = []
    for item in text.split(","):
        low, dash, high = (part.strip() for part in item.partition("-"))
        first = _within(_integer(low), 1 if dash else 0, 65535)
        last = _within(_integer(high), first, 65535) if dash else first
        ports.extend(range(first, last + 1))
    return tuple(dict.fromkeys(ports))


def _write_ports(ports: tuple[int, ...]) -> str:
    return ",".join(map(str, ports)) or "none"


def _listed(text: str) -> list[str]:
    """At least one item: ";" alone is a mistake, and an empty list often means everyone."""
    items = [item.strip() for item in text.split(";") if item.strip()]
    if not items:
        raise ValueError
    return items


def _read_address(text: str) -> str:
    return canonical(ip_address(text))


def _read_network(text: str) -> Network:
    """Bits behind the prefix are dropped; IPv4-mapped IPv6 becomes IPv4 (json.md matches so)."""
    _, slash, prefix = text.partition("/")
    if slash and not re.fullmatch("[0-9]{1,3}", prefix):
        raise ValueError
    network = ip_network(text, strict=False)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None:
        return ip_network(f"{mapped}/{network.prefixlen - 96}")
    return network


def _read_broker(text: str) -> tuple[str, ...]:
    """Every node of a cluster as a URL of its own."""
    if text.lower() == "none":
        return ()
    urls: list[str] = []
    for url in _broker_urls(_read_text(text)):
        parts = urlsplit(url)
        if parts.scheme not in ("amqp", "amqps") or "," in parts.path or parts.fragment:
            raise ValueError
        user, at, hosts = parts.netloc.rpartition("@")
        for host in (host.strip() for host in hosts.split(";")):
            node = parts._replace(netloc=user + at + host)
            if not node.hostname or node.port == 0 or re.search(r"[\s,]", host):
                raise ValueError
            urls.append(node.geturl())
    return tuple(dict.fromkeys(urls))


def _read_hosts(text: str) -> tuple[str, ...]:
    """Every host as a URL has it, with its port if it has one."""
    hosts = [_read_host(item.strip()) for item in re.split("[,;]", text) if item.strip()]
    if not hosts:
        raise ValueError
    return tuple(hosts)


def _read_host(text: str) -> str:
    if text.count(":") > 1 and not text.startswith("["):
        text = f"[{text}]"  # IPv6 without its brackets
    match = re.fullmatch(r"([A-Za-z0-9._-]+|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?", text)
    if not match:
        raise ValueError
    _, ipv6, port = match.groups()
    if ipv6:
        IPv6Address(ipv6)
    if port:
        _within(int(port), 1, 65535)
    return text


def same_broker(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two broker addresses mean the same nodes, user, password and vhost."""
    return {*map(_login, one)} == {*map(_login, other)}


def _login(url: str) -> tuple[object, ...]:
    parts = urlsplit(url)
    port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
    user, password = (unquote(text or "guest") for text in (parts.username, parts.password))
    vhost = unquote(parts.path.removeprefix("/")) or "/"
    return parts.scheme, parts.hostname, port, user, password, vhost


def _broker_urls(text: str) -> list[str]:
    """A comma inside a password does not divide."""
    return re.split(r"\s*,\s*(?=amqps?://)", text)


def mask_broker(text: str) -> str:
    """A broker address, valid or not, without what is, or may be meant as, a password."""
    return ",".join(_mask_url(url) for url in _broker_urls(text))


def _mask_url(url: str) -> str:
    scheme = _SCHEME.match(url)
    start = scheme[0] if scheme else ""
    credentials, at, place = url.removeprefix(start).rpartition("@")
    user, colon, _ = credentials.partition(":")
    if not at:
        # A colon that no port follows: perhaps a password whose "@host" was forgotten.
        place = re.sub(r"^(\[[^]]*\]|[^:\[]*):(?![0-9]{1,5}(?:[/;?]|$)).*", r"\1:***", place)
    return start + user + (":***" if colon else "") + at + place


def _write_broker(urls: tuple[str, ...]) -> str:
    return ",".join(urls) or "none"


def _read_endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if ":" in host and not re.fullmatch(r"\[.*\]", host):
        raise ValueError
    return _read_address(host.removeprefix("[").removesuffix("]")), _within(
        _integer(port), 0, 65535
    )


def _write_endpoint(endpoint: tuple[str, int] | None) -> str:
    if endpoint is None:
        return ""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _read_text(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


def _read_secret(text: str) -> str:
    """Any password that can be typed: what is not printable, but no control, is shown nowhere."""
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        raise ValueError
    return text


def _read_name(text: str) -> str:
    """AMQP 0-9-1 §4.2.5.3: a short string is at most 255 octets."""
    _within(len(text.encode()), 1, 255)
    return _read_text(text)


def _read_domain(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,255}|\[[A-Za-z0-9.:]{1,64}\]", text):
        raise ValueError
    return text


def _read_threads(text: str) -> int:
    if text.lower() == "auto":
        return len(os.sched_getaffinity(0))
    return int(_within(_integer(text), 1, 128))


def _read_extract(text: str) -> str:
    return "trusted" if text.lower() == "trusted" else _write_boolean(_read_boolean(text))


def integer(low: int, high: int = 2**31 - 1) -> Kind:
    """A whole number from `low` to `high`, or None where the default is no number."""
    return _kind(
        f"a whole number from {low} to {high}",
        lambda text: _within(_integer(text), low, high),
        lambda value: "" if value is None else str(value),
        empty=None,
    )


def choice(*words: str) -> Kind:
    """One of some words, in lower case."""

    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError
        return text.lower()

    return _kind("one of " + ", ".join(words), read)


SIZE = _kind(
    "a size such as 100MB: bytes, or with B, KB, MB or GB", _read_size, _write_size, empty=None
)
DURATION = _kind(
    "a duration such as 30 or 5m: seconds above 0, or with ms, s, m or h",
    lambda text: _within(_read_duration(text), 0.001, 1e9),
    _write_duration,
)
DURATION_OR_ZERO = _kind(
    "a duration such as 30 or 5m: seconds, or with ms, s, m or h", _read_duration, _write_duration
)
BOOLEAN = _kind("true, false, yes, no, on, off, 1 or 0", _read_boolean, _write_boolean)
PORTS = _kind(
    "ports such as 25,2525,1024-1026, 0 for a free one, or none",
    _read_ports,
    _write_ports,
    empty=(),
)
ADDRESSES = _kind(
    'IP addresses with ";" between',
    lambda text: tuple(_read_address(item) for item in _listed(text)),
    ";".join,
    empty=(),
)
NETWORKS = _kind(
    'IP addresses or ranges such as 192.168.0.0/16 with ";" between',
    lambda text: tuple(_read_network(item) for item in _listed(text)),
    lambda networks: ";".join(map(str, networks)),
    empty=(),
)
PATHS = _kind(
    'paths with ";" between',
    lambda text: tuple(_listed(_read_text(text))),
    ";".join,
    empty=(),
)
TEXT = _kind("text without control characters", _read_text)
SECRET = _kind("text without control characters", _read_secret)
PATH = _kind("a path without control characters", _read_text)
NAME = _kind("a name of at most 255 bytes without control characters", _read_name)
DOMAIN = _kind("a host name such as mx1.example.com", _read_domain)
THREADS = _kind("a number of processes from 1 to 128, or auto", _read_threads)
EXTRACT = _kind("true, false or trusted", _read_extract)
BROKER = _kind(
    "amqp://user:pass@host:port/vhost or amqps://… (special characters percent-encoded), "
    'several with "," between, or host1;host2 in one, or none',
    _read_broker,
    _write_broker,
    empty=(),
)
HOSTS = _kind('host or host:port, several with "," between', _read_hosts, ",".join, empty=())
ENDPOINT = _kind("ip:port such as 127.0.0.1:9090", _read_endpoint, _write_endpoint, empty=None)
