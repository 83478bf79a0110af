"""access and connection_counts: who may come in, how often, and whose X-MQ headers count."""

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsmtp.net import connection_counts, deadlines
from fastsmtp.net.access import Ranges
from fastsmtp.net.connection_counts import ConnectionCounts
from tests.support import certificates
from tests.support.held import Inside
from tests.support.inbox import EmbeddedInbox
from tests.support.wire import Wire

DENIED = b"554 5.7.1 Your address may not send mail here\r\n"
ONE_TOO_MANY = b"421 4.3.2 Too many connections from you, try again later\r\n"

# Few bits that differ, so that ranges meet, overlap and hold each other.
IPV4 = st.integers(0, 255).map(lambda low: IPv4Address(0xC0000200 + low)) | st.ip_addresses(v=4)
IPV6 = st.integers(0, 255).map(lambda low: IPv6Address(low << 60)) | st.ip_addresses(v=6)


@st.composite
def networks(draw):
    address = draw(IPV4 | IPV6)
    prefix = draw(st.integers(0, address.max_prefixlen))
    return ip_network(f"{address}/{prefix}", strict=False)


@given(st.lists(networks(), max_size=20), st.lists(IPV4 | IPV6, max_size=20))
def test_ranges_hold_what_a_walk_over_them_finds(ranges, addresses):
    made = Ranges(ranges)
    edges = [edge for each in ranges for edge in (each[0], each[-1])]
    beyond = [edge + step for edge in edges for step in (-1, 1) if 0 < int(edge) < 2**32 - 1]
    for address in [*addresses, *edges, *beyond]:
        assert (str(address) in made) == any(address in each for each in ranges), address


# smtp-range


@pytest.mark.parametrize(
    "within", ["127.0.0.1", "10.0.0.0/8; ::ffff:127.0.0.0/104", "::1; 0.0.0.0/0"]
)
def test_who_is_in_the_range_is_greeted(within, start_daemon):
    with Wire(start_daemon(smtp_range=within).port) as client:
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250


def test_who_is_not_hears_554_and_may_only_quit(start_daemon):
    daemon = start_daemon(smtp_range="127.0.0.2;192.0.2.0/24;::/0")
    with Wire(daemon.port) as client:
        assert client.greeting.raw == DENIED
        for line in ("EHLO me", "MAIL FROM:<a@b.example>", "NOOP", "RSET", "GARBAGE", "STARTTLS"):
            assert client.command(line).raw.startswith(b"503 5.5.1 "), line
        assert client.command("QUIT").code == 221
        assert client.hung_up()
    with Wire(daemon.port, source="127.0.0.2") as client:
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250


def test_who_is_not_is_hung_up_on_before_a_handshake(start_daemon, tmp_path):
    settings = certificates.make(tmp_path).settings
    daemon = start_daemon(smtp_secure_port=0, smtp_range="192.0.2.0/24", **settings)
    with socket.create_connection(("127.0.0.1", daemon.tls_port), 5) as client:
        assert client.recv(100) == b""
    assert "Traceback" not in daemon.log


def test_who_is_not_has_a_bounded_time_whatever_it_says(monkeypatch):
    monkeypatch.setattr(deadlines, "REFUSED", 0.5)
    with Inside(smtp_range=(ip_network("192.0.2.0/24"),)) as server, Wire(server.port) as client:
        begun = time.monotonic()
        with contextlib.suppress(EOFError, OSError):
            while time.monotonic() - begun < 10:
                client.command("NOOP")
                time.sleep(0.05)  # it is never quiet for long
        assert 0.4 < time.monotonic() - begun < 3 * (0.5 + 1)


def test_what_was_denied_is_counted_as_a_reply():
    with Inside(smtp_range=(ip_network("192.0.2.0/24"),)) as server, Wire(server.port) as client:
        assert client.greeting.raw == DENIED
        assert server.metrics.replies["554 5.7.1 access_denied"] == 1


# smtp-trusted

TAGGED = b"X-MQ-Tag: one\r\nSubject: x\r\n\r\nHi\r\n"


