"""TLS on an accepted connection: the protocol of its transport, and the transport of its client.

Takes octets from the wire, gives `protocol` what is in them; takes its replies, gives the transport
one write for a read. Never waits, never reads on while `protocol` has paused it, and keeps no more
than one read of the transport then. OpenSSL is Python's `ssl`; how long a handshake or an end may
take is the deadlines'.
"""

import asyncio
import contextlib
import ssl
from typing import Protocol, cast

RECORD = 16 * 1024
"""Octets of a record's content (RFC 8446 §5.1), and so many that OpenSSL is given at once."""

RECORDS = 32
"""Records that OpenSSL is given at once: a KeyUpdate of 27 octets keeps it busy for 0.2 ms."""

EMPTY = 100
"""Records without data that a client may send, and one more for each megabyte of data."""


class TooManyEmptyError(ssl.SSLError):
    """A client sends records without data, such as KeyUpdate (RFC 8446 §4.6.3), to keep us busy."""

    reason = "TOO_MANY_EMPTY_RECORDS"


_FAILURES = (
    ("ALERT", "alert"),
    ("NO_SHARED_CIPHER", "cipher"),
    ("UNSUPPORTED_PROTOCOL", "version"),
    ("VERSION_TOO_LOW", "version"),
    ("WRONG_VERSION_NUMBER", "not_tls"),
    ("HTTP_REQUEST", "not_tls"),
    ("HTTPS_PROXY_REQUEST", "not_tls"),
    ("UNKNOWN_PROTOCOL", "not_tls"),
    ("PACKET_LENGTH_TOO_LONG", "not_tls"),
    ("RECORD_LAYER_FAILURE", "not_tls"),
    ("BAD_RECORD_TYPE", "not_tls"),
)
"""Words in OpenSSL's reason, and which of `metrics.TLS_FAILURES` that is."""


def failure(error: ssl.SSLError | None, in_handshake: bool) -> str:
    """The one of `metrics.TLS_FAILURES` that `Secured.insecure` was called for."""
    if error is None or isinstance(error, ssl.SSLEOFError):
        return "hung_up"
    if not in_handshake:
        return "broken"
    reason = error.reason or ""
    return next((each for words, each in _FAILURES if words in reason), "other")


class Secured(Protocol):
    """The protocol above: asyncio's, and what becomes of the handshake."""

    def secured(self, version: str, cipher: str) -> None:
        """It is done; what comes now was encrypted."""

    def insecure(self, error: ssl.SSLError | None) -> None:
        """TLS failed, for this reason or because the client left; `connection_lost` follows."""

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol, for this and what follows."""

    def eof_received(self) -> bool:
        """True: the connection stays open for what is still to be said."""

    def pause_writing(self) -> None:
        """The client does not read."""

    def resume_writing(self) -> None:
        """It has read."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The last call."""


