"""The published JSON of one accepted message, by the rules of spec/json.md.

Takes the content after newline repair and the facts of the transaction; gives the object without
`message-id` and `received`, which nobody can foretell, or the refusal.
"""

import base64
import datetime
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any

from .commands import HIDDEN, is_mailbox

TOO_MANY_HEADERS = (552, "5.3.4")
MAIL_LOOP = (554, "5.4.6")
NOT_UTF8 = (554, "5.6.3")

MAX_LIFTED = 1000
MAX_LIFTED_OCTETS = 256 * 1024
MAX_RECEIVED = 100

RESERVED = {
    "message-id", "received", "hostname", "recipient", "envelope", "mime", "mime-encoding",
    "connection", "key", "checks", "ips", "tags", "queues", "smarthost", "dsn", "smtputf8",
    "domain", "forcedip", "seen", "results", "http", "spool", "cli", "nextattempt", "dkim", "data",
    "headers", "mime-size", "mime-sha256", "key-encoding", "traceparent", "fingerprint",
    "__proto__", "constructor", "prototype",
}  # fmt: skip


@dataclass
class Settings:
    hostname: str = "mx.example.com"
    extract: bool = True
    json_binary: str = "base64"
    default_ips: list[str] = field(default_factory=list)
    mappable_ips: list[str] = field(default_factory=list)  # addresses or CIDR
    unmappable_ips: list[str] = field(default_factory=list)


@dataclass
class Peer:
    local_ip: str = "127.0.0.1"
    local_port: int = 25
    remote_ip: str = "127.0.0.1"
    remote_port: int = 40000
    secure: bool = False
    helo: str = "client.example.net"
    user: str | None = None
    tls: str | None = None
    cipher: str | None = None
    proxy: dict[str, Any] | None = None


@dataclass
class Recipient:
    mailbox: str
    notify: str | None = None
    orcpt: str | None = None


@dataclass
class Envelope:
    sender: str
    recipients: list[Recipient]
    ret: str | None = None
    envid: str | None = None
    smtputf8: bool = False


@dataclass
class Published:
    """All that comes of one message: one object a recipient, or the refusal."""

    objects: list[dict[str, Any]] = field(default_factory=list)
    mime: bytes = b""  # the bytes that each object's `mime` stands for
    priority: int | None = None  # of the AMQP message
    malformed: int = 0  # values that are not of their header's type
    reserved: int = 0  # headers that have one of the server's names
    refusal: tuple[int, str] | None = None


def published(content: bytes, envelope: Envelope, settings: Settings, peer: Peer) -> Published:
    """What a consumer of the queue gets for `content`."""
    result = Published()
    fields, rest = split_header(content)
    if sum(name.lower() == b"received" for name, _, _ in fields) > MAX_RECEIVED:
        result.refusal = MAIL_LOOP
        return result
    lifted: list[tuple[str, str, bytes]] = []
    kept = []
    for name, value, raw in fields:
        key = name.lower().decode()
        if not settings.extract or not key.startswith("x-mq-"):
            kept.append(raw)
        elif is_reserved(key.removeprefix("x-mq-")):
            result.reserved += 1
            kept.append(raw)
        elif len(raw) > MAX_LIFTED_OCTETS:
            result.refusal = TOO_MANY_HEADERS  # whatever its value is
            return result
        elif typed_value(key.removeprefix("x-mq-"), text_of(value)) is None:
            result.malformed += 1
            kept.append(raw)
        else:
            lifted.append((key.removeprefix("x-mq-"), text_of(value), raw))
    octets = sum(len(raw) for _, _, raw in lifted)
    if len(lifted) > MAX_LIFTED or octets > MAX_LIFTED_OCTETS:
        result.refusal = TOO_MANY_HEADERS
        return result
    result.mime = b"".join(kept) + rest
    text = utf8(result.mime)
    if text is None and settings.json_binary == "reject":
        result.refusal = NOT_UTF8
        return result
    properties = lift([(name, value) for name, value, _ in lifted])
    for recipient in envelope.recipients:
        one = _object(envelope, recipient, properties, settings, peer)
        if text is None:
            one["mime-encoding"] = "base64"
            one["mime"] = base64.b64encode(result.mime).decode()
        else:
            one["mime"] = text
        result.objects.append(one)
    priority = properties.get("priority")
    if priority is not None and 0 <= priority <= 255:
        result.priority = priority
    return result


def split_header(content: bytes) -> tuple[list[tuple[bytes, bytes, bytes]], bytes]:
    """The fields as (name, value, raw bytes with line ends), and everything behind them.

    Lines end at CRLF only: other line ends were repaired before, or are to be kept.
    """
    lines = re.findall(rb".*?\r\n|.+\Z", content, re.DOTALL)
    fields: list[list[bytes]] = []
    taken = 0
    for line in lines:
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1][1] += line
            taken += len(line)
            continue
        match = re.match(rb"([!-9;-~]{1,998})[ \t]*:", line)
        if not match:
            break
        fields.append([match[1], line, match[0]])
        taken += len(line)
    split = [(name, unfolded(raw[len(start) :]), raw) for name, raw, start in fields]
    return split, content[taken:]


def unfolded(value: bytes) -> bytes:
    """Every line end with the white space behind it as one space; trimmed."""
    return re.sub(rb"\r\n[ \t]+", b" ", value).strip(b" \t\r\n")


def text_of(value: bytes) -> str:
    """UTF-8, or Latin-1 where it is not."""
    text = utf8(value)
    return value.decode("latin-1") if text is None else text


def utf8(octets: bytes) -> str | None:
    try:
        return octets.decode("utf-8", "strict")
    except UnicodeDecodeError:
        return None


