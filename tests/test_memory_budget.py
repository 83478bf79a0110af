"""memory_budget: mail that is held stays within smtp-maxmemory, and comes to its end."""

import os
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from fastsmtp import replies
from fastsmtp.availability import Availability
from fastsmtp.net import deadlines
from tests.support import certificates
from tests.support.held import Inside
from tests.support.patience import until
from tests.support.watcher import SETTINGS as WATCHED
from tests.support.watcher import Scrape
from tests.support.wire import Wire, all_read

KB = 1024
MB = 1024 * KB
LINE = b"x" * 1022 + b"\r\n"
PART = LINE * 700  # of content that is at most 1 MB
NO_MEMORY = replies.NO_MEMORY.wire
SMALL = {"smtp_maxsize": MB, "smtp_maxmemory": 4 * MB}


class Sender:
    """Content that is coming in, as the memory budget sees it."""

    def __init__(self, availability):
        self.availability = availability
        self.waits = None
        availability.memory.enter(self)

    def regulate(self):
        self.waits = self.availability.memory.must_wait(self)


def test_over_the_budget_all_but_the_oldest_wait_until_an_eighth_is_free():
    availability = Availability(100, maxmemory=800)
    senders = [Sender(availability) for _ in range(3)]
    availability.memory.hold(800)
    assert not availability.memory.is_full
    assert [sender.waits for sender in senders] == [None] * 3
    availability.memory.hold(1)
    assert availability.memory.is_full
    assert [sender.waits for sender in senders] == [False, True, True]
    availability.memory.hold(-100)
    assert availability.memory.is_full
    availability.memory.hold(-1)
    assert not availability.memory.is_full
    assert [sender.waits for sender in senders] == [False] * 3


def test_the_next_one_goes_on_when_the_oldest_has_ended():
    availability = Availability(100, maxmemory=800)
    oldest, second, third = (Sender(availability) for _ in range(3))
    availability.memory.hold(900)
    availability.memory.leave(second)
    assert third.waits
    availability.memory.enter(second)
    second.regulate()
    availability.memory.leave(oldest)
    assert not third.waits
    assert second.waits


def test_content_that_begins_while_memory_is_full_waits_too():
    availability = Availability(100, maxmemory=800)
    availability.memory.hold(900)
    oldest, late = Sender(availability), Sender(availability)
    for sender in (oldest, late):
        sender.regulate()
    assert not oldest.waits
    assert late.waits


# With clients


def begun(server, command="DATA"):
    """A client whose content may come."""
    client = Wire(server.port)
    client.ehlo()
    client.envelope("a@example.com", ["b@example.org"])
    if command == "DATA":
        assert client.command("DATA").code == 354
    return client


def give(server, client, part=PART):
    """Send a part of the content; the memory budget knows of it, or is full, when this returns."""
    before = server.availability.memory.held
    client.send(part)
    until(
        lambda: (
            server.availability.memory.is_full
            or server.availability.memory.held > before + len(part) - 2 * KB
        )
    )


def give_chunk(server, client):
    """A chunk of BDAT that is not the last one."""
    assert client.bdat(PART, last=False).code == 250
    assert server.availability.memory.held >= len(PART)


def filled(server, count=7):
    """Clients in DATA that have filled the memory, the oldest first."""
    clients = [begun(server) for _ in range(count)]
    for client in clients:
        if server.availability.memory.is_full:
            client.send(PART)
        else:
            give(server, client)
    assert server.availability.memory.is_full
    return clients


def silent(server, *clients):
    """No reply has come by the time at which a later client has had its."""
    all_read(server.port)
    for client in clients:
        client.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.socket.recv(1)
        client.socket.settimeout(10)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return certificates.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def shared(pair):
    with Inside(
        smtp_certificate=(str(pair.certificate),),
        smtp_key=(str(pair.key),),
        smtp_bare_newline="reject",
        smtp_maxerrors=2,
        **SMALL,
    ) as started:
        yield started


@pytest.fixture
def server(shared):
    """Holds nothing when the test is over."""
    shared.sink.auto = True
    yield shared
    until(lambda: not shared.connections)
    until(lambda: not shared.availability.memory.held)
    assert shared.availability.memory.held == 0
    assert not shared.availability.memory.is_full