def test_headers_are_lifted_of_the_trusted_only(start_daemon):
    daemon = start_daemon(smtp_extract="trusted", smtp_trusted="127.0.0.2; 2001:db8::/32")
    for source in ("127.0.0.1", "127.0.0.2"):
        with Wire(daemon.port, source=source) as client:
            client.ehlo()
            assert client.mail(TAGGED).code == 250
    stranger, trusted = EmbeddedInbox().messages(daemon)
    assert "tags" not in stranger
    assert stranger["mime"] == TAGGED.decode()
    assert trusted["tags"] == ["one"]
    assert trusted["mime"] == "Subject: x\r\n\r\nHi\r\n"


# smtp-connections-per-ip


def test_connections_of_one_address_are_counted_over_all_workers(start_daemon):
    daemon = start_daemon(smtp_threads=2, smtp_connections_per_ip=3)
    with contextlib.ExitStack() as clients:
        mine = [clients.enter_context(Wire(daemon.port)) for _ in range(3)]
        for _ in range(5):
            with Wire(daemon.port) as late:
                assert late.greeting.raw == ONE_TOO_MANY
                assert late.hung_up()
        with Wire(daemon.port, source="127.0.0.2") as other:
            assert other.greeting.code == 220
        assert mine.pop().command("QUIT").code == 221
        assert eventually_greeted(daemon.port)
        for pid in daemon.workers:
            os.kill(pid, signal.SIGKILL)
        daemon.wait_for(re.compile("worker . is process .* now(.|\n)*worker . is process .* now"))
        for _ in range(3):  # a dead worker's connections count no more
            clients.enter_context(Wire(daemon.port)).ehlo()
        with Wire(daemon.port) as late:
            assert late.greeting.raw == ONE_TOO_MANY


def eventually_greeted(port: int) -> bool:
    """A place that was left is free once the server has seen it."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with Wire(port) as client:
            if client.greeting.code == 220:
                return True
        time.sleep(0.02)  # asks again
    return False


@pytest.fixture
def memory() -> Iterator[int]:
    made = connection_counts.create()
    yield made
    os.close(made)


def test_a_network_is_an_ipv4_address_or_an_ipv6_64(memory):
    counts = ConnectionCounts(memory, 3)
    counts.open()
    assert counts.open_from("2001:db8:0:1::1") == 1
    assert counts.open_from("2001:db8:0:1:ffff::2") == 2
    assert counts.open_from("2001:db8:0:2::1") == 1
    assert counts.open_from("192.0.2.1") == 1
    assert counts.open_from("192.0.2.2") == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 3000), st.integers(0, 9).map(bool)),
        max_size=200,
    )
)
def test_collisions_never_hide_a_connection(steps):
    memory = connection_counts.create()
    workers = [ConnectionCounts(memory, slot) for slot in (0, 5, connection_counts.SLOTS - 1)]
    os.close(memory)
    open: list[tuple[int, str]] = []
    for worker, number, enters in steps:
        address = str(ip_address(number))
        if enters:
            workers[worker].open()
            open.append((worker, address))
            counted = workers[worker].open_from(address)
            assert counted >= sum(each == address for _, each in open)
        elif (worker, address) in open:
            open.remove((worker, address))
            workers[worker].close_from(address)
            workers[worker].close()
    for worker, address in open:
        workers[worker].close_from(address)
        workers[worker].close()
    workers[0].open()
    assert workers[0].open_from("192.0.2.1") == 1  # nothing is left behind


def test_ten_thousand_clients_are_told_apart(memory):
    counts = ConnectionCounts(memory, 0)
    counts.open()
    for number in range(10_000):
        counts.open_from(str(IPv4Address(0x0A000000 + number)))
    counted = [counts.open_from(f"192.0.2.{low}") for low in range(250)]
    assert max(counted) < 10  # a limit of ten holds nobody back who has one


def test_the_memory_of_all_slots_is_bounded():
    assert connection_counts.SIZE <= 64 * 1024 * 1024
