"""net/deadlines: who is too slow is told 421 4.4.2 in time, who is not is left alone."""

import contextlib
import socket
import time

import pytest

from fastsmtp import replies
from fastsmtp.net import deadlines, listener
from tests.support import certificates
from tests.support.held import Inside
from tests.support.patience import until
from tests.support.wire import Wire

TIMEOUT = 0.5  # smtp-timeout of these tests; a sweep comes every quarter of it
LATEST = 3 * TIMEOUT
RATE = 2000  # smtp-minrate
WINDOW = 0.6  # seconds over which it is measured

TOO_SLOW = b"421 4.4.2 Timeout, closing\r\n"


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patched:
        assert deadlines.WINDOW == 60
        patched.setattr(deadlines, "WINDOW", WINDOW)
        with Inside(smtp_timeout=TIMEOUT, smtp_minrate=RATE) as started:
            started.sink.auto = True
            yield started


@pytest.fixture
def client(server):
    with Wire(server.port) as made:
        yield made


def dribble(client, octets, pause=0.04):
    """Send octet by octet until a reply interrupts; gives the seconds it took."""
    started = time.monotonic()
    client.socket.settimeout(pause)
    for octet in octets:
        client.send(bytes([octet]))
        try:
            client.unread += client.socket.recv(65536)
            break
        except TimeoutError:
            continue
    client.socket.settimeout(10)
    return time.monotonic() - started


def ended(client):
    return client.reply().raw == TOO_SLOW and client.hung_up()


def test_silence_after_the_greeting(client):
    started = time.monotonic()
    assert ended(client)
    assert TIMEOUT <= time.monotonic() - started < LATEST


def test_silence_in_a_transaction(client):
    client.ehlo()
    client.envelope("a@example.com", ["b@example.org"])
    started = time.monotonic()
    assert ended(client)
    assert TIMEOUT <= time.monotonic() - started < LATEST


def test_commands_in_time_keep_a_session_open(client):
    started = time.monotonic()
    while time.monotonic() - started < LATEST:
        assert client.command("NOOP").code == 250
        time.sleep(TIMEOUT / 2)  # in time


@pytest.mark.parametrize("line", [b"NOOP " + b"x" * 4000, b"x" * 4000])
def test_octets_of_one_command_do_not_prolong_it(client, line):
    assert TIMEOUT <= dribble(client, line) < 2 * LATEST
    assert ended(client)


def test_octets_of_a_line_that_is_too_long_do_not_prolong_it(client):
    client.send(b"x" * 5000)
    assert dribble(client, b"x" * 4000) < 2 * LATEST
    assert ended(client)


CONTENT = ["DATA", "BDAT 10000000 LAST", "BDAT 10000000"]


def begin(client, command):
    client.ehlo()
    client.envelope("a@example.com", ["b@example.org"])
    client.send(command.encode() + b"\r\n")
    if command == "DATA":
        assert client.reply().code == 354


@pytest.mark.parametrize("command", CONTENT)
@pytest.mark.parametrize("before", [b"", b"x" * 198 + b"\r\n"])
def test_content_below_the_rate(client, command, before):
    begin(client, command)
    client.send(before * 20_000)  # four megabytes, which buy no time
    assert WINDOW / 2 <= dribble(client, b"x" * 4000) < LATEST
    assert ended(client)


@pytest.mark.parametrize("command", CONTENT)
def test_silence_after_much_content(client, command):
    begin(client, command)
    client.send((b"x" * 198 + b"\r\n") * 20_000)
    started = time.monotonic()
    assert ended(client)
    assert time.monotonic() - started < LATEST


def test_small_chunks_below_the_rate(client):
    """A command is progress, but between its chunks content goes on."""
    client.ehlo()
    client.envelope("a@example.com", ["b@example.org"])
    started = time.monotonic()
    while (reply := client.bdat(b"x", last=False)).code == 250:
        assert time.monotonic() - started < LATEST
        time.sleep(0.02)  # the rate of the client
    assert reply.raw == TOO_SLOW
    assert client.hung_up()