def test_what_is_accepted_is_held_no_more(server):
    with begun(server) as client:
        give(server, client)
        client.send(b".\r\n")
        assert client.reply().code == 250
        assert server.availability.memory.held == 0
        assert client.mail(b"Subject: small\r\n\r\n").code == 250
        assert server.availability.memory.held == 0


@pytest.mark.parametrize("size", [100, 200_000, 700_000])
def test_mail_is_held_until_the_sink_has_answered(server, size):
    server.sink.auto = False
    outcomes = {replies.NOT_STORED: 451, replies.UNROUTABLE: 451, None: 250}
    with Wire(server.port) as client:
        client.ehlo()
        for outcome, code in outcomes.items():
            client.envelope("a@example.com", ["b@example.org", "c@example.org"])
            client.send(b"BDAT %d LAST\r\n" % size + b"x" * size)
            until(lambda: server.sink.waiting)
            assert size < server.availability.memory.held < size + 10 * KB
            server.do(lambda outcome=outcome: server.sink.release(outcome, auto=False))
            assert client.reply().code == code
            assert server.availability.memory.held == 0


def test_who_hangs_up_while_mail_is_with_the_sink_has_it_held(server):
    server.sink.auto = False
    with begun(server) as client:
        client.send(PART + b".\r\n")
        until(lambda: server.sink.waiting)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: not server.connections)
    assert server.availability.memory.held > len(PART)
    server.do(server.sink.release)
    assert server.availability.memory.held == 0


def test_input_that_is_kept_is_held_too(server):
    server.sink.auto = False
    with Wire(server.port) as client:
        client.ehlo()
        client.envelope("a@example.com", ["b@example.org"])
        client.send(b"BDAT 2 LAST\r\nHi")
        until(lambda: server.sink.waiting)
        before = server.availability.memory.held
        client.send(b"NOOP\r\n" * 1000)
        until(lambda: server.availability.memory.held == before + 6000)
        server.do(server.sink.release)
        assert [reply.code for reply in client.replies(1001)] == [250] * 1001
        assert server.availability.memory.held == 0


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ((b"a\nb\r\n.\r\n",), 550),
        ((PART + b".\r\n",), 552),
        ((b"\r\n.\r\nFOO\r\nFOO\r\n",), 250),
    ],
    ids=["bare newline", "too large", "errors behind it"],
)
def test_content_that_is_refused_is_held_no_more(server, parts, code):
    with begun(server) as client:
        give(server, client)
        for part in parts:
            client.send(part)
        assert client.reply().code == code
        assert server.availability.memory.held == 0


def test_content_that_becomes_too_large_is_let_go_at_once(server):
    with begun(server) as client:
        give(server, client)
        client.send(PART)
        until(lambda: server.availability.memory.held == 0)
        client.send(b".\r\n")
        assert client.reply().code == 552


def test_a_message_that_cannot_be_composed_is_held_no_more(server):
    with begun(server) as client:
        give(server, client, b"Received: by x\r\n" * 101 + b"\r\n" + PART)
        client.send(b".\r\n")
        assert client.reply().code == 554
        assert server.availability.memory.held == 0


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("RSET", 250),
        ("EHLO again", 250),
        (f"BDAT {MB}", 552),
        ("BDAT what", 501),
        ("QUIT", 221),
        ("STARTTLS", 220),
    ],
)
def test_chunks_that_come_to_nothing_are_held_no_more(server, command, code):
    with begun(server, "BDAT") as client:
        give_chunk(server, client)
        client.send(command.encode() + b"\r\n" + (b"x" * MB if code == 552 else b""))
        assert client.reply().code == code
        until(
            lambda: server.availability.memory.held == 0, timeout=5
        )  # and not when a handshake ends


def test_starttls_behind_chunks_goes_on(server, pair):
    with begun(server, "BDAT") as client:
        give_chunk(server, client)
        client.starttls(certificates.client(pair.certificate))
        client.ehlo()
        assert client.mail(PART).code == 250
        client.envelope("a@example.com", ["b@example.org"])
        give_chunk(server, client)


