"""memory_budget: mail that is held stays within smtp-maxmemory, and comes to its end."""

import contextlib
import os
import socket
import struct
import threading
import time
from pathlib import Path
from random import Random

import pytest

from fastsmtp import replies
from fastsmtp.memory_budget import FLAT, MemoryBudget
from fastsmtp.net import deadlines
from fastsmtp.peer import Peer
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

    def __init__(self, memory, address="192.0.2.1", user=""):
        self.memory = memory
        peer = Peer("127.0.0.1", 25, address, 4000)
        peer.user = user
        self.claim = memory.claim(peer, self)
        self.goes_on = False
        self.order = []

    def regulate(self):
        self.goes_on = True
        self.order.append(self)

    def reserve(self, size, order=None):
        """Ask for a grant; whether it is there."""
        self.order = self.order if order is None else order
        self.goes_on = self.claim.reserve(size)
        return self.goes_on

    def end(self):
        self.claim.end()


def test_clients_take_turns_and_each_ones_messages_keep_their_order():
    memory = MemoryBudget(256 * MB, 60 * MB)
    first = [Sender(memory) for _ in range(2)]
    assert all(each.reserve(60 * MB) for each in first)
    order = []
    greedy = [Sender(memory, "192.0.2.1") for _ in range(4)]
    user = [Sender(memory, "192.0.2.1", user="joe") for _ in range(2)]
    other = Sender(memory, "192.0.2.2")
    for each in (*greedy, *user, other):
        assert not each.reserve(60 * MB, order)
    for each in first:
        each.end()
    while len(order) < 7:
        order[len(order) - 1].end()
    assert order == [greedy[0], user[0], other, greedy[1], user[1], greedy[2], greedy[3]]


def test_networks_of_ipv6_are_clients_until_too_many_are_of_one_48():
    memory = MemoryBudget(256 * MB, 60 * MB)
    held = [Sender(memory, "2001:db8::1"), Sender(memory, "2001:db8::2")]
    assert held[0].claim.client is held[1].claim.client
    many = [Sender(memory, f"2001:db8:1:{n:x}::1") for n in range(16)]
    assert len({each.claim.client.whole() for each in many}) == 16
    many.append(Sender(memory, "2001:db8:1:ff::1"))
    assert len({each.claim.client.whole() for each in many}) == 1
    for each in (*held, *many):
        each.end()
    assert len({each.claim.client.whole() for each in many}) == 17  # nobody is left


def test_small_content_needs_nothing_while_large_content_waits():
    memory = MemoryBudget(256 * MB, 60 * MB)
    large = [Sender(memory, f"192.0.2.{n}") for n in range(50)]
    assert sum(each.reserve(60 * MB) for each in large) == 2
    small = [Sender(memory, f"198.51.100.{n}") for n in range(100)]
    assert all(each.claim.reach(200 * KB, 60 * MB) for each in small)


def test_who_holds_most_is_refused_first():
    memory = MemoryBudget(256 * MB, 60 * MB)
    much, little = Sender(memory, "192.0.2.1"), Sender(memory, "192.0.2.2")
    little.claim.hold(100 * KB)
    much.claim.hold(230 * MB)
    assert not memory.refuses(much.claim.client)  # alone, it may use nearly all
    much.claim.hold(250 * MB)
    assert memory.refuses(much.claim.client)
    assert not memory.refuses(little.claim.client)


class Arriving(Sender):
    """One message in a simulation: a step is a second."""

    def __init__(self, random, memory, started):
        super().__init__(memory, f"192.0.2.{random.randrange(4)}")
        self.size = random.choice([2, 100, 300, 1000, 5000, 30_000, 60_000]) * KB
        self.declared = self.size > 256 * KB and random.random() < 0.5
        self.rate = random.choice([200 * KB, 2 * MB, 60 * MB])
        self.is_silent = random.random() < 0.3
        self.stop = random.randrange(self.size)
        self.came = 0
        self.started = started
        self.waited = self.lazy = 0
        self.outcome = ""
        if self.declared:
            self.reserve(self.size)
        else:
            self.goes_on = self.claim.reach(0, 60 * MB)

    def step(self):
        if not self.goes_on:
            self.waited += 1
            if self.waited > 60:
                self.finish("452")
            return
        self.waited = 0
        end = self.stop if self.is_silent else self.size
        more = min(self.rate, end - self.came)
        self.lazy = self.lazy + 1 if more < 64 * KB and self.memory.waiting else 0
        while more and self.goes_on:  # as reads of at most 256 KB
            read = min(more, 256 * KB)
            more -= read
            self.came += read
            most = self.size if self.declared else 60 * MB
            self.goes_on = self.claim.reach(self.came, most)
        if self.lazy > 30 and self.claim.granted:
            self.finish("452")
        elif self.came == self.size:
            self.claim.hand_over(self.size)
            self.finish("250")

    def finish(self, outcome):
        self.outcome = outcome
        self.claim.end()


