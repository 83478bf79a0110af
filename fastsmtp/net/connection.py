"""One client's connection: octets between its transport and its session.

Decides nothing: what to say is the session's, who may come in the admission's, what becomes of a
message the answerers', when to read the flow control's.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from fastsmtp import replies
from fastsmtp._proxy import Header
from fastsmtp._session import Session
from fastsmtp.addresses import plain_address
from fastsmtp.memory_budget import FLAT, TLS
from fastsmtp.net import xclient
from fastsmtp.net._read_block import ReadBlock
from fastsmtp.net.flow import Flow
from fastsmtp.net.proxy import STARTS, introduce
from fastsmtp.net.server import Server
from fastsmtp.net.tls_stream import TlsStream, failure
from fastsmtp.peer import Peer
from fastsmtp.questions import Credentials, Introduction, Message, Question, Room
from fastsmtp.refusals import Refusal
from fastsmtp.replies import Reply

log = logging.getLogger(__name__)


class Connection:
    """The protocol of one accepted socket: asyncio's BufferedProtocol, above TLS its Protocol."""

    __slots__ = (
        "_asked",
        "_half_closed",
        "_header",
        "_heard",
        "_server",
        "_tls_first",
        "_transport",
        "clock",
        "flow",
        "is_shaking_hands",
        "session",
    )

    def __init__(
        self, server: Server, *, tls_first: bool = False, header: Header | None = None
    ) -> None:
        """`tls_first`: it came in on a port that is TLS from the first octet, or is so behind
        `header`, which a proxy has sent.
        """
        self._server = server
        self._tls_first = tls_first
        self._header = header
        self._transport: asyncio.Transport
        self.session: Session
        self.flow: Flow
        self.is_shaking_hands = False  # TLS has begun, and its handshake goes on
        self._asked: Question | None = None  # the last question that was passed on
        self._half_closed = False  # the client will send no more
        self._heard = False  # the client has sent something
        self.clock: object = None  # owned by deadlines

    # What asyncio calls

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Greet, or say why not."""
        self._transport = transport
        try:
            self._welcome()
        except Exception:
            log.exception("a connection could not be begun")
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Feed the session."""
        if not self._heard:
            self._heard = True
            if data.startswith(STARTS):
                self._server.complaints.unexpected(self.session.peer)
        try:
            self._say(self.session.feed(data))
        except Exception:
            self._fail()

    def get_buffer(self, sizehint: int) -> ReadBlock:
        """See asyncio.BufferedProtocol."""
        return self._server.read_block

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        self.data_received(self._server.read_block.take(nbytes))

    def eof_received(self) -> bool:
        """The client sends no more, but may wait for a reply."""
        self._half_closed = True
        return self._is_answering and not self.session.closing

    def connection_lost(self, exc: Exception | None) -> None:
        """What is with the sink goes on; its reply has nowhere to go."""
        server = self._server
        if self in server.open:
            server.open.remove(self)
            question = self.session.question
            if isinstance(question, Credentials) and question.on_hang_up is not None:
                question.on_hang_up()
            self.flow.end()
            server.admission.leave(self.session.peer)
            server.metrics.connections_open -= 1
            if server.refusal is not None:  # or nobody waits for it
                server.lost.set()
            if server.tells:
                log.debug("disconnected", extra={"peer": self.session.peer})

    def pause_writing(self) -> None:
        """The client does not read its replies."""
        self.flow.block(True)

    def resume_writing(self) -> None:
        """The client has read."""
        self.flow.block(False)

    # What the worker and the deadlines call

    def stop(self) -> None:
        """End when no transaction is open; in the middle of a handshake, after it."""
        if self.is_shaking_hands:
            return
        try:
            self._advance(self.session.stop())
        except Exception:
            self._fail()

    def close(self, reply: Reply) -> None:
        """Say `reply` and end; in the middle of a handshake nothing can be said."""
        if self.is_shaking_hands:
            log.debug("no end of TLS's handshake, hung up", extra={"peer": self.session.peer})
            self._server.metrics.tls_failures["timeout"] += 1
            self.abort()
            return
        try:
            self._advance(self.session.close(reply))
        except Exception:
            log.exception(
                "a connection could not be closed in order", extra={"peer": self.session.peer}
            )
            self.abort()

    def abandon(self) -> None:
        """Memory was short for too long: its content is thrown away as it comes."""
        self.flow.give_up()

    def abort(self) -> None:
        """End without waiting for the client to read."""
        self._transport.abort()

    def _welcome(self) -> None:
        transport = self._transport
        server = self._server
        peer = _peer(transport)
        if peer is None:  # gone already
            transport.abort()
            return
        server.metrics.connections += 1
        peer.session = server.ids.fresh()
        if self._header is not None:
            introduce(peer, self._header)
        refusal = server.admission.admit(peer)
        size = FLAT + TLS if self._tls_first else FLAT
        if not server.availability.memory.has_room_for_connection(size):
            refusal = replies.TOO_MANY_CONNECTIONS
        if refusal is not None and (self._tls_first or refusal is not replies.ACCESS_DENIED):
            self._turn_away(peer, refusal)
            return
        self.session = Session(
            server.rules, server.availability, server.metrics, server.refusals, peer
        )
        self.flow = Flow(server.availability.memory, server.turns, self.session, self._proceed)
        self.flow.transport = transport
        transport.set_write_buffer_limits(high=FLAT)
        if server.tells:
            log.debug("connected", extra={"peer": peer})
        server.open.add(self)
        server.metrics.connections_open += 1
        if self._tls_first:
            self._start_tls()
        elif refusal is None or server.refusal is not None:
            self._begin()
        else:
            self._advance(self.session.refuse())

    def _turn_away(self, peer: Peer, refusal: Reply) -> None:
        """Hang up without a session; nothing can be said before a handshake."""
        server = self._server
        server.admission.leave(peer)
        server.metrics.say(refusal)
        server.refusals.tell(Refusal(refusal, peer))
        if not self._tls_first:
            self._transport.write(refusal.wire)
        self._transport.close()

    def _begin(self) -> None:
        """The client may be told who we are, or why not."""
        refusal = self._server.refusal
        if refusal is not None:
            self.close(refusal)
        else:
            self._say(self.session.greet())

    # TLS

    def _start_tls(self) -> None:
        """Take no more in plain text, and shake hands."""
        if self._transport.is_closing():
            return
        self.flow.share_memory()
        certificates = self._server.certificates
        assert certificates is not None  # or there is no TLS port, and the session says 454
        self.is_shaking_hands = True
        self.flow.charge_tls()
        stream = TlsStream(self._transport, self, certificates.context)
        self._transport = self.flow.transport = cast("asyncio.Transport", stream)
        self.flow.update()

    def secured(self, version: str, cipher: str) -> None:
        """See `tls_stream.Secured`."""
        self.is_shaking_hands = False
        session = self.session
        peer = session.peer
        peer.tls, peer.cipher, peer.secure = version, cipher, True
        try:
            if session.starting_tls:
                session.secured()
                if self._server.refusal is not None:
                    self.close(self._server.refusal)
            else:
                self._begin()
        except Exception:
            self._fail()

    def insecure(self, error: ssl.SSLError | None) -> None:
        """See `tls_stream.Secured`."""
        log.debug(
            "TLS failed: %s", error or "the client hung up", extra={"peer": self.session.peer}
        )
        self._server.metrics.tls_failures[failure(error, self.is_shaking_hands)] += 1
        if self._tls_first and error is not None and error.reason == "WRONG_VERSION_NUMBER":
            self._server.complaints.not_tls(self.session.peer)

    # The way of a message

    def _say(self, out: bytes) -> None:
        """Write; mostly nothing else has come of it."""
        if self._half_closed or not self.session.flows() or not self.flow.is_quiet():
            self._advance(out)
        elif out:
            self._transport.write(out)

    def _advance(self, out: bytes) -> None:
        """Ask the session's question, write, close: whatever the session has come to."""
        session = self.session
        while (question := session.question) is not None and question is not self._asked:
            self._asked = question
            own = None
            if isinstance(question, Message):
                self.flow.hand_over(question)
            else:
                own = _OWN.get(type(question))
            if own is not None:
                reply = own(self, question)
            else:
                reply = self._server.answerers[type(question)].ask(question, self._answered)
            if reply is None:
                break
            out += session.answer(question, reply)
        if out:
            self._transport.write(out)
        if session.closing:
            self._finish()
        elif session.starting_tls:
            self._start_tls()
        elif self._half_closed and not self._is_answering:
            self._transport.close()
        else:
            self.flow.update()

    def _find_room(self, question: Room) -> Reply | None:
        """Ask the memory budget, by the flow control."""
        return self.flow.ask(question, self._answered)

    def _introduce(self, question: Introduction) -> Reply:
        """Judge the client anew that XCLIENT has named."""
        server, peer = self._server, self.session.peer
        xclient.introduce(peer, question.said)
        if server.tells:
            log.debug("introduced by %s", peer.xclient_ip, extra={"peer": peer})
        return server.admission.admit(peer) or replies.OK

    def _answered(self, question: Question, reply: Reply) -> None:
        """See `answerers.Answered`; nobody waits for it where the session or the client is gone."""
        if question is not self.session.question or self not in self._server.open:
            return
        try:
            self._say(self.session.answer(question, reply))
        except Exception:
            self._fail()

    def _proceed(self) -> None:
        """Say more, when others had their turn."""
        if self in self._server.open:
            try:
                self._advance(self.session.proceed())
            except Exception:
                self._fail()

    @property
    def _is_answering(self) -> bool:
        """The client waits for a reply; not where nothing can follow the 354 of DATA, or AUTH."""
        session = self.session
        if isinstance(session.question, (Credentials, Room)) and not session.backlog:
            return False
        return session.question is not None or session.stalled

    def _finish(self) -> None:
        """Close so that the last reply arrives: unread input would make the kernel reset."""
        transport = self._transport
        self.flow.update()
        if self.session.quit or self._half_closed or not transport.can_write_eof():
            transport.close()
        elif not transport.is_closing():
            transport.write_eof()

    def _fail(self) -> None:
        log.exception("a session failed", extra={"peer": self.session.peer})
        self.close(replies.INTERNAL)


_OWN: "dict[type[Question], Callable[[Connection, Any], Reply | None]]" = {
    Room: Connection._find_room,
    Introduction: Connection._introduce,
}
"""Questions that concern the connection itself: it answers them, not a worker's answerer."""


def factory(
    server: Server, *, tls_first: bool = False, header: Header | None = None
) -> Callable[[], asyncio.Protocol]:
    """What makes a `Connection` for each accepted socket; compiled, it can have no base class."""
    made = partial(Connection, server, tls_first=tls_first, header=header)
    return cast("Callable[[], asyncio.Protocol]", made)


def _peer(transport: asyncio.Transport) -> Peer | None:
    local = transport.get_extra_info("sockname")
    remote = transport.get_extra_info("peername")
    if not local or not remote:
        return None
    return Peer(plain_address(local[0]), local[1], plain_address(remote[0]), remote[1])
