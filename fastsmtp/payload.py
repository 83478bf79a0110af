"""A message becomes what is published: one `Outgoing` a recipient.

Takes the envelope, the connection's facts and the content; gives JSON text. The text behind the
recipient's own properties, `mime` last in it, is made once and shared by all recipients.
Does no I/O, and works in steps, so that a large message does not keep the others waiting.
"""

import time
from base64 import b64encode
from codecs import utf_8_decode
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import orjson

from fastsmtp import replies
from fastsmtp._content import HeaderScan
from fastsmtp.availability import Availability
from fastsmtp.envelope import Envelope, Recipient
from fastsmtp.headers import Lifted, RefusedError
from fastsmtp.ids import Ids
from fastsmtp.metrics import Metrics
from fastsmtp.peer import Peer, Proxy
from fastsmtp.route import Route
from fastsmtp.settings import Settings
from fastsmtp.values import Network

SLICE = 3 * 64 * 1024
"""Octets of content that are worked on in one step; base64 of it needs no padding."""

PREFIX_ROOM = 16 * 1024
"""Octets of the largest body that are kept for a recipient's own properties."""

MAX_RECEIVED = 100
"""Received fields of a message that is no loop (RFC 5321 §6.3)."""

Piece = bytes | memoryview

ChooseRoute = Callable[[Peer, Envelope, Recipient, Lifted], Route | None]
"""Chooses a recipient's route by the client, the envelope and the lifted headers."""

Steps = Generator[None, None, "list[Outgoing]"]
"""Yields where other work may be done in between."""


class Outgoing:
    """One recipient's message, ready for a sink. Its JSON body is `prefix` + `tail`.

    All recipients of a message share one `tail` object, so a sink may frame it once.
    """

    __slots__ = ("encoding", "id", "prefix", "priority", "route", "tail")

    def __init__(
        self,
        id: str,
        priority: int | None,
        encoding: str,
        prefix: bytes,
        tail: bytes | bytearray,
        route: Route | None = None,
    ) -> None:
        self.id = id  # the property message-id: letters and digits, fresh for every acceptance
        self.priority = priority  # AMQP priority, 0 to 255
        self.encoding = encoding  # "" or the property mime-encoding
        self.prefix = prefix
        self.tail = tail
        self.route = route  # None: exchange and routing key of the settings when it is published

    @property
    def size(self) -> int:
        """Octets of the body."""
        return len(self.prefix) + len(self.tail)


class _TooLongError(Exception):
    """The content does not fit the sink as text."""