@pytest.mark.parametrize("seed", range(30))
def test_whoever_sends_how_every_honest_message_comes_to_its_end(seed):
    random = Random(seed)
    memory = MemoryBudget(256 * MB, 60 * MB)
    senders = [Arriving(random, memory, 0) for _ in range(random.choice([5, 60, 400]))]
    lone = seed % 3 == 0  # nobody is silent: nobody may wait for ever, whatever else
    for each in senders:
        each.is_silent = each.is_silent and not lone
    for _ in range(3000):
        for each in senders:
            if not each.outcome:
                each.step()
            parts = memory.loose + memory.large
            assert parts == memory.held <= memory.limit
            assert memory.large <= memory.limit - memory.small
        if not memory.waiting and all(each.outcome or each.is_silent for each in senders):
            break
    else:
        raise AssertionError("somebody waits for ever")
    for each in senders:
        if each.size <= 256 * KB and not each.is_silent:
            assert each.outcome == "250"
        each.claim.end() if not each.outcome else None
    assert memory.held == memory.loose == memory.large == memory.partial == memory.waiting == 0


def test_a_lone_client_never_waits_for_itself():
    """A thousand messages of 1 MB at once, whose size nobody knows."""
    memory = MemoryBudget(256 * MB, 60 * MB)
    senders = [Sender(memory) for _ in range(1000)]
    came = dict.fromkeys(senders, 0)
    for each in senders:
        each.goes_on = True
    for _ in range(100_000):
        moving = [each for each in came if each.goes_on]
        assert moving or not came, "all wait"
        for each in moving:
            came[each] += 128 * KB
            each.goes_on = each.claim.reach(came[each], 60 * MB)
            if came[each] >= MB:
                del came[each]
                each.end()
        if not came:
            return
    raise AssertionError("too slow")


# With clients


def mail(server):
    """Bytes that are held besides the flat charge of connections."""
    memory = server.availability.memory
    return memory.held - memory.connections


def begun(server, command="DATA", source="127.0.0.1"):
    """A client whose content may come."""
    client = Wire(server.port, source=source)
    client.ehlo()
    client.envelope("a@example.com", ["b@example.org"])
    if command == "DATA":
        assert client.command("DATA").code == 354
    return client


def give(server, client, part=PART):
    """Send a part of the content; the memory budget knows of it when this returns."""
    before = mail(server)
    client.send(part)
    until(lambda: mail(server) > before + len(part) - 2 * KB)


def give_chunk(server, client):
    """A chunk of BDAT that is not the last one."""
    assert client.bdat(PART, last=False).code == 250
    assert mail(server) >= len(PART)


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
        assert mail(server) == 0
        assert client.mail(b"Subject: small\r\n\r\n").code == 250
        assert mail(server) == 0


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
            assert size < mail(server) < size + 12 * KB
            server.do(lambda outcome=outcome: server.sink.release(outcome, auto=False))
            assert client.reply().code == code
            assert mail(server) == 0


def test_who_hangs_up_while_mail_is_with_the_sink_has_it_held(server):
    server.sink.auto = False
    with begun(server) as client:
        client.send(PART + b".\r\n")
        until(lambda: server.sink.waiting)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: not server.connections)
    assert mail(server) > len(PART)
    server.do(server.sink.release)
    assert mail(server) == 0


def test_input_that_is_kept_is_held_too(server):
    server.sink.auto = False
    with Wire(server.port) as client:
        client.ehlo()
        client.envelope("a@example.com", ["b@example.org"])
        client.send(b"BDAT 2 LAST\r\nHi")
        until(lambda: server.sink.waiting)
        before = mail(server)
        client.send(b"NOOP\r\n" * 1000)
        until(lambda: mail(server) == before + 6000)
        server.do(server.sink.release)
        assert [reply.code for reply in client.replies(1001)] == [250] * 1001
        assert mail(server) == 0


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
        assert mail(server) == 0


def test_content_that_becomes_too_large_is_let_go_at_once(server):
    with begun(server) as client:
        give(server, client)
        client.send(PART)
        until(lambda: mail(server) == 0)
        client.send(b".\r\n")
        assert client.reply().code == 552


def test_a_message_that_cannot_be_composed_is_held_no_more(server):
    with begun(server) as client:
        give(server, client, b"Received: by x\r\n" * 101 + b"\r\n" + PART)
        client.send(b".\r\n")
        assert client.reply().code == 554
        assert mail(server) == 0


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
        until(lambda: mail(server) == 0, timeout=5)  # and not when a handshake ends


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
        until(lambda: mail(server) == 0)


