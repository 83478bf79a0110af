"""A message becomes what is published: one `Outgoing` a recipient.

Takes the envelope, the connection's facts and the content. Gives JSON text: a short prefix per
recipient and one `Tail` that all recipients share, `mime` last in it, which is made when it is
read. Does no I/O, and works in steps, so that a large message does not keep the others waiting.
"""

import time
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import orjson

from fastsmtp import replies
from fastsmtp._content import HeaderScan
from fastsmtp._escape import Measure
from fastsmtp._tail import Tail
from fastsmtp.availability import Availability
from fastsmtp.connection_facts import connection_facts
from fastsmtp.envelope import Envelope, Recipient
from fastsmtp.fingerprint import Fingerprints
from fastsmtp.headers import Lifted, RefusedError
from fastsmtp.ids import Ids
from fastsmtp.metrics import Metrics
from fastsmtp.peer import Peer
from fastsmtp.route import Route
from fastsmtp.settings import Settings
from fastsmtp.trace_field import received_field
from fastsmtp.values import Network

SLICE = 1024 * 1024
"""Bytes of content that are looked at in one step."""

MADE_ONCE = 128 * 1024
"""Bytes of the longest text that is made once for several recipients, a longer one for each."""

RECIPIENTS = 1000
"""Recipients whose messages are made in one step."""

PREFIX_ROOM = 16 * 1024
"""Octets of the largest body that are kept for a recipient's own properties."""

MAX_RECEIVED = 100
"""Received fields of a message that is no loop (RFC 5321 §6.3)."""

Span = tuple[bytes | bytearray, int, int]
"""A part of the content: octets[start:stop]."""

ChooseRoute = Callable[[Peer, Envelope, Recipient, Lifted], "Route | None"]
"""Chooses a recipient's route by the client, the envelope and the lifted headers."""

Steps = Generator[None, None, "list[Outgoing]"]
"""Yields where other work may be done in between."""


