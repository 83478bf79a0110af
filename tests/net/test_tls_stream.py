"""net/tls_stream: the same octets and replies under every split, whatever the client is."""

import asyncio
import contextlib
import itertools
import os
import socket
import ssl
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastsmtp.net.flow import BACKLOG
from fastsmtp.net.tls_stream import EMPTY, RECORD, RECORDS, TlsStream
from tests.support import certificates
from tests.support.held import Inside
from tests.support.in_memory import InMemory
from tests.support.key_updates import KeyUpdates
from tests.support.patience import until
from tests.support.wire import Wire, flooding

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
BAD_RECORD = (
    "RECORD_LAYER_FAILURE"
    if ssl.OPENSSL_VERSION_INFO >= (3, 2)
    else "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"
)
"""What OpenSSL says of a record that was changed."""
HELLO = b"EHLO client.example.net\r\n"
MAIL = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return certificates.make(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def server(pair):
    """A listener that takes every mail."""
    names = {"smtp_certificate": (str(pair.certificate),), "smtp_key": (str(pair.key),)}
    with Inside(**names) as server:
        server.sink.auto = True
        yield server


@pytest.fixture
def trusting(pair):
    return certificates.client(pair.certificate)


def resident(pid):
    """Octets of memory that a process has in use."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class Echo:
    """Both ends of a stream: a transport that keeps what is written, a protocol that repeats."""

    def __init__(self, pair):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        self.written = []  # one for each write of the transport
        self.received = b""
        self.calls = []
        self.reading = True
        self.closed = False
        self.stream = TlsStream(self, self, context)

    # A transport's

    def set_protocol(self, protocol):
        pass

    def write(self, data):
        self.written.append(data)

    def close(self):
        self.closed = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    # A protocol's

    def secured(self, version, cipher):
        self.calls.append(("secured", version))

    def insecure(self, error):
        self.calls.append(("insecure", error and error.reason))

    def data_received(self, data):
        assert self.reading
        self.received += data
        self.stream.write(data)

    def eof_received(self):
        self.calls.append(("eof",))
        return False


class Client:
    """TLS in memory, `version` alone."""

    def __init__(self, pair, version):
        context = certificates.client(pair.certificate)
        context.minimum_version = context.maximum_version = version
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="mx.example.com")

    def flight(self):
        """What leaves next in the handshake."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def take(self, data):
        """What is in `data`, and in what came before and was not whole."""
        self.incoming.write(data)
        found = b""
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while part := self.tls.read(RECORD):
                found += part
        return found


def cut(data, places):
    """`data` in pieces, cut at these places modulo its length."""
    at = sorted({place % len(data) for place in places} | {0, len(data)})
    return [data[begin:end] for begin, end in itertools.pairwise(at)]


def shaken(pair, version, split=lambda data: [data]):
    """Both after a handshake, each flight of which came in the pieces of `split`."""
    echo, client = Echo(pair), Client(pair, version)
    while not echo.calls:
        for piece in split(client.flight()):
            echo.stream.data_received(piece)
        client.incoming.write(b"".join(echo.written))
        echo.written.clear()
    client.tls.do_handshake()  # TLS 1.2: the server is last
    return echo, client


def talk(pair, version, said, split):
    """Shake hands, say `said`, each flight in the pieces of `split`: what came of it."""
    echo, client = shaken(pair, version, split)
    for each in said:
        client.tls.write(each)
    for piece in split(client.outgoing.read()):
        echo.stream.data_received(piece)
    return echo, client.take(b"".join(echo.written))


def one_by_one(data):
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("split", [lambda data: [data], one_by_one])
def test_what_was_said_arrives_and_the_reply_does(pair, version, split):
    said = [b"EHLO x\r\n", b"x" * 300]
    echo, replied = talk(pair, version, said, split)
    assert echo.received == replied == b"".join(said)
    assert echo.calls == [("secured", version.name.replace("_", "."))]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    version=st.sampled_from(VERSIONS),
    places=st.lists(st.integers(0, 1 << 20), max_size=8),
    said=st.lists(st.integers(1, 3 * RECORD).map(os.urandom), min_size=1, max_size=4),
)
def test_no_split_of_the_wire_changes_anything(pair, version, places, said):
    echo, replied = talk(pair, version, said, lambda data: cut(data, places))
    assert echo.received == replied == b"".join(said)


def test_replies_to_one_read_leave_in_one_write(pair):
    echo, replied = talk(pair, VERSIONS[1], [b"a", b"b", b"c" * RECORD], lambda data: [data])
    assert replied == b"ab" + b"c" * RECORD
    assert len(echo.written) == 1


def test_a_session_ticket_leaves_together_with_the_first_reply(pair):
    echo, client = shaken(pair, ssl.TLSVersion.TLSv1_3)
    assert client.incoming.pending == 0
    client.tls.write(b"a")
    echo.stream.data_received(client.outgoing.read())
    assert len(echo.written) == 1
    assert client.take(echo.written[0]) == b"a"
    assert client.tls.session.has_ticket


@pytest.mark.parametrize("version", VERSIONS)
def test_a_record_that_was_tampered_with_ends_it_with_an_alert(pair, version):
    echo, client = shaken(pair, version)
    client.tls.write(b"good")
    good = client.outgoing.read()
    client.tls.write(b"evil")
    bad = bytearray(client.outgoing.read())
    bad[-1] ^= 1
    echo.stream.data_received(good + bytes(bad) + good)
    assert echo.received == b"good"
    assert echo.calls[1:] == [("insecure", BAD_RECORD)]
    assert echo.closed
    client.incoming.write(b"".join(echo.written))
    assert client.tls.read(100) == b"good"
    with pytest.raises(ssl.SSLError, match="bad record mac"):
        client.tls.read(100)