def test_who_is_cut_off_by_a_stop_has_nothing_held():
    with Inside(**SMALL) as server, begun(server) as client:
        give(server, client)
        server.end()
        assert client.reply().raw == replies.STOPPING.wire
        until(lambda: mail(server) == 0)


# Waiting. Two grants of messages of 900 KB are all that there is room for.

LARGE = LINE * 900


def asking(server, source, size=900 * KB, content=b""):
    """A client that has said SIZE= and DATA."""
    client = Wire(server.port, source=source)
    client.ehlo()
    assert client.command(f"MAIL FROM:<a@example.com> SIZE={size}").code == 250
    assert client.command("RCPT TO:<b@example.org>").code == 250
    client.send(b"DATA\r\n" + content)
    return client


def granted(server, count=2):
    """Clients that have all there is."""
    clients = [asking(server, f"127.0.0.{n + 2}") for n in range(count)]
    assert [client.reply().code for client in clients] == [354] * count
    return clients


def ends(*clients):
    for client in clients:
        client.close()


def test_354_comes_when_there_is_room_and_small_mail_does_not_wait(server):
    first, second = granted(server)
    third = asking(server, "127.0.0.4")
    silent(server, third)
    with Wire(server.port, source="127.0.0.9") as other:
        other.ehlo()
        for _ in range(20):
            assert other.mail(LINE * 100).code == 250
    silent(server, third)
    first.send(LARGE + b".\r\n")
    assert [first.reply().code, third.reply().code] == [250, 354]
    for client in (second, third):
        client.send(LARGE + b".\r\n")
        assert client.reply().code == 250
    ends(first, second, third)


def test_clients_hear_354_in_turn(server):
    one, two = granted(server)
    greedy = [asking(server, "127.0.0.4") for _ in range(2)]
    until(lambda: server.availability.memory.waiting == 2)
    other = asking(server, "127.0.0.5")
    until(lambda: server.availability.memory.waiting == 3)
    one.close()
    assert greedy[0].reply().code == 354
    silent(server, greedy[1], other)
    two.close()
    assert other.reply().code == 354
    silent(server, greedy[1])
    greedy[0].close()
    assert greedy[1].reply().code == 354
    ends(*greedy, other)


def test_who_leaves_the_line_holds_nobody_up(server):
    one, two = granted(server)
    gone, late = asking(server, "127.0.0.4"), asking(server, "127.0.0.5")
    until(lambda: server.availability.memory.waiting == 2)
    gone.close()
    until(lambda: server.availability.memory.waiting == 1)
    one.send(LARGE + b".\r\n")
    assert late.reply().code == 354
    ends(one, two, late)


@pytest.mark.parametrize("command", ["DATA", "BDAT", "BDAT between"])
def test_content_of_unknown_size_is_not_read_until_there_is_room(server, command):
    clients = granted(server)
    late = begun(server, command, "127.0.0.4")
    if command == "DATA":
        late.send(PART + b".\r\n")
    elif command == "BDAT":
        late.send(b"BDAT %d LAST\r\n" % len(PART) + PART)
    else:
        late.send(b"BDAT %d\r\n" % len(PART) + PART + b"BDAT 0 LAST\r\n")
    silent(server, late)
    assert mail(server) < 3 * MB
    clients[0].send(LARGE + b".\r\n")
    assert clients[0].reply().code == 250
    assert late.replies(2 if command == "BDAT between" else 1)[-1].code == 250
    ends(late, *clients)


def test_without_others_one_client_may_use_all_and_be_silent(monkeypatch):
    monkeypatch.setattr(deadlines, "BEHIND", 0.3)
    with Inside(**SMALL) as server:
        server.sink.auto = True
        clients = granted(server)
        time.sleep(1.2)  # longer than BEHIND
        silent(server, *clients)
        for client in clients:
            client.send(LARGE + b".\r\n")
            assert client.reply().code == 250
        ends(*clients)


def test_whoever_keeps_others_waiting_has_its_content_thrown_away(monkeypatch):
    monkeypatch.setattr(deadlines, "BEHIND", 1.0)
    with Inside(smtp_timeout=4, **SMALL) as server:
        server.sink.auto = True
        clients = granted(server)
        late = asking(server, "127.0.0.4")
        assert late.reply().code == 354
        late.send(LARGE + b".\r\n")
        assert late.reply().code == 250
        for client in clients:
            client.send(LARGE + b".\r\n")
        heard = [client.reply() for client in clients]
        refused = [reply.raw for reply in heard if reply.code != 250]
        assert set(refused) == {NO_MEMORY}  # of one of them, or of both
        assert clients[0].mail(b"Hi\r\n").code == 250
        ends(late, *clients)


