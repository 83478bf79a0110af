"""net/deadlines: who is too slow is told 421 4.4.2 in time, who is not is left alone."""

import time

import pytest

from fastsmtp.net import listener
from tests.support.held import Inside
from tests.support.patience import until
from tests.support.wire import Wire

TIMEOUT = 0.5  # smtp-timeout of these tests; a sweep comes every quarter of it
LATEST = 3 * TIMEOUT
RATE = 2000  # smtp-minrate

TOO_SLOW = b"421 4.4.2 Timeout, closing\r\n"


@pytest.fixture(scope="module")
def server():
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


@pytest.mark.parametrize("command", ["DATA", "BDAT 100000 LAST", "BDAT 100000"])
def test_content_below_the_rate(client, command):
    client.ehlo()
    client.envelope("a@example.com", ["b@example.org"])
    client.send(command.encode() + b"\r\n")
    if command == "DATA":
        assert client.reply().code == 354
    assert TIMEOUT <= dribble(client, b"x" * 4000) < LATEST
    assert ended(client)


def test_a_refused_chunk_below_the_rate(client):
    client.send(b"BDAT 100000\r\n")
    assert TIMEOUT <= dribble(client, b"x" * 4000) < LATEST
    assert ended(client)


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
