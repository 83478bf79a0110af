"""One client's connection: octets between its transport and its session, and flow control.

Decides nothing of SMTP: what to say is the session's, what becomes of a message the intake's.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from functools import partial
from typing import cast

from fastsmtp import replies
from fastsmtp._proxy import Header
from fastsmtp._session import Session
from fastsmtp.net.proxy import STARTS, introduce
from fastsmtp.net.reception import Reception
from fastsmtp.net.tls_stream import TlsStream
from fastsmtp.peer import Peer, plain_address
from fastsmtp.questions import Message, Question
from fastsmtp.replies import Reply

log = logging.getLogger(__name__)

BACKLOG = 64 * 1024
"""Octets that a client may send on while its message is with the sink; then it is not read."""


class Connection:
    """The protocol (asyncio.Protocol) of one accepted socket."""

    __slots__ = (
        "_asked",
        "_blocked",
        "_counted",
        "_gate",
        "_going_on",
        "_half_closed",
        "_header",
        "_heard",
        "_held",
        "_paused",
        "_reception",
        "_tls_first",
        "_transport",
        "is_shaking_hands",
        "paused_for",
        "seen_progress",
        "session",
        "since",
        "waits_for_memory",
    )

    def __init__(
        self, reception: Reception, *, tls_first: bool = False, header: Header | None = None
    ) -> None:
        """`tls_first`: it came in on a port that is TLS from the first octet, or is so behind
        `header`, which a proxy has sent.
        """
        self._reception = reception
        self._gate = reception.gate
        self._tls_first = tls_first
        self._header = header
        self._transport: asyncio.Transport
        self.is_shaking_hands = False  # TLS has begun, and its handshake goes on
        self._asked: Question | None = None  # the last question that was passed on
        self._paused = False  # reading is
        self._blocked = False  # writing is: the client does not read
        self._going_on = False  # `_go_on` will run
        self._half_closed = False  # the client will send no more
        self._heard = False  # the client has sent something
        self._held = 0  # octets that the session keeps, as the gate knows
        self.waits_for_memory = False  # content is not read: the gate says so
        self._counted = ""  # the address that has a place
        self.since = 0.0
        self.session: Session
        self.seen_progress = -1  # owned by deadlines, as is `since`
        self.paused_for = 0.0  # seconds that it has waited for memory; counted by deadlines

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
                self._reception.complaints.unexpected(self.session.peer)
        try:
            self._say(self.session.feed(data))
        except Exception:
            self._fail()

    def eof_received(self) -> bool:
        """The client sends no more, but may wait for a reply."""
        self._half_closed = True
        return self._is_answering and not self.session.closing

    def connection_lost(self, exc: Exception | None) -> None:
        """What is with the sink goes on; its reply has nowhere to go."""
        reception = self._reception
        self._leave()
        self._gate.leave(self)
        self._hold(0)
        if self in reception.open:
            reception.open.remove(self)
            reception.places.leave()
            reception.metrics.connections_open -= 1
            if reception.refusal is not None:  # or nobody waits for it
                reception.lost.set()
            if reception.tells:
                log.debug("disconnected", extra={"peer": self.session.peer})

    def pause_writing(self) -> None:
        """The client does not read its replies: it is not read either."""
        self._blocked = True
        self._regulate()

    def resume_writing(self) -> None:
        """The client has read."""
        self._blocked = False
        self._regulate()

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
            self.abort()
            return
        try:
            self._advance(self.session.close(reply))
        except Exception:
            log.exception(
                "a connection could not be closed in order", extra={"peer": self.session.peer}
            )
            self.abort()

    def regulate(self) -> None:
        """See `gate.Arriving`."""
        self._share_memory()
        self._regulate()

    def abandon(self) -> None:
        """Memory was short for too long: its content is thrown away as it comes."""
        self.session.abandon()
        self.regulate()

    def abort(self) -> None:
        """End without waiting for the client to read."""
        self._transport.abort()

    def _welcome(self) -> None:
        transport = self._transport
        reception = self._reception
        peer = _peer(transport)
        if peer is None:  # gone already
            transport.abort()
            return
        reception.metrics.connections += 1
        peer.session = reception.ids.fresh()
        if self._header is not None:
            introduce(peer, self._header)
        admitted = reception.access.judge(peer)
        too_many = self._too_many(peer)
        if too_many is not None:
            self._refuse_unheard(peer, too_many)
            if not self._tls_first:
                transport.write(too_many.wire)
            transport.close()
            return
        if self._tls_first and not admitted:
            self._refuse_unheard(peer, replies.ACCESS_DENIED)
            self._leave()
            transport.close()
            return
        self.session = Session(
            reception.rules, reception.gate, reception.metrics, reception.refusals, peer
        )
        if reception.tells:
            log.debug("connected", extra={"peer": peer})
        reception.open.add(self)
        reception.places.enter()
        reception.metrics.connections_open += 1
        if self._tls_first:
            self._start_tls()
        elif admitted or reception.refusal is not None:
            self._begin()
        else:
            self._advance(self.session.refuse())

    def _refuse_unheard(self, peer: Peer, reply: Reply) -> None:
        """Count and report a refusal that leaves this connection without a session."""
        self._reception.metrics.say(reply)
        self._reception.refusals.tell(reply, peer)

    def _too_many(self, peer: Peer) -> Reply | None:
        """What to say where all places are taken; whose address is hidden shares no limit of it."""
        reception = self._reception
        if reception.places.taken() >= reception.limit:
            return replies.TOO_MANY_CONNECTIONS
        limit = reception.access.per_ip
        if limit and not peer.is_hidden:
            self._counted = peer.remote_ip
            if reception.places.enter_from(peer.remote_ip) > limit:
                self._leave()
                return replies.TOO_MANY_FROM_ADDRESS
        return None

    def _leave(self) -> None:
        if self._counted:
            self._reception.places.leave_from(self._counted)
            self._counted = ""

    def _begin(self) -> None:
        """The client may be told who we are, or why not."""
        refusal = self._reception.refusal
        if refusal is not None:
            self.close(refusal)
        else:
            self._say(self.session.greet())

    # TLS

    def _start_tls(self) -> None:
        """Take no more in plain text, and shake hands."""
        if self._transport.is_closing():
            return
        self._share_memory()
        certificates = self._reception.certificates
        assert certificates is not None  # or there is no TLS port, and the session says 454
        self.is_shaking_hands = True
        stream = TlsStream(self._transport, self, certificates.context)
        self._transport = cast("asyncio.Transport", stream)
        self._regulate()

    def secured(self, version: str, cipher: str) -> None:
        """See `tls_stream.Secured`."""
        self.is_shaking_hands = False
        session = self.session
        peer = session.peer
        peer.tls, peer.cipher, peer.secure = version, cipher, True
        try:
            if session.starting_tls:
                session.secured()
                if self._reception.refusal is not None:
                    self.close(self._reception.refusal)
            else:
                self._begin()
        except Exception:
            self._fail()

    def insecure(self, error: ssl.SSLError | None) -> None:
        """See `tls_stream.Secured`."""
        log.debug(
            "TLS failed: %s", error or "the client hung up", extra={"peer": self.session.peer}
        )
        if self._tls_first and error is not None and error.reason == "WRONG_VERSION_NUMBER":
            self._reception.complaints.not_tls(self.session.peer)

    # The way of a message

    def _say(self, out: bytes) -> None:
        """Write; mostly nothing else has come of it."""
        unusual = self._held or self._paused or self._half_closed or self._gate.is_full
        if unusual or not self.session.flows():
            self._advance(out)
        elif out:
            self._transport.write(out)

    def _advance(self, out: bytes) -> None:
        """Ask the session's question, write, close: whatever the session has come to."""
        session = self.session
        while (question := session.question) is not None and question is not self._asked:
            self._asked = question
            if isinstance(question, Message):
                question.held, self._held = self._held, 0
            reply = self._reception.answerers[type(question)].ask(question, self._answered)
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
            self._regulate()

    def _answered(self, question: Question, reply: Reply) -> None:
        """See `answerers.Answered`; nobody waits for it where the session or the client is gone."""
        if question is not self.session.question or self not in self._reception.open:
            return
        try:
            self._say(self.session.answer(question, reply))
        except Exception:
            self._fail()

    def _go_on(self) -> None:
        """Say more, when others had their turn."""
        self._going_on = False
        if self in self._reception.open and not self._blocked:
            try:
                self._advance(self.session.proceed())
            except Exception:
                self._fail()

    @property
    def _is_answering(self) -> bool:
        """The client waits for a reply."""
        return self.session.question is not None or self.session.stalled

    def _finish(self) -> None:
        """Close so that the last reply arrives: unread input would make the kernel reset."""
        transport = self._transport
        self._regulate()
        if self.session.quit or self._half_closed or not transport.can_write_eof():
            transport.close()
        elif not transport.is_closing():
            transport.write_eof()

    def _fail(self) -> None:
        log.exception("a session failed", extra={"peer": self.session.peer})
        self.close(replies.INTERNAL)

    def _regulate(self) -> None:
        """Read while the client reads, the backlog is small and memory is not full.

        At the end everything is read, to throw it away.
        """
        session = self.session
        held = session.held
        if not (held or self._held or self._blocked or self._paused or self._gate.is_full):
            return
        if held != self._held or self._gate.is_full:
            self._share_memory()
        if session.stalled and not self._blocked and not self._going_on:
            self._going_on = True
            asyncio.get_running_loop().call_soon(self._go_on)
        pause = self._blocked or self.waits_for_memory or session.backlog > BACKLOG
        pause = pause and not session.closing
        if pause == self._paused or self._transport.is_closing():
            return
        self._paused = pause
        self.paused_for = 0.0
        if pause:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _share_memory(self) -> None:
        """Tell the gate what is held; stand in line while content comes, and while it is ours
        to go on until the message is answered: the next one would be too much.
        """
        session = self.session
        gate = self._gate
        if session.filling and (session.held or gate.is_full):
            gate.enter(self)
        elif not (session.question is not None and gate.goes_on(self)):
            gate.leave(self)
        self._hold(session.held)
        self.waits_for_memory = gate.must_wait(self)

    def _hold(self, octets: int) -> None:
        more, self._held = octets - self._held, octets
        if more:
            self._gate.hold(more)


def factory(
    reception: Reception, *, tls_first: bool = False, header: Header | None = None
) -> Callable[[], asyncio.Protocol]:
    """What makes a `Connection` for each accepted socket; compiled, it can have no base class."""
    made = partial(Connection, reception, tls_first=tls_first, header=header)
    return cast("Callable[[], asyncio.Protocol]", made)


def _peer(transport: asyncio.Transport) -> Peer | None:
    local = transport.get_extra_info("sockname")
    remote = transport.get_extra_info("peername")
    if not local or not remote:
        return None
    return Peer(plain_address(local[0]), local[1], plain_address(remote[0]), remote[1])