def test_who_is_paused_takes_nothing_until_it_goes_on_and_then_the_rest(pair):
    echo, client = shaken(pair, VERSIONS[1])
    loop = asyncio.new_event_loop()

    def pause(data):
        echo.received += data
        echo.stream.pause_reading()

    async def go_on():
        received = echo.received
        echo.stream.resume_reading()
        assert echo.received == received  # others have their turn first
        await asyncio.sleep(0)

    echo.data_received = pause
    for each in (b"a", b"b", b"c" * 3 * RECORD):
        client.tls.write(each)
    wire = client.outgoing.read()
    echo.stream.data_received(wire)
    for received in (b"a", b"ab", *(b"ab" + b"c" * records * RECORD for records in (1, 2, 3))):
        assert echo.received == received
        assert not echo.reading
        loop.run_until_complete(go_on())
    loop.close()
    assert echo.reading


# With a real listener


def test_the_end_of_the_wire_without_that_of_tls_harms_nobody(server, trusting, caplog):
    """Its mail is kept, and who has only ended its half of the wire gets the reply."""
    with Wire(server.tls_port, tls=trusting) as client:
        client.send(HELLO + MAIL + b"BDAT 4 LAST\r\nHi\r\n")
        socket.socket.shutdown(client.socket, socket.SHUT_WR)
        assert [reply.code for reply in client.replies(4)] == [250] * 4
    until(lambda: not server.connections)
    assert len(server.sink.messages) == 1
    assert server.errors == []
    assert caplog.text == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_half_a_record_and_silence_is_told_that_it_is_too_slow(pair, trusting, version):
    trusting.minimum_version = trusting.maximum_version = version
    names = {"smtp_certificate": (str(pair.certificate),), "smtp_key": (str(pair.key),)}
    with (
        Inside(smtp_timeout=0.5, **names) as server,
        socket.create_connection(("127.0.0.1", server.tls_port), 10) as raw,
    ):
        client = InMemory(trusting, raw)
        client.handshake()
        assert client.read().startswith(b"220 ")
        client.tls.write(HELLO)
        half = client.outgoing.read()
        raw.sendall(half[: len(half) // 2])
        assert client.read().startswith(b"421 4.4.2 ")


def test_a_large_message_leaves_no_buffer_of_its_size_behind(start_daemon, pair, trusting):
    daemon = start_daemon(smtp_connections=200, **pair.settings)
    line = b"0123456789abcdef" * 4 + b"\r\n"
    (worker,) = daemon.workers
    with contextlib.ExitStack() as stack:
        for number in range(120):
            if number == 20:  # what is freed stays with a process
                before = resident(worker)
            client = stack.enter_context(Wire(daemon.port))
            client.starttls(trusting)
            client.ehlo()
            assert client.mail(line * 8000).code == 250
        assert (resident(worker) - before) / 100 < 128 * 1024


def test_who_sends_without_end_to_a_waiting_session_is_read_no_more(server, trusting):
    server.sink.auto = False
    with Wire(server.tls_port, tls=trusting) as client:
        client.send(HELLO + MAIL + b"BDAT 4 LAST\r\nHi\r\n")
        until(lambda: server.sink.waiting)
        (connection,) = server.connections
        with flooding(client, b"NOOP\r\n" * 10_000) as is_stuck:
            until(lambda: is_stuck(server.port) and connection.flow.is_paused)
            assert connection.session.backlog < BACKLOG + 2 * RECORD


# KeyUpdate: 27 octets that make both sides derive new keys


def test_some_key_updates_harm_nobody(server, trusting):
    server.sink.auto = True
    with Wire(server.tls_port, tls=trusting) as client:
        updates = KeyUpdates(client.socket)
        client.ehlo()
        for number in range(30):
            assert updates.send(3, requests=number % 2 == 0) == 3
            assert client.mail(b"x" * 40_000 + b"\r\n" * number + b"\r\n").code == 250


@pytest.mark.parametrize("requests", [True, False])
@pytest.mark.parametrize("between", [0, 10])
def test_key_updates_without_end_end_the_session(server, trusting, requests, between):
    """Also where every tenth is followed by a command."""
    with Wire(server.tls_port, tls=trusting) as client:
        updates, sent = KeyUpdates(client.socket), 0
        client.ehlo()
        with contextlib.suppress(OSError, EOFError):
            while sent < 10 * EMPTY:
                if updates.send(10, requests=requests) < 10:
                    break
                sent += 10
                if between:
                    assert client.command("NOOP").code == 250
        assert sent <= EMPTY + RECORDS + 10 or not between
        until(lambda: not server.connections)


def test_records_of_one_octet_are_no_waste(server, trusting):
    server.sink.auto = True
    with Wire(server.tls_port, tls=trusting) as client:
        client.ehlo()
        client.envelope("a@example.com", ["b@example.org"])
        for _ in range(500):
            for octet in b"NOOP\r\n":
                client.send(bytes([octet]))
        assert [reply.code for reply in client.replies(500)] == [250] * 500
        assert client.data(b"Hi\r\n").code == 250