def test_a_pause_of_ours_stops_the_clock():
    with Inside(smtp_timeout=0.8, smtp_minrate=100 * KB, **SMALL) as server:
        server.sink.auto = True
        clients = [asking(server, f"127.0.0.{n + 2}") for n in range(2)]
        assert [client.reply().code for client in clients] == [354] * 2
        late, unknown = asking(server, "127.0.0.4"), begun(server, "DATA", "127.0.0.5")
        unknown.send(PART + b".\r\n")
        for _ in range(12):
            for client in clients:
                client.send(LINE)
            time.sleep(0.2)  # together longer than a client may be quiet
        silent(server, late, unknown)
        clients[0].send(b".\r\n")
        assert late.reply().code == 354
        time.sleep(0.4)  # in time, counted from the end of the pause
        silent(server, late)
        late.send(LARGE + b".\r\n")
        assert late.reply().code == 250
        clients[1].send(b".\r\n")
        assert unknown.reply().code == 250
        ends(late, unknown, *clients)


@pytest.mark.parametrize("command", ["354", "DATA", "BDAT"])
def test_no_room_for_a_minute_is_452(monkeypatch, command):
    monkeypatch.setattr(deadlines, "PATIENCE", 1.0)
    with Inside(smtp_timeout=3, **SMALL) as server:
        server.sink.auto = True
        clients = granted(server)
        if command == "354":
            late = asking(server, "127.0.0.4")
        else:
            late = begun(server, command, "127.0.0.4")
            late.send(
                PART + b".\r\n" if command == "DATA" else b"BDAT %d LAST\r\n" % len(PART) + PART
            )
        before = time.monotonic()
        assert late.reply().raw == NO_MEMORY
        assert 0.7 < time.monotonic() - before < 6
        assert late.mail(b"Hi\r\n").code == 250
        ends(late, *clients)


def test_content_behind_a_data_that_is_refused_never_runs(monkeypatch):
    monkeypatch.setattr(deadlines, "PATIENCE", 0.5)
    with Inside(**SMALL) as server:
        clients = granted(server)
        late = asking(server, "127.0.0.4", content=b"RSET\r\nNOOP\r\n")
        assert late.reply().raw == replies.PROTOCOL_ERROR.wire
        assert late.hung_up()
        ends(late, *clients)


# What is no content


def test_full_memory_refuses_mail(server):
    with Wire(server.port) as client:
        client.ehlo()
        server.do(lambda: server.availability.memory.hold(4 * MB))
        assert client.command("MAIL FROM:<a@example.com>").raw == NO_MEMORY
        server.do(lambda: server.availability.memory.hold(-4 * MB))
        assert client.mail(b"Hi\r\n").code == 250


def test_long_envelopes_are_held_and_refused_before_memory_is_full(server):
    line = b"RCPT TO:<%b@example.org>\r\n" % (b"o" * 4000)
    clients = []
    while len(clients) < 50:
        client = Wire(server.port, source="127.0.0.2")
        clients.append(client)
        client.ehlo()
        code = client.command("MAIL FROM:<a@example.com>").code
        for _ in range(20 if code == 250 else 0):
            code = client.command(line[:-2]).code
            if code != 250:
                break
        if code != 250:
            break
    assert code == 452
    assert server.availability.memory.held < MB
    with Wire(server.port, source="127.0.0.9") as other:
        other.ehlo()
        assert other.mail(b"Hi\r\n").code == 250
    ends(*clients)


def test_replies_that_are_not_read_are_held(server):
    with Wire(server.port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.ehlo()
        client.envelope("a@example.com", ["b@example.org"])
        client.socket.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while True:
                client.send(b"HELP\r\n" * 1000)
        assert mail(server) > 10 * KB


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
    assert scrape("fastsmtp_mail_bytes") == 30 * FLAT
    assert scrape("fastsmtp_mail_limit_bytes") == 32 * MB
    for client in clients:
        client.close()


def test_connections_leave_half_of_memory_to_mail(start_daemon, tmp_path):
    pair = certificates.make(tmp_path)
    daemon = start_daemon(
        smtp_maxsize=MB,
        smtp_maxmemory=16 * MB,
        smtp_certificate=pair.certificate,
        smtp_key=pair.key,
    )
    first = Wire(daemon.port)
    first.ehlo()
    others = [
        socket.create_connection(("127.0.0.1", daemon.port)) for _ in range(8 * MB // FLAT - 1)
    ]
    for other in others:
        assert other.recv(4) == b"220 "
    with socket.create_connection(("127.0.0.1", daemon.port)) as refused:
        assert refused.recv(100) == replies.TOO_MANY_CONNECTIONS.wire
    assert first.command("STARTTLS").code == 454
    assert first.mail(LINE * 500).code == 250
    for other in others[:10]:
        other.close()
    until(lambda: first.command("STARTTLS").code == 220)
    for each in (first, *others[10:]):
        each.close()