class Composer:
    """Makes the published messages of one worker."""

    def __init__(
        self,
        settings: Settings,
        availability: Availability,
        metrics: Metrics,
        lifted: Callable[[bytes | bytearray, Metrics, Peer], Lifted] = Lifted,
        route: ChooseRoute | None = None,
    ) -> None:
        """`lifted` is what each message's headers are lifted into.

        `route` chooses where each recipient's message is published; None: as the settings say.
        """
        self._settings = settings
        self._availability = availability
        self._metrics = metrics
        self._lifted = lifted
        self._route = route
        self._ids = Ids()
        self._extract = settings.smtp_extract
        self._hostname = orjson.dumps(settings.smtp_hostname)

    def compose(self, envelope: Envelope, peer: Peer, pieces: list[bytes]) -> list[Outgoing]:
        """Make one `Outgoing` for each recipient of `envelope`, in its order, at once.

        `pieces` is the content; the list is used up. Raises headers.RefusedError.
        """
        content = b"".join(pieces)
        pieces.clear()
        lifted = self._lifted(content, self._metrics, peer)
        scan = HeaderScan(content, lifted.lift if self._may_lift(peer) else None)
        scan.run(len(content) + 1)
        head, mime = self._parts(envelope, peer, content, lifted, scan)
        whole = b"".join(mime)
        encoding = ""
        try:
            text = orjson.dumps(whole.decode())
            self._fit(len(head) + len(text))
            tail = b'%b,"mime":%b}' % (head, text)
        except (UnicodeDecodeError, _TooLongError) as error:
            self._refuse_binary(error)
            encoding = "base64"
            tail = b'%b,"mime-encoding":"base64","mime":"%b"}' % (head, b64encode(whole))
        return self._outgoing(envelope, peer, lifted, encoding, tail)

    def steps(self, envelope: Envelope, peer: Peer, pieces: list[bytes]) -> Steps:
        """The same, of a large message: what `compose` gives is the generator's value."""
        content = yield from _with_whole_header(pieces)
        lifted = self._lifted(content, self._metrics, peer)
        scan = HeaderScan(content, lifted.lift if self._may_lift(peer) else None)
        while not scan.run(SLICE):
            yield
        head, mime = self._parts(envelope, peer, content, lifted, scan)
        mime += pieces
        pieces.clear()
        encoding = ""
        try:
            tail = yield from self._text_tail(head, mime)
        except (UnicodeDecodeError, _TooLongError) as error:
            self._refuse_binary(error)
            encoding = "base64"
            tail = yield from _base64_tail(head, mime)
        return self._outgoing(envelope, peer, lifted, encoding, tail)

    def _parts(
        self,
        envelope: Envelope,
        peer: Peer,
        content: bytes | bytearray,
        lifted: Lifted,
        scan: HeaderScan,
    ) -> tuple[bytes, list[Piece]]:
        """The JSON text that all recipients share, but for `mime`, and what `content` adds to it.

        Raises headers.RefusedError.
        """
        if scan.received > MAX_RECEIVED:
            raise RefusedError(replies.LOOP)
        now = int(time.time())
        mime = _without(content, scan.cuts)
        if self._settings.smtp_received:
            mime.insert(0, self._received_field(envelope, peer, now))
        return self._shared_properties(envelope, peer, lifted, now), mime

    def _fit(self, octets: int) -> None:
        """Raises _TooLongError where so long a text does not fit the sink."""
        if octets > self._availability.body_limit - PREFIX_ROOM:
            raise _TooLongError

    def _refuse_binary(self, error: Exception) -> None:
        """Raises RefusedError where content that is no text may not become base64."""
        if self._settings.json_binary == "reject":
            not_utf8 = isinstance(error, UnicodeDecodeError)
            raise RefusedError(replies.NOT_UTF8 if not_utf8 else replies.TOO_LARGE) from None

    def _may_lift(self, peer: Peer) -> bool:
        if self._extract == "trusted":
            return peer.trusted or bool(peer.user)
        return self._extract == "true"

    def _outgoing(
        self,
        envelope: Envelope,
        peer: Peer,
        lifted: Lifted,
        encoding: str,
        tail: bytes | bytearray,
    ) -> list["Outgoing"]:
        priority = lifted.properties.get("priority")
        if priority is not None and not 0 <= priority <= 255:
            priority = None
        asked = bool(lifted.dsn) or envelope.ret is not None or envelope.envid is not None
        outgoing = []
        for recipient in envelope.recipients:
            message_id = self._ids.fresh()
            prefix = b"".join(
                (
                    b'{"message-id":"',
                    message_id.encode(),
                    b'","recipient":',
                    orjson.dumps(recipient.mailbox),
                )
            )
            if asked or recipient.notify is not None or recipient.orcpt is not None:
                prefix += b',"dsn":' + orjson.dumps(_dsn(envelope, recipient, lifted.dsn))
            route = None
            if self._route is not None:
                route = self._route(peer, envelope, recipient, lifted)
            outgoing.append(Outgoing(message_id, priority, encoding, prefix, tail, route))
        return outgoing

    def _shared_properties(self, envelope: Envelope, peer: Peer, lifted: Lifted, now: int) -> bytes:
        """The JSON text of what all recipients have in common, but for `mime`."""
        properties = lifted.properties
        sender = properties.pop("envelope", envelope.sender)
        connection, ips = self._connection(peer)
        text = b',"received":"%b","hostname":%b,"envelope":%b%b' % (
            _timestamp(now),
            self._hostname,
            orjson.dumps(sender),
            connection,
        )
        if envelope.smtputf8:
            text += b',"smtputf8":true'
        if "ips" not in properties and "pool" not in properties:
            text += ips
        if properties:
            text += b"," + orjson.dumps(properties)[1:-1]
        return text

    def _connection(self, peer: Peer) -> tuple[bytes, bytes]:
        """The JSON text of the properties `connection` and `ips`; made anew when facts change."""
        changing = (peer.helo, peer.user, peer.secure)
        if peer.described is None or peer.described[0] != changing:
            ips = self._ips(peer)
            text = b',"connection":' + orjson.dumps(_connection_facts(peer))
            peer.described = (changing, text, b',"ips":' + orjson.dumps(ips) if ips else b"")
        return peer.described[1:]

    def _ips(self, peer: Peer) -> Sequence[str]:
        """Where mail goes out from, by the address that the client connected to."""
        settings = self._settings
        mappable = (
            _within(peer.local_ip, settings.smtp_mappable_ips)
            if settings.smtp_mappable_ips
            else peer.proxy is None
        )
        if mappable and not _within(peer.local_ip, settings.smtp_unmappable_ips):
            return [peer.local_ip]
        return settings.smtp_default_ips

    def _received_field(self, envelope: Envelope, peer: Peer, now: int) -> bytes:
        """A trace field (RFC 5321 §4.4, protocol names RFC 3848, RFC 6531 §4.3)."""
        protocol = "UTF8SMTP" if envelope.smtputf8 else "ESMTP"
        protocol += ("S" if peer.secure else "") + ("A" if peer.user else "")
        helo = "".join(c for c in peer.helo if c.isprintable() and c not in "()\\") or "unknown"
        literal = f"IPv6:{peer.remote_ip}" if ":" in peer.remote_ip else peer.remote_ip
        return (
            f"Received: from {helo} ([{literal}])\r\n"
            f"\tby {self._settings.smtp_hostname} (fastsmtp) with {protocol};\r\n"
            f"\t{format_datetime(datetime.fromtimestamp(now, UTC))}\r\n"
        ).encode()

    def _text_tail(self, head: bytes, mime: list[Piece]) -> Generator[None, None, bytearray]:
        """The shared JSON text with `mime` as text.

        Raises UnicodeDecodeError where the content is not UTF-8, _TooLongError where its escaped
        text would not fit the sink.
        """
        tail = bytearray(head)
        tail += b',"mime":"'
        carried = b""  # the beginning of a character
        for piece in mime:
            for start in range(0, len(piece), SLICE):
                octets = carried + piece[start : start + SLICE]
                characters, used = utf_8_decode(octets, "strict", False)
                carried = octets[used:]
                tail += memoryview(orjson.dumps(characters))[1:-1]
                self._fit(len(tail))
                yield
        utf_8_decode(carried, "strict", True)
        tail += b'"}'
        return tail


