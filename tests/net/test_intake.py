"""net/intake: what becomes of a finished message, large, refused, broken or abandoned."""

import asyncio
import gc
import socket
import struct
import threading
import time
import tracemalloc

import pytest

from fastsmtp import replies
from fastsmtp.availability import Availability
from fastsmtp.envelope import Envelope, Recipient
from fastsmtp.metrics import Metrics
from fastsmtp.net import intake
from fastsmtp.net.connection import Connection
from fastsmtp.payload import Composer, Outgoing
from fastsmtp.peer import Peer
from fastsmtp.settings import Settings
from tests.support.held import Held, Inside
from tests.support.patience import until
from tests.support.wire import Wire, stuffed

LARGE = b"Subject: x\r\n\r\n" + b"y" * (intake.LARGE + 1) + b"\r\n"
SMALL = b"Subject: x\r\n\r\nHi\r\n"
MAIL = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"
INTERNAL = replies.INTERNAL.wire

HELD_UP = 0.15  # seconds: three times what is promised


class Pulse:
    """Goes round with the loop: `longest` is the processor time of one round, in seconds.

    Not the time on the wall: that depends on what else the machine does.
    """

    def __init__(self, server):
        self.loop = server.loop
        self.longest = 0.0
        server.do(self.beat)

    def beat(self, before=None):
        now = time.thread_time()
        if before is not None:
            self.longest = max(self.longest, now - before)
        self.loop.call_soon(self.beat, now)


# Line ends alone; octets whose JSON is six times as long; base64; one header of 20 MB.
@pytest.mark.parametrize(
    "content",
    [
        b"Subject: x\r\n" + b"\r\n" * 10_000_000,
        b"Subject: x\r\n\r\n" + b"\0" * 8_000_000,
        b"Subject: x\r\n\r\n" + b"\xff" * 30_000_000,
        b"Subject: " + b" folded\r\n" * 2_000_000,
        b"Date: x\r\nMessage-ID: y\r\n\r\n" + b"\r\n" * 10_000_000,
    ],
    ids=["lines", "nul", "binary", "header", "fingerprint"],
)
def test_a_large_message_holds_nobody_up(content):
    with Inside(rabbitmq_fingerprint=True) as server, Wire(server.port, timeout=30) as client:
        server.sink.auto = True
        client.ehlo()
        client.envelope("a@example.com", ["b@example.org", "c@example.org"])
        pulse = Pulse(server)
        assert client.data(content + b"\r\n").code == 250
        assert pulse.longest < HELD_UP


class Forgets(Held):
    """Accepts everything and keeps nothing."""

    def put(self, message, settle):
        asyncio.get_running_loop().call_soon(settle, [None] * len(message))


def test_many_large_messages_at_once_hold_nobody_up():
    content = b"BDAT 400000 LAST\r\n" + b"\0" * 400_000
    with Inside(Forgets()) as server:
        clients = [Wire(server.port, timeout=30) for _ in range(200)]
        for each in clients:
            each.send(b"EHLO x\r\n" + MAIL + content[:-1])
            each.replies(3)
        until(lambda: all(each.session.received == 399_999 for each in server.connections))
        pulse = Pulse(server)
        for each in clients:
            each.send(b"\0")
        assert [each.reply().code for each in clients] == [250] * len(clients)
        assert pulse.longest < HELD_UP
        for each in clients:
            each.close()


def test_a_large_dsn_to_many_recipients_holds_nobody_up():
    """It kept the loop for 1.8 s and 1.6 GB."""
    recipients = [f"r{n}@example.org" for n in range(1000)]
    with Inside(smtp_extract="true") as server, Wire(server.port, timeout=30) as client:
        server.sink.auto = True
        client.ehlo()
        client.envelope("a@example.com", recipients)
        pulse = Pulse(server)
        assert client.data(b"X-MQ-DSN-Envid: " + b"x" * 250_000 + b"\r\n\r\n").code == 250
        assert pulse.longest < HELD_UP
        (outgoing,) = server.sink.messages
        assert intake.held(outgoing) < 2_000_000


def test_fingerprints_count_as_memory():
    taken, held = [], []
    for wanted in (False, True):
        composer = Composer(Settings(rabbitmq_fingerprint=wanted), Availability(1 << 40), Metrics())
        envelope = Envelope("a@example.com")
        envelope.recipients += [Recipient("b@example.org")] * 1000
        content = b"Date: x\r\nMessage-ID: y\r\n\r\n"
        tracemalloc.start()
        outgoing = composer.compose(envelope, Peer("127.0.0.1", 25, "127.0.0.1", 1), [content])
        taken.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        held.append(intake.held(outgoing))
    assert 0 < taken[1] - taken[0] <= held[1] - held[0]