class TlsStream:
    """One connection's, from its ClientHello on."""

    __slots__ = (
        "_busy",
        "_done",
        "_fed",
        "_header",
        "_incoming",
        "_octets",
        "_outgoing",
        "_over",
        "_paused",
        "_protocol",
        "_read_records",
        "_records",
        "_rest",
        "_silent",
        "_ticket_waits",
        "_tls",
        "_transport",
        "_unread",
    )

    def __init__(
        self, transport: asyncio.Transport, protocol: Secured, context: ssl.SSLContext
    ) -> None:
        """From now on all that comes in through `transport` is TLS."""
        self._transport = transport
        self._protocol: Secured | None = protocol  # until the connection is lost
        self._incoming = ssl.MemoryBIO()  # from the wire
        self._outgoing = ssl.MemoryBIO()  # for the wire, not written yet
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._unread = b""  # from the wire, of which OpenSSL has had the first `_fed`
        self._fed = 0
        self._header = 0  # octets of a record's header that OpenSSL has had
        self._rest = (
            0  # octets of the record that it has not had; below 5 of the header: its length
        )
        self._records = 0  # that it has had whole since the handshake
        self._read_records = 0  # of those, the ones with data
        self._octets = 0  # of data
        self._done = False  # the handshake is
        self._busy = False  # what was read is on its way up: replies wait for its end
        self._paused = False  # `protocol` takes no more
        self._ticket_waits = False  # a session ticket, all there is, leaves with the first reply
        self._over = False  # what still comes is thrown away
        self._silent = False  # close_notify was said, or will never be
        transport.set_protocol(cast("asyncio.Protocol", self))

    # What the transport calls

    def data_received(self, data: bytes) -> None:
        """Octets from the wire; there is no rest of others, or it would be paused."""
        if not self._over:
            self._unread, self._fed = data, 0
            self._go_on()

    def eof_received(self) -> bool:
        """The wire's end, with or without TLS's before it: SMTP knows itself what is whole."""
        if self._protocol is None:
            return False
        if not self._done:
            self._fail(None)
            return False
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        """The client does not read."""
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """It has read."""
        if self._protocol is not None:
            self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The last call; nobody is held any longer."""
        protocol, self._protocol = self._protocol, None
        self._end()
        if protocol is not None:
            protocol.connection_lost(exc)

    # What the protocol calls, as a transport's

    def write(self, data: bytes) -> None:
        """Say this, encrypted."""
        if self._silent:
            return
        self._ticket_waits = False
        at = self._tls.write(data)
        while at < len(data):
            at += self._tls.write(memoryview(data)[at:])
        if not self._busy:
            self._flush()

    def can_write_eof(self) -> bool:
        """TLS has an end of its own, each way (RFC 8446 §6.1)."""
        return True

    def write_eof(self) -> None:
        """Say no more, and throw away what still comes until the client hangs up."""
        if not self._silent:
            self._say_goodbye()
            self._transport.write_eof()

    def close(self) -> None:
        """Say no more, and hang up when all is written."""
        if not self._silent:
            self._say_goodbye()
        self._transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        self._end()
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """Bytes that the client has not taken."""
        return self._transport.get_write_buffer_size()

    def is_closing(self) -> bool:
        """It was closed or aborted."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """Give `protocol` nothing until `resume_reading`."""
        self._paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on, when others had their turn, with what has been read."""
        self._paused = False
        if self._fed < len(self._unread) or self._incoming.pending:
            asyncio.get_running_loop().call_soon(self._resume)
        else:
            self._transport.resume_reading()

    def _resume(self) -> None:
        if not self._paused and not self._over:
            self._go_on()
        if not self._paused:
            self._transport.resume_reading()

    # Between the two

    def _go_on(self) -> None:
        """Shake hands, then give `protocol` what is in the octets that have come."""
        self._busy = True
        self._ticket_waits = False
        try:
            if self._done or self._shake_hands():
                self._read()
        except ssl.SSLError as error:
            self._fail(error)
        finally:
            self._busy = False
            if not self._ticket_waits:
                self._flush()

    def _shake_hands(self) -> bool:
        """Whether it is done."""
        while self._feed():
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                continue
            self._done = True
            self._records = 0  # data that came with the end of the handshake is not counted
            version, cipher = self._tls.version() or "", self._tls.cipher()
            self._ticket_waits = version == "TLSv1.3"
            assert self._protocol is not None
            assert cipher is not None
            self._protocol.secured(version, cipher[0])
            return True
        return False

    def _read(self) -> None:
        while not self._paused and not self._over and (self._incoming.pending or self._feed()):
            try:
                data = self._tls.read(RECORD)
            except ssl.SSLWantReadError:  # a part of a record; OpenSSL has it
                self._limit_empty_records()
                continue
            assert self._protocol is not None
            if data:
                self._read_records += 1
                self._octets += len(data)
                self._limit_empty_records()
                self._protocol.data_received(data)
            else:
                self._over, self._unread, self._fed = True, b"", 0
                if not self._protocol.eof_received():
                    self.close()

    def _limit_empty_records(self) -> None:
        if (
            self._records - self._read_records > EMPTY + (self._octets >> 20)
            and not self._incoming.pending  # what is there may be data
        ):
            raise TooManyEmptyError("too many records without data")

    def _feed(self) -> bool:
        """Give OpenSSL more of what came, in small parts: its buffer never becomes smaller."""
        fed = self._fed
        if fed == len(self._unread):
            self._unread, self._fed = b"", 0
            return False
        end = self._pass(self._unread, fed)
        if not fed and end == len(self._unread):
            self._fed = self._incoming.write(self._unread)
        else:
            self._fed += self._incoming.write(memoryview(self._unread)[fed:end])
        return True

    def _pass(self, data: bytes, at: int) -> int:
        """Give where the next part of `data` ends, from `at` on; count the records that end in it.

        A record is a header of five octets, the last two its length, and so much more
        (RFC 8446 §5.1).
        """
        stop = min(len(data), at + RECORD)
        left = RECORDS
        while at < stop and left:
            if self._header < 5:
                self._header += 1
                self._rest = (self._rest << 8 | data[at]) & 0xFFFF
                at += 1
            step = min(self._rest, stop - at)
            if self._header == 5:
                at += step
                self._rest -= step
                if not self._rest:
                    self._header = 0
                    self._records += 1
                    left -= 1
        return at

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._transport.write(data)

    def _say_goodbye(self) -> None:
        """close_notify (RFC 8446 §6.1); the client's own is not waited for."""
        self._end()
        with contextlib.suppress(ssl.SSLError):  # the client's own has not come
            self._tls.unwrap()
        self._flush()

    def _fail(self, error: ssl.SSLError | None) -> None:
        """It is no TLS, or none that is ours: OpenSSL's alert tells the client, where it is TLS."""
        if self._protocol is not None and not self._over:
            self._protocol.insecure(error)
            self._end()
            self._flush()
            self._transport.close()

    def _end(self) -> None:
        """Nothing is said or heard any more."""
        self._over = self._silent = True
        self._unread, self._fed = b"", 0