def test_small_messages_one_after_the_other_are_not_too_slow(client):
    """Each is measured alone: none takes as long as the rate is measured over."""
    client.ehlo()
    started = time.monotonic()
    while time.monotonic() - started < LATEST:
        begin(client, "DATA")
        time.sleep(WINDOW / 4)  # a sweep finds it in its content
        client.send(b"Hi\r\n.\r\n")
        assert client.reply().code == 250


def test_a_refused_chunk_below_the_rate(client):
    client.send(b"BDAT 100000\r\n")
    assert TIMEOUT <= dribble(client, b"x" * 4000) < LATEST
    assert ended(client)


AUTH = {"smtp_username": "me", "smtp_password": "x", "smtp_insecure_auth": True}


@pytest.mark.parametrize("dribbles", [False, True])
@pytest.mark.parametrize("before", [b"", b"AUTH PLAIN\r\n", b"AUTH LOGIN\r\nbWU=\r\n"])
def test_credentials_that_never_come(before, dribbles):
    with Inside(smtp_timeout=TIMEOUT, **AUTH) as server, Wire(server.port) as client:
        client.ehlo()
        client.send(before)
        client.replies(before.count(b"\n"))
        started = time.monotonic()
        if dribbles:
            dribble(client, b"AUTH PLAIN " + b"x" * 4000)
        assert ended(client)
        assert TIMEOUT <= time.monotonic() - started < 2 * LATEST


@pytest.mark.parametrize("tls_first", [False, True])
def test_a_handshake_that_dribbles(tmp_path, monkeypatch, tls_first):
    monkeypatch.setattr(deadlines, "HANDSHAKE", TIMEOUT)
    pair = certificates.make(tmp_path)
    names = {"smtp_certificate": (str(pair.certificate),), "smtp_key": (str(pair.key),)}
    with Inside(smtp_timeout=2, **names) as server:  # a sweep comes every quarter of that
        port = server.tls_port if tls_first else server.port
        with socket.create_connection(("127.0.0.1", port), 10) as raw:
            if not tls_first:
                raw.recv(1000)
                raw.sendall(b"STARTTLS\r\n")
                assert raw.recv(1000).startswith(b"220 ")
            started = time.monotonic()
            with contextlib.suppress(OSError):
                for octet in b"\x16\x03\x01\x40\x00" + b"\x01" * 4000:
                    raw.sendall(bytes([octet]))
                    time.sleep(0.02)  # the rate of the client
            assert time.monotonic() - started < 2 * LATEST


# A session without mail

NO_MAIL = replies.NO_MAIL.wire
SHORT = 1.0  # smtp-session-timeout


def without_mail(client, *commands):
    """Say these in turn until something else than 250 comes; gives it and the seconds."""
    started = time.monotonic()
    while True:
        for command in commands:
            reply = client.command(command)
            if reply.code != 250:
                return reply.raw, time.monotonic() - started
            time.sleep(0.05)  # the rate of the client
        assert time.monotonic() - started < 10 * SHORT


MAIL_AND_RCPT = ("MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>")


@pytest.mark.parametrize(
    "commands", [("NOOP",), ("EHLO x",), (*MAIL_AND_RCPT, "RSET"), (*MAIL_AND_RCPT, *["NOOP"] * 99)]
)
def test_a_session_without_mail_ends(commands):
    with Inside(smtp_session_timeout=SHORT) as server, Wire(server.port) as client:
        client.ehlo()
        said, seconds = without_mail(client, *commands)
        assert said == NO_MAIL
        assert client.hung_up()
        assert SHORT / 2 < seconds < 4 * SHORT


def test_a_session_that_sends_goes_on():
    with Inside(smtp_session_timeout=SHORT) as server, Wire(server.port) as client:
        server.sink.auto = True
        client.ehlo()
        started = time.monotonic()
        while time.monotonic() - started < 4 * SHORT:
            assert client.mail(b"Hi\r\n").code == 250
            time.sleep(SHORT / 3)  # in time
        assert without_mail(client, "NOOP")[0] == NO_MAIL


@pytest.mark.parametrize("bdat", [False, True])
def test_content_at_the_rate_is_no_waste(bdat):
    with Inside(smtp_session_timeout=SHORT, smtp_minrate=RATE) as server:
        server.sink.auto = True
        with Wire(server.port) as client:
            begin(client, "BDAT 100000000" if bdat else "DATA")
            started = time.monotonic()
            while time.monotonic() - started < 4 * SHORT:
                client.send((b"x" * 198 + b"\r\n") * 4)
                time.sleep(0.1)  # four times the rate
            assert not client.unread
            if not bdat:
                client.send(b".\r\n")
                assert client.reply().code == 250