class Broken(Composer):
    """Fails at a content that has BOOM."""

    def compose(self, envelope, peer, pieces):
        self.fail(pieces)
        return super().compose(envelope, peer, pieces)

    def steps(self, envelope, peer, pieces):
        self.fail(pieces)
        return (yield from super().steps(envelope, peer, pieces))

    def fail(self, pieces):
        if b"BOOM" in b"".join(pieces):
            raise RuntimeError("the secret")


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_a_mistake_in_the_composer_is_451_and_the_session_goes_on(monkeypatch, caplog, content):
    monkeypatch.setattr("fastsmtp.process.worker.Composer", Broken)
    with Inside() as server, Wire(server.port) as client:
        server.sink.auto = True
        client.ehlo()
        assert client.mail(content + b"BOOM\r\n").raw == INTERNAL
        assert client.mail(content).code == 250
        until(lambda: not server.intake._tasks)
        assert (sum(server.metrics.rejected.values()), server.metrics.messages) == (1, 1)
    assert [each.getMessage() for each in caplog.records] == ["a message could not be handed over"]


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([None, None, None], 250),
        ([None, replies.NOT_STORED, None], 451),
        ([None, None, replies.TOO_LARGE], 552),
        ([replies.NO_SPACE, replies.NOT_STORED, None], 452),
        ([replies.TOO_LARGE, None, replies.UNROUTABLE], 451),  # so that the client sends it again
    ],
)
def test_outcomes_of_recipients_become_one_reply(outcomes, code):
    with Inside() as server, Wire(server.port) as client:
        client.ehlo()
        client.envelope("a@example.com", [f"{name}@example.org" for name in "bcd"])
        assert client.command("DATA").code == 354
        client.send(b"Hi\r\n.\r\n")
        until(lambda: server.sink.waiting)
        ((settle, _),) = server.sink.waiting
        server.sink.waiting.clear()
        server.do(lambda: settle(outcomes))
        assert client.reply().code == code
        assert server.metrics.messages == (code == 250)
        assert sum(server.metrics.rejected.values()) == (code != 250)


class Refuses(Held):
    """Takes the first message, and fails all the same."""

    def put(self, message, settle):
        super().put(message, settle)
        if len(self.messages) == 1:
            raise RuntimeError("the secret")


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_a_mistake_in_the_sink_is_451_and_no_later_message_gets_its_answer(caplog, content):
    with Inside(Refuses()) as server, Wire(server.port) as client:
        client.ehlo()
        assert client.mail(content).raw == INTERNAL
        (first,) = server.sink.waiting
        settle, _ = first
        client.envelope("a@example.com", ["b@example.org"])
        assert client.command("DATA").code == 354
        client.send(stuffed(SMALL))
        until(lambda: len(server.sink.waiting) == 2)
        server.do(lambda: settle([None]))
        server.sink.waiting.remove(first)
        server.do(lambda: server.sink.release(replies.NOT_STORED))
        assert client.reply().code == 451
        until(lambda: not server.intake._tasks)
    assert "a message could not be handed over" in caplog.text


class Waits(Composer):
    """Takes until `go` for any large message."""

    go = False

    def steps(self, envelope, peer, pieces):
        while not self.go:
            yield
        return (yield from super().steps(envelope, peer, pieces))


def alive(kind):
    return [each for each in gc.get_objects() if isinstance(each, kind)]


def test_who_hangs_up_while_a_message_is_composed_leaks_nothing(monkeypatch, caplog):
    monkeypatch.setattr("fastsmtp.process.worker.Composer", Waits)
    with Inside(Forgets()) as server:
        for _ in range(3):
            with Wire(server.port) as client:
                client.ehlo()
                client.envelope("a@example.com", ["b@example.org"])
                client.send(b"BDAT 500000 LAST\r\n" + b"x" * 500_000)
                until(lambda: server.connections[0].session.question)
                assert alive(Connection)
                reset = struct.pack("ii", 1, 0)
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            until(lambda: not server.connections)
        assert len(server.intake._tasks) == 3
        monkeypatch.setattr(Waits, "go", True)
        until(lambda: not server.intake._tasks and server.metrics.messages == 3)
        server.do(gc.collect)
        assert alive(Connection) == alive(Outgoing) == []
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("header", "reply"),
    [(b"Received: x\r\n" * 101, replies.LOOP), (b"X-MQ-a: b\r\n" * 1001, replies.TOO_MANY_HEADERS)],
)
def test_hundreds_of_refused_messages_in_a_row(header, reply):
    with Inside(smtp_maxerrors=1_000_000) as server, Wire(server.port) as client:
        client.ehlo()
        count = 400  # a thousand commands without an accepted message would end the session
        body = header + b"\r\n"
        lines = MAIL + b"BDAT %d LAST\r\n%b" % (len(body), body)
        sender = threading.Thread(target=client.send, args=(lines * count + b"NOOP\r\n",))
        sender.start()
        for _ in range(count):
            assert client.replies(3)[2].raw == reply.wire
        assert client.reply().code == 250
        sender.join()
        assert (sum(server.metrics.rejected.values()), server.sink.messages) == (count, [])


def test_large_messages_are_refused_like_others():
    with Inside() as server, Wire(server.port) as client:
        client.ehlo()
        assert client.mail(b"Received: x\r\n" * 101 + LARGE).raw == replies.LOOP.wire
        assert client.mail(b"X-MQ-a: b\r\n" * 1001 + LARGE).raw == replies.TOO_MANY_HEADERS.wire
        assert client.command("NOOP").code == 250


def test_one_answer_names_every_recipient():
    with Inside() as server, Wire(server.port) as client:
        server.sink.auto = True
        client.ehlo()
        for content in (SMALL, LARGE):
            reply = client.mail(content, recipients=["b@example.org", "c@example.org"])
            assert reply.ids == [each.id for each in server.sink.messages.pop()]
        assert (server.metrics.messages, server.metrics.recipients) == (2, 4)
