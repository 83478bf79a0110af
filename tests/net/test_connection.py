"""net/connection: what a client's socket sees, whatever it sends, reads or leaves out."""

import contextlib
import gc
import os
import select
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from fastsmtp import replies
from fastsmtp._session import Session
from fastsmtp.net import deadlines, flow
from fastsmtp.net.connection import Connection
from tests.support.held import Inside
from tests.support.patience import until
from tests.support.ports import lasting_port
from tests.support.wire import Wire, all_read

HELLO = b"EHLO client.example.net\r\n"
BEGIN = HELLO + b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"
MAIL = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"
DATA_SEGS_IN = 152  # offset in struct tcp_info: segments with data that came in


def message(content=b"Subject: x\r\n\r\nHi\r\n", recipient=b"b@example.org"):
    return b"MAIL FROM:<a@example.com>\r\nRCPT TO:<%b>\r\nBDAT %d LAST\r\n%b" % (
        recipient,
        len(content),
        content,
    )


def everything(client):
    """All that comes until the server hangs up in order: a reset raises."""
    received = client.unread
    client.unread = b""
    while data := client.socket.recv(1 << 20):
        received += data
    return received


def codes(received):
    return [int(line[:3]) for line in received.splitlines() if line[3:4] == b" "]


def resident(pid):
    """Octets of memory that a process has in use."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def test_replies_of_a_pipelined_read_leave_in_one_write():
    with Inside() as server, Wire(server.port) as client:
        before = segments(client)
        client.send(HELLO + MAIL + b"RCPT TO:<c@example.org>\r\nRSET\r\nNOOP\r\n" + MAIL)
        client.replies(8)
        assert segments(client) - before == 1
        client.send(b"BDAT 3 LAST\r\nHi\n")
        until(lambda: server.sink.waiting)
        client.send(b"NOOP\r\n" + MAIL + b"NOOP\r\n")
        until(lambda: server.connections[0].session.backlog)
        server.do(server.sink.release)
        assert [reply.code for reply in client.replies(5)] == [250] * 5
        assert segments(client) - before == 2


def segments(client):
    info = client.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("I", info, DATA_SEGS_IN)[0]


def test_a_client_that_reads_no_replies_is_read_no_more(start_daemon):
    daemon = start_daemon()
    with Wire(daemon.port) as client:
        before = resident(daemon.workers[0])
        assert fill(client, daemon.port) < MUCH
        assert resident(daemon.workers[0]) - before < 24 << 20
        with Wire(daemon.port) as other:
            assert other.command("NOOP").code == 250


MUCH = 200 << 20


def begin(client):
    """Begin a transaction with a recipient: in it, commands without end are no waste of ours."""
    client.ehlo()
    client.envelope("a@example.com", ["b@example.org"])


def fill(client, port):
    """Send commands until nobody takes them any more, or `MUCH`; gives how many octets."""
    begin(client)
    client.socket.setblocking(False)
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < MUCH:
            with contextlib.suppress(BlockingIOError):
                sent += client.socket.send(b"HELP\r\n" * 10_000)
                continue
            all_read(port)
            if not select.select([], [client.socket], [], 0)[1]:
                break
    client.socket.settimeout(10)
    return sent


def test_few_octets_do_not_become_many_that_nobody_reads(start_daemon):
    daemon = start_daemon()
    before = resident(daemon.workers[0])
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(30)]
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", daemon.port))
        for client in clients:
            client.sendall(BEGIN + b"HELP\r\n" * 30_000)  # 2 MB of replies
        for _ in range(20):
            all_read(daemon.port)
        assert resident(daemon.workers[0]) - before < 30 << 20


def test_many_commands_at_once_are_answered_one_by_one():
    with Inside() as server, Wire(server.port) as client:
        begin(client)
        sender = threading.Thread(target=client.send, args=(b"VRFY x\r\n" * 30_000,))
        sender.start()
        assert {reply.code for reply in client.replies(30_000)} == {252}
        sender.join()


def test_who_sends_no_more_is_told_everything_all_the_same():
    with Inside() as server, Wire(server.port) as client:
        begin(client)
        client.send(b"NOOP\r\n" * 10_000 + b"HELP\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        assert codes(everything(client)) == [250] * 10_000 + [214]


def test_a_client_that_reads_no_replies_is_ended_after_the_timeout(monkeypatch):
    monkeypatch.setattr(deadlines, "LINGER", 0.3)
    with Inside(smtp_timeout=0.5) as server, Wire(server.port) as client:
        fill(client, server.port)
        until(lambda: not server.connections, 3 * 0.8)


def test_a_client_that_reads_late_gets_every_reply_in_order():
    with Inside() as server, Wire(server.port) as client:
        begin(client)
        lines = b"".join(b"VRFY a\r\nNOOP\r\nHELP\r\n" for _ in range(30_000))
        sender = threading.Thread(target=client.send, args=(lines,))
        sender.start()
        until(lambda: any(each.flow.is_paused for each in server.connections))
        all_read(server.port)
        found = [client.reply().code for _ in range(90_000)]
        sender.join()
        assert found == [252, 250, 214] * 30_000


def test_what_is_pipelined_behind_a_waiting_message_is_bounded_and_answered_in_order():
    count, size = 500, 20_000
    with Inside() as server, Wire(server.port) as client:
        client.ehlo()
        client.send(message(recipient=b"first@example.org"))
        until(lambda: server.sink.waiting)
        content = b"x" * size
        lines = b"".join(message(content, b"r%d@example.org" % n) for n in range(count))
        sender = threading.Thread(target=client.send, args=(lines,))
        sender.start()
        (connection,) = server.connections
        until(lambda: connection.flow.is_paused)
        all_read(server.port)
        assert flow.BACKLOG < connection.session.backlog < flow.BACKLOG + (512 << 10)
        assert sender.is_alive()
        server.do(server.sink.release)
        assert b"first@example.org" in client.replies(3)[2].raw
        for n in range(count):
            assert b" for r%d@example.org\r\n" % n in client.replies(3)[2].raw
        sender.join()
        assert len(server.sink.messages) == count + 1


@pytest.mark.parametrize("end", [b"QUIT\r\n", b""])
def test_who_shuts_the_sending_side_down_gets_all_replies(start_daemon, end):
    daemon = start_daemon()
    with Wire(daemon.port) as client:
        content = b"Subject: x\r\n\r\n" + b"y" * 600_000 + b"\r\n"
        client.send(HELLO + message() + message(content) + message() + b"NOOP\r\n" + end)
        client.socket.shutdown(socket.SHUT_WR)
        received = everything(client)
    assert codes(received) == [250, *[250] * 9, 250, *([221] if end else [])]
    assert received.count(b" for b@example.org") == 3
    assert daemon.queue("list").count("b@example.org") == 3


def test_a_client_that_vanishes_before_the_reply_harms_nobody(caplog):
    with Inside() as server:
        for how in (socket.SHUT_RDWR, None):
            with Wire(server.port) as client:
                client.send(HELLO + message())
                until(lambda: len(server.sink.waiting) == 1)
                if how is None:  # a reset
                    client.socket.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
            server.do(lambda: server.sink.release(auto=False))
            until(lambda: not server.connections)
        with Wire(server.port) as client:
            server.do(server.sink.release)
            client.send(HELLO + message())
            assert [reply.code for reply in client.replies(4)] == [250] * 4
        assert server.metrics.messages == 3
    assert caplog.text == ""


def test_a_late_answer_is_never_another_messages():
    with Inside() as server, Wire(server.port) as client:
        client.send(HELLO + message())
        until(lambda: server.sink.waiting)
        ((first, _),) = server.sink.waiting
        server.do(lambda: server.sink.release(replies.NOT_STORED, auto=False))
        assert [reply.code for reply in client.replies(4)] == [250, 250, 250, 451]
        client.send(message() + b"NOOP\r\n")
        until(lambda: server.sink.waiting)
        client.replies(2)
        server.do(lambda: first([None]))
        all_read(server.port)
        client.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.reply()


def test_no_reset_eats_the_reply_to_refused_data(start_daemon):
    with Wire(start_daemon().port) as client:
        client.send(HELLO + b"DATA\r\n" + b"content\r\n" * 100_000)
        for _ in range(4):
            client.send(b"content\r\n" * 100_000)
        received = everything(client)
        assert codes(received) == [250, 554]
        assert received.endswith(b"554 5.5.0 Protocol error, closing\r\n")


def test_no_reset_eats_the_reply_that_interrupts_a_paused_client():
    """Unread input behind the message, more than is read ahead, when the grace is over."""
    with Inside() as server, Wire(server.port) as client:
        client.send(HELLO + message())
        until(lambda: server.sink.waiting)
        sender = threading.Thread(target=client.send, args=(b"NOOP\r\n" * 5_000_000,))
        sender.start()
        until(lambda: server.connections[0].flow.is_paused)
        server.do(lambda: server.connections[0].close(replies.STOPPING))
        sender.join(3)  # what it sends now is thrown away
        assert not sender.is_alive()
        assert codes(everything(client)) == [250, 250, 250, 421]


def test_quit_hangs_up_at_once():
    with Inside() as server, Wire(server.port) as client:
        assert client.command("QUIT").code == 221
        assert client.hung_up()
        until(lambda: not server.connections)


def test_who_does_not_hang_up_after_the_last_reply_is_hung_up_on(monkeypatch):
    monkeypatch.setattr(deadlines, "LINGER", 0.3)
    with Inside(smtp_timeout=1) as server, Wire(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\n")
        assert client.reply().code == 554
        assert client.hung_up()
        time.sleep(0.2)  # of the 0.3 seconds that it has to read
        assert server.connections
        started = time.monotonic()
        while server.connections:  # sending on is no way to stay
            assert time.monotonic() - started < 3 * 0.6
            try:
                client.send(b"x")
            except OSError:
                break
            time.sleep(0.02)  # it is never quiet for long
        until(lambda: not server.connections)


def test_the_connection_over_the_limit_is_told_and_its_place_comes_back(start_daemon):
    port = start_daemon(smtp_connections=2).port
    with Wire(port) as first, Wire(port):
        with Wire(port) as over:
            assert over.greeting.raw.startswith(b"421 4.3.2 ")
            assert over.hung_up()
        assert first.command("QUIT").code == 221
        assert first.hung_up()
        until(lambda: greeted(port))


def greeted(port):
    with Wire(port) as client:
        return client.greeting.code == 220


def test_thousands_of_connections_leave_nothing_behind():
    with Inside() as server:
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        for n in range(1500):
            client = socket.create_connection(("127.0.0.1", server.port))
            if n % 3 == 0:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if n % 3 == 1:
                client.sendall(HELLO + MAIL + b"DATA\r\nhalf a mess")
            if n % 5 == 0:
                client.recv(1)
            client.close()
        assert greeted(server.port)  # in its turn, so all others were accepted
        until(lambda: not server.connections)
        until(lambda: len(os.listdir("/proc/self/fd")) <= before)
        server.do(gc.collect)
        left = [each for each in gc.get_objects() if isinstance(each, Connection | Session)]
        assert left == []


def test_few_descriptors_mean_fewer_connections_and_no_silence(start_daemon, tmp_path):
    limited = ("prlimit", "--nofile=90:90", "--")
    daemon = start_daemon(smtp_port=lasting_port())
    daemon.close()
    daemon.command = (*limited, *daemon.command)
    daemon.start()
    assert "the limit of 90 open files allows 26 connections" in daemon.log
    clients = [Wire(daemon.port) for _ in range(40)]
    assert [each.greeting.code for each in clients] == [220] * 26 + [421] * 14
    for each in clients:
        each.close()


@pytest.mark.parametrize(
    ("kind", "sent"),
    [("250 2.0.0 ok", b"NOOP\r\n"), (replies.QUEUED, message(b"", b"a@example.org"))],
)
def test_a_mistake_in_the_session_ends_it_without_detail(caplog, kind, sent):
    with Inside() as server, Wire(server.port) as client, Wire(server.port) as other:
        server.sink.auto = True
        client.ehlo()
        server.metrics.replies[kind] = "no number"
        client.send(sent)
        received = everything(client)
        assert received.endswith(b"451 4.3.0 Local error, try again later\r\n")
        assert b"str" not in received
        client.close()
        until(lambda: len(server.connections) == 1)
        server.metrics.replies[kind] = 0
        assert other.command("NOOP").code == 250
    assert [record.getMessage() for record in caplog.records] == ["a session failed"]


def test_a_mistake_at_the_beginning_leaves_no_descriptor(monkeypatch, caplog):
    def fails(transport):
        raise RuntimeError("secret")

    monkeypatch.setattr("fastsmtp.net.connection._peer", fails)
    with Inside() as server:
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                assert client.recv(1) == b""
        gc.collect()
        until(lambda: len(os.listdir("/proc/self/fd")) <= before)
    assert "a connection could not be begun" in caplog.text


def test_what_a_client_sends_never_forges_a_reply_or_a_log_line(start_daemon):
    daemon = start_daemon()
    evil = b"\x1b[31m\x07\x85\xff\xe2\x80\xae"
    with Wire(daemon.port) as client:
        client.send(b"EHLO " + evil + b"\r\nFOO" + evil + b"\r\nVRFY " + evil + b"\r\n")
        client.send(b"MAIL FROM:<a" + evil + b"@example.com>\r\n")
        client.send(b"MAIL FROM:<a@example.com> SMTPUTF8\r\n")
        local = "\u202e\u0085\u2028" + "\u00e4" * 150
        client.send(f"RCPT TO:<{local}@example.org>\r\n".encode() * 2)
        header = b"X-MQ-Priority: " + evil + b"\n250 2.0.0 forged\r\n"
        content = header + b"X-MQ-" + evil + b": x\r\n\r\n"
        client.send(b"BDAT %d LAST\r\n%bQUIT\r\n" % (len(content), content))
        received = everything(client)
    assert received.endswith(b"221 2.0.0 Bye\r\n")
    for line in received.split(b"\r\n"):
        assert len(line) <= 510
        assert line.decode().isprintable(), line
    for line in daemon.log.splitlines():
        assert line.isprintable()
        assert line[:2] == "20", line