class Outgoing:
    """One recipient's message, ready for a sink. Its JSON body is `prefix` + `tail`.

    All recipients of a message share one `tail` object, so a sink may frame it once.
    """

    __slots__ = ("accepted", "encoding", "fingerprint", "id", "prefix", "priority", "route", "tail")

    def __init__(
        self,
        id: str,
        priority: int | None,
        encoding: str,
        prefix: bytes,
        tail: Tail | bytes | bytearray,
        route: Route | None = None,
        accepted: int = 0,
        fingerprint: str = "",
    ) -> None:
        """`tail` may also be the text itself."""
        self.id = id  # the property message-id: letters and digits, fresh for every acceptance
        self.priority = priority  # AMQP priority, 0 to 255
        self.encoding = encoding  # "" or the property mime-encoding
        self.prefix = prefix
        self.tail = tail if isinstance(tail, Tail) else Tail.of(tail)
        self.accepted = accepted  # seconds since 1970; 0: now, it has not been stored yet
        self.route = route  # None: exchange and routing key of the settings when it is published
        self.fingerprint = fingerprint  # "" or the AMQP header fingerprint

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self.prefix) + self.tail.size

    def __bytes__(self) -> bytes:
        """The whole body."""
        return self.prefix + bytes(self.tail)


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
        self._wants_fingerprints = settings.rabbitmq_fingerprint
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
        head, spans = self._parts(envelope, peer, content, lifted, scan)
        measure = Measure()
        for octets, start, stop in spans:
            measure.add(octets, start, stop)
        tail = self._tail(head, spans, measure)
        if len(envelope.recipients) > 1 and tail.size <= MADE_ONCE:
            tail = tail.made()
        fingerprints = self._fingerprints(envelope, peer, scan, len(content))
        if fingerprints is not None:
            fingerprints.add(content, 0, len(content))
        return self._outgoing(envelope, peer, lifted, tail, envelope.recipients, fingerprints)

    def steps(self, envelope: Envelope, peer: Peer, pieces: list[bytes]) -> Steps:
        """The same, of a large message: what `compose` gives is the generator's value."""
        content = yield from _with_whole_header(pieces)
        lifted = self._lifted(content, self._metrics, peer)
        scan = HeaderScan(content, lifted.lift if self._may_lift(peer) else None)
        while not scan.run(SLICE):
            yield
        head, spans = self._parts(envelope, peer, content, lifted, scan)
        rest = [(piece, 0, len(piece)) for piece in pieces]
        pieces.clear()
        size = len(content) + sum([length for _, _, length in rest])
        fingerprints = self._fingerprints(envelope, peer, scan, size)
        if fingerprints is not None:
            yield from _in_slices([(content, 0, len(content)), *rest], fingerprints)
        spans += rest
        measure = Measure()
        yield from _in_slices(spans, measure)
        tail = self._tail(head, spans, measure)
        outgoing: list[Outgoing] = []
        for first in range(0, len(envelope.recipients), RECIPIENTS):
            some = envelope.recipients[first : first + RECIPIENTS]
            outgoing += self._outgoing(envelope, peer, lifted, tail, some, fingerprints)
            yield
        return outgoing

    def _parts(
        self,
        envelope: Envelope,
        peer: Peer,
        content: bytes | bytearray,
        lifted: Lifted,
        scan: HeaderScan,
    ) -> tuple[bytes, list[Span]]:
        """The JSON text that all recipients share, but for `mime`, and what `content` adds to it.

        Raises headers.RefusedError.
        """
        if scan.received > MAX_RECEIVED:
            raise RefusedError(replies.LOOP)
        now = int(time.time())
        spans = _without(content, scan.cuts)
        if self._settings.smtp_received:
            field = received_field(self._settings.smtp_hostname, envelope, peer, now)
            spans.insert(0, (field, 0, len(field)))
        return self._shared_properties(envelope, peer, lifted, now), spans

    def _tail(self, head: bytes, spans: list[Span], measure: Measure) -> Tail:
        """End `head` with the content as text where it is text and fits, else as base64.

        Raises RefusedError where it would have to be base64 and may not.
        """
        if measure.is_utf8 and len(head) + measure.size <= self._longest_text():
            return Tail.text(head + b',"mime":"', spans, measure.size)
        if self._settings.json_binary == "reject":
            raise RefusedError(replies.TOO_LARGE if measure.is_utf8 else replies.NOT_UTF8)
        return Tail.base64(head + b',"mime-encoding":"base64","mime":"', spans)

    def _longest_text(self) -> int:
        """Bytes of the longest tail that the sink takes, and that memory has room for."""
        availability = self._availability
        longest = availability.body_limit - PREFIX_ROOM
        half = availability.memory.limit // 2
        return longest if longest < half else half

    def _may_lift(self, peer: Peer) -> bool:
        if self._extract == "trusted":
            return peer.trusted or bool(peer.user)
        return self._extract == "true"

    def _fingerprints(
        self, envelope: Envelope, peer: Peer, scan: HeaderScan, size: int
    ) -> Fingerprints | None:
        """What takes the content, of `size` bytes, to make fingerprints; None where there are none.

        Without Message-ID and Date, content that reads the same may well be two messages.
        """
        if self._wants_fingerprints and scan.has_message_id and scan.has_date:
            return Fingerprints(envelope, peer, size)
        return None

    def _outgoing(
        self,
        envelope: Envelope,
        peer: Peer,
        lifted: Lifted,
        tail: Tail,
        recipients: list[Recipient],
        fingerprints: Fingerprints | None,
    ) -> list["Outgoing"]:
        """The messages of these `recipients` of `envelope`."""
        priority = lifted.properties.get("priority")
        if priority is not None and not 0 <= priority <= 255:
            priority = None
        shared = _shares_dsn(envelope, lifted.dsn)
        outgoing = []
        for recipient in recipients:
            message_id = self._ids.fresh()
            prefix = b"".join(
                (
                    b'{"message-id":"',
                    message_id.encode(),
                    b'","recipient":',
                    orjson.dumps(recipient.mailbox),
                )
            )
            if shared or recipient.notify is not None or recipient.orcpt is not None:
                prefix += _begun_dsn(recipient, lifted.dsn, shared)
            route = None
            if self._route is not None:
                route = self._route(peer, envelope, recipient, lifted)
            mark = "" if fingerprints is None else fingerprints.of(recipient)
            one = Outgoing(message_id, priority, tail.encoding, prefix, tail, route, 0, mark)
            outgoing.append(one)
        return outgoing

    def _shared_properties(self, envelope: Envelope, peer: Peer, lifted: Lifted, now: int) -> bytes:
        """The JSON text of what all recipients have in common, but for `mime`.

        It begins with the rest of `dsn` where a part of that is shared, see `_begun_dsn`.
        """
        properties = lifted.properties
        sender = properties.pop("envelope", envelope.sender) if properties else envelope.sender
        connection, ips = self._connection(peer)
        text = b"".join(
            (
                b',"received":"',
                _timestamp(now),
                b'","hostname":',
                self._hostname,
                b',"envelope":',
                orjson.dumps(sender),
                connection,
            )
        )
        if envelope.smtputf8:
            text += b',"smtputf8":true'
        if "ips" not in properties and "pool" not in properties:
            text += ips
        if properties:
            text += b"," + orjson.dumps(properties)[1:-1]
        if _shares_dsn(envelope, lifted.dsn):
            return orjson.dumps(_shared_dsn(envelope, lifted.dsn))[1:] + text
        return text

    def _connection(self, peer: Peer) -> tuple[bytes, bytes]:
        """The JSON text of the properties `connection` and `ips`; made anew when facts change."""
        changing = (peer.helo, peer.user, peer.secure)
        if peer.described is None or peer.described[0] != changing:
            ips = self._ips(peer)
            text = b',"connection":' + orjson.dumps(connection_facts(peer))
            described = text, b',"ips":' + orjson.dumps(ips) if ips else b""
            peer.described = changing, described
        return peer.described[1]

    def _ips(self, peer: Peer) -> Sequence[str]:
        """Where mail goes out from, by the address that the client connected to."""
        settings = self._settings
        mappable = (
            _within(peer.local_ip, settings.smtp_mappable_ips)
            if settings.smtp_mappable_ips
            else peer.proxy is None and not peer.is_introduced
        )
        if mappable and not _within(peer.local_ip, settings.smtp_unmappable_ips):
            return [peer.local_ip]
        return settings.smtp_default_ips