def test_content_below_the_rate_is_waste():
    with (
        Inside(smtp_session_timeout=SHORT, smtp_minrate=RATE) as server,
        Wire(server.port) as client,
    ):
        begin(client, "DATA")
        assert SHORT / 2 < dribble(client, b"x" * 400) < 4 * SHORT
        assert client.reply().raw == NO_MAIL


def test_time_that_a_message_is_with_the_sink_is_not_the_sessions():
    with Inside(smtp_session_timeout=SHORT) as server, Wire(server.port) as client:
        client.ehlo()
        client.envelope("a@example.com", ["b@example.org"])
        client.send(b"BDAT 2 LAST\r\nHi")
        until(lambda: server.sink.waiting)
        time.sleep(2 * SHORT)  # longer than a session may go without mail
        server.do(lambda: server.sink.release(replies.TOO_LARGE))
        assert client.reply().raw == replies.TOO_LARGE.wire
        assert client.command("NOOP").code == 250


def test_who_is_deferred_may_try_for_as_long_as_it_likes():
    with Inside(smtp_session_timeout=SHORT) as server, Wire(server.port) as client:
        client.ehlo()
        server.availability.refusal = replies.NO_SPACE
        started = time.monotonic()
        while time.monotonic() - started < 3 * SHORT:
            client.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n")
            assert [reply.code for reply in client.replies(4)] == [452, 503, 503, 503]
            time.sleep(0.05)  # the rate of the client
        server.availability.refusal = None
        server.sink.auto = True
        assert client.mail(b"Hi\r\n").code == 250


@pytest.mark.parametrize("bdat", [False, True])
def test_content_above_the_rate_takes_as_long_as_it_needs(client, bdat):
    client.ehlo()
    client.envelope("a@example.com", ["b@example.org"])
    size = int(LATEST / 0.05) * 200  # twice as fast as it must be
    client.send(b"BDAT %d LAST\r\n" % size if bdat else b"DATA\r\n")
    started = time.monotonic()
    for _ in range(size // 200):
        client.send(b"x" * 198 + b"\r\n")
        time.sleep(0.05)  # the rate of the client
    assert time.monotonic() - started > LATEST
    if not bdat:
        client.send(b".\r\n")
        assert client.reply().code == 354
    assert client.reply().code == 250


def test_the_clock_stands_still_while_a_message_is_with_the_sink(client, server):
    server.sink.auto = False
    client.ehlo()
    client.envelope("a@example.com", ["b@example.org"])
    client.send(b"BDAT 2 LAST\r\nHi")
    until(lambda: server.sink.waiting)
    time.sleep(LATEST)  # longer than a client may be quiet
    server.do(server.sink.release)
    assert client.reply().code == 250
    time.sleep(TIMEOUT / 2)  # in time, counted from the answer
    assert client.command("NOOP").code == 250


class Fails:
    """Stands before a protocol, and gives it a transport that cannot be closed in order."""

    def __init__(self, protocol):
        self.protocol = protocol

    def __getattr__(self, name):
        return getattr(self.protocol, name)

    def connection_made(self, transport):
        self.protocol.connection_made(Unclosable(transport))


class Unclosable:
    def __init__(self, transport):
        self.transport = transport

    def __getattr__(self, name):
        return getattr(self.transport, name)

    def can_write_eof(self):
        raise RuntimeError("no")


def test_an_error_about_one_connection_keeps_no_other_alive(monkeypatch, caplog):
    made = listener.factory
    monkeypatch.setattr(
        listener, "factory", lambda *each, **more: lambda: Fails(made(*each, **more)())
    )
    with Inside(smtp_timeout=TIMEOUT) as server:
        clients = [Wire(server.port) for _ in range(3)]
        for each in clients:
            assert each.reply().raw == TOO_SLOW
            assert each.hung_up()
            each.close()
        until(lambda: not server.connections)
    assert "could not be closed in order" in caplog.text