@pytest.mark.parametrize("command", ["DATA", "BDAT"])
def test_who_hangs_up_in_the_middle_has_nothing_held(server, command):
    with begun(server, command) as client:
        give(server, client) if command == "DATA" else give_chunk(server, client)


@pytest.mark.parametrize("command", ["DATA", "BDAT"])
def test_who_is_too_slow_has_nothing_held(command):
    with (
        Inside(smtp_timeout=0.5, smtp_minrate=10 * MB, **SMALL) as server,
        begun(server, command) as client,
    ):
        give(server, client) if command == "DATA" else give_chunk(server, client)
        assert client.reply().raw == replies.TOO_SLOW.wire
        assert server.availability.memory.held == 0


def test_who_is_cut_off_by_a_stop_has_nothing_held():
    with Inside(**SMALL) as server, begun(server) as client:
        give(server, client)
        server.end()
        assert client.reply().raw == replies.STOPPING.wire
        assert server.availability.memory.held == 0


def test_full_memory_refuses_mail_and_reads_on_from_the_oldest_alone(server):
    clients = filled(server)
    with Wire(server.port) as other:
        other.ehlo()
        assert other.command("MAIL FROM:<a@example.com>").raw == NO_MEMORY
        for client in clients[1:]:
            client.send(b".\r\n")
        silent(server, *clients)
        clients[0].send(LINE + b".\r\n")
        assert [client.reply().code for client in clients] == [250] * 7
        assert other.mail(b"Hi\r\n").code == 250
    for client in clients:
        client.close()


@pytest.mark.parametrize("between", [True, False])
def test_chunks_wait_as_data_does(server, between):
    chunks = [begun(server, "BDAT") for _ in range(2)]
    for client in chunks:
        if between:
            give_chunk(server, client)
        else:
            give(server, client, b"BDAT %d\r\n" % (len(PART) + 2) + PART)
    others = filled(server, 6)
    oldest, late = chunks
    late.send(b"BDAT 2 LAST\r\n\r\n" if between else b"\r\nBDAT 0 LAST\r\n")
    silent(server, late, *others)
    oldest.close()
    assert late.replies(1 if between else 2)[-1].code == 250
    for client in (late, *others):
        client.close()


def test_the_next_one_goes_on_when_the_oldest_is_answered(server):
    server.sink.auto = False
    clients = filled(server)
    for client in clients:
        client.send(b".\r\n")
    until(lambda: server.sink.waiting)
    silent(server, *clients)
    assert len(server.sink.waiting) == 1
    server.do(server.sink.release)
    assert [client.reply().code for client in clients] == [250] * 7
    for client in clients:
        client.close()


def test_the_next_one_goes_on_when_the_oldest_hangs_up(server):
    oldest, *others = filled(server, 9)
    for client in others:
        client.send(b".\r\n")
    silent(server, *others)
    oldest.close()
    assert [client.reply().code for client in others] == [250] * 8
    for client in others:
        client.close()


def others_hold(server, octets):
    """As mail does that is with the sink."""
    server.do(lambda: server.availability.memory.hold(octets))


def test_content_that_begins_when_memory_is_full_already_is_not_read(server):
    oldest, late = begun(server), begun(server, "BDAT")
    oldest.send(LINE)
    until(lambda: server.availability.memory.held)
    others_hold(server, 4 * MB)
    assert late.command("DATA").code == 354
    before = server.availability.memory.held
    late.send(PART + b".\r\n")
    silent(server, late)
    assert server.availability.memory.held == before
    others_hold(server, -4 * MB)
    assert late.reply().code == 250
    for client in (oldest, late):
        client.close()


def test_the_next_one_goes_on_when_the_oldest_takes_an_empty_chunk_back(server):
    oldest, late = begun(server, "BDAT"), begun(server, "BDAT")
    others_hold(server, 4 * MB + 1)
    assert oldest.command("BDAT 0").code == 250
    assert late.command("DATA").code == 354
    late.send(PART + b".\r\n")
    silent(server, late)
    assert oldest.command("RSET").code == 250
    assert late.reply().code == 250
    others_hold(server, -4 * MB - 1)
    for client in (oldest, late):
        client.close()