def _with_whole_header(pieces: list[bytes]) -> Generator[None, None, bytes | bytearray]:
    """Take from `pieces` as many as hold the whole header block, as one."""
    if not pieces:
        return b""
    content: bytes | bytearray = pieces[0]
    taken = 1
    while taken < len(pieces):
        scan = HeaderScan(content, None)
        while not scan.run(SLICE):
            yield
        if not scan.needs_more:
            break
        del scan  # it would hold on to the buffer that grows now
        if taken == 1:
            content = bytearray(content)
        wanted = 2 * len(content) + 1
        while taken < len(pieces) and len(content) < wanted:
            content += pieces[taken]
            pieces[taken] = b""
            taken += 1
            yield
    del pieces[:taken]
    return content


def _in_slices(spans: list[Span], reader: Measure | Fingerprints) -> Generator[None, None, None]:
    """Give `reader` the content of `spans`, a slice in each step."""
    left = SLICE
    for octets, start, end in spans:
        while start < end:
            stop = min(start + left, end)
            reader.add(octets, start, stop)
            left -= stop - start
            start = stop
            if left == 0:
                left = SLICE
                yield


def _without(content: bytes | bytearray, cuts: list[tuple[int, int]]) -> list[Span]:
    """`content` less the fields that were lifted."""
    if not cuts and content:
        return [(content, 0, len(content))]
    spans: list[Span] = []
    kept = 0
    for start, stop in cuts:
        if kept < start:
            spans.append((content, kept, start))
        kept = stop
    if kept < len(content):
        spans.append((content, kept, len(content)))
    return spans


def _shares_dsn(envelope: Envelope, lifted: dict[str, Any]) -> bool:
    """Whether anything is asked of the delivery reports of all recipients."""
    return bool(lifted) or envelope.ret is not None or envelope.envid is not None


def _shared_dsn(envelope: Envelope, lifted: dict[str, Any]) -> dict[str, Any]:
    """What is asked of the delivery reports of all recipients.

    By parameters of MAIL (RFC 3461), and headers over them.
    """
    dsn = {}
    if envelope.ret is not None:
        dsn["ret"] = envelope.ret
    if envelope.envid is not None:
        dsn["envid"] = envelope.envid
    dsn.update(lifted)
    return dsn


def _begun_dsn(recipient: Recipient, lifted: dict[str, Any], shared: bool) -> bytes:
    """The property `dsn` with what RCPT asked, as far as headers say nothing else.

    Whole, or where a part is `shared` up to that, which stands at the beginning of the tail.
    """
    own = {}
    if recipient.notify is not None and "notify" not in lifted:
        own["notify"] = recipient.notify
    if recipient.orcpt is not None and "orcpt" not in lifted:
        own["orcpt"] = recipient.orcpt
    text = b',"dsn":' + orjson.dumps(own)
    if not shared:
        return text
    return text[:-1] + b"," if own else text[:-1]


@lru_cache(maxsize=4)
def _timestamp(second: int) -> bytes:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S").encode()


@lru_cache(maxsize=1024)
def _within(address: str, networks: tuple[Network, ...]) -> bool:
    parsed = ip_address(address)
    return any(parsed in network for network in networks)