def is_reserved(name: str) -> bool:
    """The server's own name; "envelope" is one too, but its header is in the table."""
    return name == "" or (name in RESERVED and name != "envelope")


def sender_of(value: bytes) -> str | None:
    """The mailbox that x-mq-envelope names, "" for the null path; None where it is not valid."""
    if value.startswith(b"<") and value.endswith(b">"):
        value = value[1:-1]
    text = utf8(value) if value == b"" or is_mailbox(value) else None
    return None if text is None or HIDDEN.search(text) else text


INTEGERS = {"maxattempts", "priority", "smarthost-port"}
BOOLEANS = {"inlinecss", "keepmime"}
DATES = {"delayed", "maxdelivertime"}
TYPED = {"envelope", "pool", "maxattempts", "priority", "retries"} | BOOLEANS | DATES
QUEUES = {f"{kind}-queue": kind for kind in ("results", "failure", "success", "retry", "dsn")}
SMARTHOST = {
    "smarthost-hostname": "hostname",
    "smarthost-name": "hostname",
    "smarthost-username": "username",
    "smarthost-password": "password",
    "smarthost-port": "port",
}
DSN = {f"dsn-{part}": part for part in ("notify", "ret", "orcpt", "envid", "envelope", "mta")}


def lift(headers: list[tuple[str, str]]) -> dict[str, Any]:
    """Properties of lifted headers, in the object's form."""
    properties: dict[str, Any] = {}
    others: dict[str, list[str]] = {}
    for name, value in headers:
        typed = typed_value(name, value)
        if name in ("ip", "tag"):
            properties.setdefault(name + "s", []).append(value)
        elif name in QUEUES:
            properties.setdefault("queues", {})[QUEUES[name]] = value
        elif name in SMARTHOST:
            properties.setdefault("smarthost", {})[SMARTHOST[name]] = typed
        elif name in DSN:
            upper = name in ("dsn-notify", "dsn-ret")
            properties.setdefault("dsn", {})[DSN[name]] = value.upper() if upper else value
        elif name == "delayed":
            properties |= {"delayed": value, "nextattempt": {"time": value}}
        elif name in TYPED:
            properties[name] = typed
        else:
            others.setdefault(name, []).append(value)
    for name, values in others.items():
        properties[name] = values[0] if len(values) == 1 else values
    return properties


def typed_value(name: str, value: str) -> Any:
    """The value in its header's type; None where it is not of that type."""
    if name == "envelope":
        return sender_of(value.encode())
    if name in INTEGERS:
        return integer(value)
    if name in BOOLEANS:
        words = dict.fromkeys(("true", "yes", "on", "1"), True)
        words |= dict.fromkeys(("false", "no", "off", "0"), False)
        return words.get(value.lower()) if value.isascii() else None
    if name in DATES:
        return value if is_date(value) else None
    if name == "retries":
        numbers = [integer(item) for item in value.split(",")]
        return None if None in numbers else numbers
    return value


def integer(text: str) -> int | None:
    text = text.strip(" \t")
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        return None
    digits = text.lstrip("+-").lstrip("0") or "0"
    if len(digits) > 19:
        return None
    number = -int(digits) if text.startswith("-") else int(digits)
    return number if -(2**63) <= number < 2**63 else None


def is_date(text: str) -> bool:
    match = re.fullmatch(r"([0-9]{4})-([0-9]{2})-([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})", text)
    if not match:
        return False
    try:
        datetime.datetime(*(int(part) for part in match.groups()))
    except ValueError:
        return False
    return True


def _object(
    envelope: Envelope,
    recipient: Recipient,
    properties: dict[str, Any],
    settings: Settings,
    peer: Peer,
) -> dict[str, Any]:
    one: dict[str, Any] = {
        "hostname": settings.hostname,
        "envelope": envelope.sender,
        "recipient": recipient.mailbox,
        "connection": connection(peer),
    }
    dsn = {
        "notify": recipient.notify,
        "ret": envelope.ret,
        "orcpt": recipient.orcpt,
        "envid": envelope.envid,
    }
    dsn = {name: value for name, value in dsn.items() if value is not None}
    dsn |= properties.get("dsn", {})
    if dsn:
        one["dsn"] = dsn
    if envelope.smtputf8:
        one["smtputf8"] = True
    one |= {name: value for name, value in properties.items() if name != "dsn"}
    if "ips" not in one and "pool" not in one:
        addresses = sending_ips(settings, peer)
        if addresses:
            one["ips"] = addresses
    return one


def sending_ips(settings: Settings, peer: Peer) -> list[str]:
    """`ips` where no header chose: the address that the client connected to, or the default."""
    mappable = (
        within(peer.local_ip, settings.mappable_ips) if settings.mappable_ips else not peer.proxy
    )
    if mappable and not within(peer.local_ip, settings.unmappable_ips):
        return [plain(peer.local_ip)]
    return settings.default_ips


def connection(peer: Peer) -> dict[str, Any]:
    """The property `connection`."""
    facts: dict[str, Any] = {
        "local-ip": plain(peer.local_ip),
        "local-port": peer.local_port,
        "remote-ip": plain(peer.remote_ip),
        "remote-port": peer.remote_port,
        "secure": peer.secure,
        "helo": peer.helo,
    }
    optional = {"user": peer.user, "tls": peer.tls, "cipher": peer.cipher, "proxy": peer.proxy}
    return facts | {name: value for name, value in optional.items() if value is not None}


def plain(address: str) -> str:
    """Canonical text, an IPv4-mapped address as IPv4."""
    parsed = ipaddress.ip_address(address)
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def within(address: str, ranges: list[str]) -> bool:
    return any(
        ipaddress.ip_address(plain(address)) in ipaddress.ip_network(net, strict=False)
        for net in ranges
    )