def _base64_tail(head: bytes, mime: list[Piece]) -> Generator[None, None, bytearray]:
    tail = bytearray(head)
    tail += b',"mime-encoding":"base64","mime":"'
    carried = b""
    for piece in mime:
        for start in range(0, len(piece), SLICE):
            octets = carried + piece[start : start + SLICE]
            whole = len(octets) // 3 * 3
            tail += b64encode(octets[:whole])
            carried = octets[whole:]
            if len(tail) > SLICE:
                yield
    tail += b64encode(carried)
    tail += b'"}'
    return tail


def _with_whole_header(pieces: list[bytes]) -> Generator[None, None, bytes | bytearray]:
    """Take from `pieces` as many as hold the whole header block, as one."""
    if not pieces:
        return b""
    content = pieces[0]
    if len(pieces) == 1 or b"\r\n\r\n" in content or content.startswith(b"\r\n"):
        del pieces[0]
        return content
    joined = bytearray()
    taken = 0
    for piece in pieces:
        before = max(0, len(joined) - 3)
        joined += piece
        taken += 1
        if joined.find(b"\r\n\r\n", before) >= 0:
            break
        yield
    del pieces[:taken]
    return joined


def _without(content: bytes | bytearray, cuts: list[tuple[int, int]]) -> list[Piece]:
    """`content` less the fields that were lifted, in pieces that copy nothing."""
    if not cuts:
        return [content if isinstance(content, bytes) else memoryview(content)]
    view = memoryview(content)
    pieces: list[Piece] = []
    kept = 0
    for start, stop in cuts:
        if kept < start:
            pieces.append(view[kept:start])
        kept = stop
    if kept < len(view):
        pieces.append(view[kept:])
    return pieces


def _dsn(envelope: Envelope, recipient: Recipient, lifted: dict[str, Any]) -> dict[str, Any]:
    """What is asked of delivery reports: by SMTP parameters (RFC 3461), and headers over them."""
    dsn: dict[str, Any] = {}
    if recipient.notify is not None:
        dsn["notify"] = recipient.notify
    if envelope.ret is not None:
        dsn["ret"] = envelope.ret
    if recipient.orcpt is not None:
        dsn["orcpt"] = recipient.orcpt
    if envelope.envid is not None:
        dsn["envid"] = envelope.envid
    dsn.update(lifted)
    return dsn


def _connection_facts(peer: Peer) -> dict[str, Any]:
    connection: dict[str, Any] = {
        "local-ip": peer.local_ip,
        "local-port": peer.local_port,
        "remote-ip": peer.remote_ip,
        "remote-port": peer.remote_port,
        "secure": peer.secure,
    }
    if peer.user:
        connection["user"] = peer.user
    connection["helo"] = peer.helo
    if peer.tls:
        connection["tls"] = peer.tls
        connection["cipher"] = peer.cipher
    if peer.proxy is not None:
        connection["proxy"] = _proxy(peer.proxy)
    return connection


def _proxy(proxy: Proxy) -> dict[str, Any]:
    facts: dict[str, Any] = {"remote-ip": proxy.remote_ip, "version": proxy.version}
    texts = {
        "unique-id": proxy.unique_id,
        "sni": proxy.sni,
        "alpn": proxy.alpn,
        "tls": proxy.tls,
        "client-cn": proxy.client_cn,
    }
    facts.update((key, value) for key, value in texts.items() if value)
    if proxy.client_verified is not None:
        facts["client-verified"] = proxy.client_verified
    return facts


@lru_cache(maxsize=4)
def _timestamp(second: int) -> bytes:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S").encode()


@lru_cache(maxsize=1024)
def _within(address: str, networks: tuple[Network, ...]) -> bool:
    parsed = ip_address(address)
    return any(parsed in network for network in networks)