def test_a_pause_of_ours_stops_the_clock():
    timeout = 0.8
    with Inside(smtp_timeout=timeout, smtp_minrate=100 * KB, **SMALL) as server:
        server.sink.auto = True
        oldest, late = begun(server), begun(server)
        give(server, oldest)  # has 7 seconds
        give(server, late, LINE * 3)
        until(
            lambda: all(each.seen_progress == each.session.progress for each in server.connections)
        )
        others_hold(server, 4 * MB)
        time.sleep(3 * timeout)  # longer than a client may be quiet
        silent(server, late)
        others_hold(server, -4 * MB)
        time.sleep(timeout / 2)  # in time, counted from the end of the pause
        silent(server, late)
        late.send(b".\r\n")
        assert late.reply().code == 250
        for client in (oldest, late):
            client.close()


def test_a_pause_that_has_ended_does_not_count(monkeypatch):
    monkeypatch.setattr(deadlines, "PATIENCE", 1.5)
    with Inside(smtp_timeout=0.4, smtp_minrate=KB, **SMALL) as server:
        server.sink.auto = True
        oldest, late = begun(server), begun(server)
        give(server, oldest)
        give(server, late)
        for _ in range(2):
            others_hold(server, 4 * MB)
            time.sleep(1)  # longer than a client may be quiet
            silent(server, late)
            others_hold(server, -4 * MB)
        late.send(b".\r\n")
        assert late.reply().code == 250
        for client in (oldest, late):
            client.close()


@pytest.mark.parametrize("command", ["DATA", "BDAT", "BDAT between"])
def test_content_that_waits_too_long_is_thrown_away(monkeypatch, command):
    monkeypatch.setattr(deadlines, "PATIENCE", 1.0)
    with Inside(smtp_timeout=2, **SMALL) as server:
        server.sink.auto = True
        oldest = begun(server)
        give(server, oldest)
        late = begun(server, command)
        if command == "DATA":
            give(server, late)
        elif command == "BDAT":
            late.send(b"BDAT %d\r\n" % (len(PART) + 3) + PART)
        else:
            give_chunk(server, late)
        others_hold(server, 4 * MB)
        before = time.monotonic()
        late.send(b"BDAT 3\r\n.\r\n" if command == "BDAT between" else b".\r\n")
        assert late.reply().raw == NO_MEMORY
        assert 0.7 < time.monotonic() - before < 6
        assert server.availability.memory.held < 4 * MB + len(PART) + KB
        oldest.send(b".\r\n")
        assert oldest.reply().code == 250
        others_hold(server, -4 * MB)
        assert late.mail(b"Hi\r\n").code == 250
        assert server.availability.memory.held == 0
        for client in (oldest, late):
            client.close()


# The real daemon


def resident(pid):
    """Octets of memory that a process has in use."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_many_large_messages_at_once_are_all_stored_within_the_budget(start_daemon):
    daemon = start_daemon(smtp_maxsize="8MB", smtp_maxmemory="32MB", **WATCHED)
    content = LINE * 7 * KB
    (worker,) = daemon.workers
    before = highest = resident(worker)
    clients = [begun(daemon) for _ in range(30)]
    found = []

    def send(client):
        client.socket.settimeout(60)
        client.send(content + b".\r\n")
        found.append(client.reply())

    threads = [threading.Thread(target=send, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        highest = max(highest, resident(worker))
        time.sleep(0.01)  # looks again
    assert [reply.code for reply in found] == [250] * 30
    listed = daemon.queue("list")
    ids = [message_id for reply in found for message_id in reply.ids]
    assert len(ids) == 30
    assert all(message_id in listed for message_id in ids)
    assert highest - before < 96 * MB  # of 210 MB that were sent
    scrape = Scrape(daemon)
    assert scrape("fastsmtp_mail_bytes") == 0
    assert scrape("fastsmtp_mail_limit_bytes") == 32 * MB
    for client in clients:
        client.close()
