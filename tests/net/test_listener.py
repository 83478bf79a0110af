"""net/listener: where mail can come in, what is said when it cannot, and the end of it all."""

import contextlib
import re
import socket
import subprocess
import threading
import time
from collections import Counter

import pytest

from fastsmtp.net import listener
from tests.support.daemon import COMMAND, Daemon
from tests.support.held import Inside
from tests.support.inbox import EmbeddedInbox
from tests.support.patience import until
from tests.support.ports import lasting_port
from tests.support.wire import Wire

HAS_IPV6 = socket.has_ipv6
with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
    probe.bind(("::1", 0))
    HAS_IPV6 = True

UNPRIVILEGED = """
ip link set lo up && exec setpriv --bounding-set=-net_bind_service --inh-caps=-all -- "$@"
"""

STOPPING = b"421 4.3.2 Service is stopping, try again\r\n"


def failure(tmp_path, command=(), **settings):
    """Start a daemon that cannot run; gives its exit status and the lines it wrote."""
    daemon = Daemon(tmp_path, [*command, *COMMAND], **settings)
    daemon.launch()
    try:
        status = daemon.process.wait(20)
        daemon.process = None
    finally:
        daemon.kill()
    return status, daemon.log.splitlines()


def ready_places(daemon):
    listening = re.search(r"ready: listening on (.*?); queue", daemon.log)[1]
    return [tuple(place.rsplit(":", 1)) for place in listening.split(", ")]


def greets(host, port):
    with socket.create_connection((host.strip("[]"), int(port)), 5) as client:
        return client.recv(100).startswith(b"220 mx.example.com ")


def test_a_port_that_is_taken(tmp_path, start_daemon):
    port = start_daemon().port
    status, lines = failure(tmp_path, smtp_port=port)
    assert status == 1
    assert len(lines) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in lines[0]
    assert "stop it, or set smtp-port" in lines[0]


def test_an_address_that_is_not_there(tmp_path):
    status, lines = failure(tmp_path, smtp_ip="192.0.2.1", smtp_port=2525)
    assert (status, len(lines)) == (1, 2), lines  # one is the warning that anyone may send
    assert "cannot listen on 192.0.2.1:2525" in lines[1]
    assert "see smtp-ip" in lines[1]


def test_a_port_that_needs_privileges(tmp_path):
    # Root, but for that right; in a network of its own no port below 1024 is open to everyone.
    rights = [*("unshare", "--user", "--map-root-user", "--net"), *("sh", "-c", UNPRIVILEGED, "sh")]
    tried = subprocess.run([*rights, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no user namespaces here: {tried.stderr.strip()}")
    status, lines = failure(tmp_path, rights, smtp_port=25)
    assert (status, len(lines)) == (1, 1), lines
    assert (
        "cannot listen on 127.0.0.1:25: Permission denied; ports below 1024 need root" in lines[0]
    )


def test_one_port_that_fails_leaves_none_open():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with pytest.raises(listener.ListenError):
            listener.bind(("127.0.0.1",), (port, taken.getsockname()[1]))
        listener.bind(("127.0.0.1",), (port,))[0].close()


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
def test_several_addresses_and_ports(start_daemon):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    daemon = start_daemon(smtp_ip="127.0.0.1; ::1", smtp_port=f"0,{port}")
    places = ready_places(daemon)
    assert [host for host, _ in places] == ["127.0.0.1", "[::1]"] * 2
    assert [given for _, given in places[2:]] == [str(port)] * 2
    assert "0" not in [given for _, given in places]
    assert all(greets(*place) for place in places)
    with socket.create_connection(("::1", port)) as client:
        client.sendall(b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 2 LAST\r\nHiQUIT\r\n")
        while client.recv(4096):
            pass
    assert EmbeddedInbox().messages(daemon)[0]["connection"]["local-ip"] == "::1"


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
def test_no_address_means_every_address(start_daemon):
    daemon = start_daemon(smtp_ip="127.0.0.1")  # takes the first place in the log
    daemon.close()
    daemon.settings["smtp_ip"] = ""
    daemon.launch()
    daemon.wait_for(re.compile(r"ready: listening on 0\.0\.0\.0:\d+, \[::\]:\d+"))
    places = ready_places_of_last_start(daemon)
    assert greets("127.0.0.1", places[0][1])
    assert greets("::1", places[1][1])


def ready_places_of_last_start(daemon):
    daemon.stderr.write_text(daemon.log[daemon.log.rindex("ready:") :])
    return ready_places(daemon)


def test_no_plain_port_and_no_other(tmp_path):
    status, lines = failure(tmp_path, smtp_port="none")
    assert (status, len(lines)) == (2, 1)
    assert "no port to listen on" in lines[0]


def test_who_comes_while_a_transaction_is_finished_is_told():
    server = Inside()
    server.grace = 10
    with server, Wire(server.port) as busy, Wire(server.port) as idle:
        busy.ehlo()
        busy.envelope("a@example.com", ["b@example.org"])
        server.end()
        assert idle.reply().raw == STOPPING
        assert idle.hung_up()
        idle.close()
        for early in (b"", b"EHLO me\r\nMAIL FROM:<a@b>\r\n"):
            with socket.create_connection(("127.0.0.1", server.port)) as late:
                late.sendall(early)
                assert late.recv(100) == STOPPING
                assert late.recv(1) == b""  # and no reset
        server.sink.auto = True
        assert busy.data(b"Hi\r\n").code == 250
        assert busy.reply().raw == STOPPING
        assert busy.hung_up()


@pytest.mark.parametrize(
    ("end", "code"),
    [(b"RSET\r\n", 250), (b"EHLO again\r\n", 250), (b"BDAT 2000\r\n" + b"x" * 2000, 552)],
)
def test_a_transaction_that_ends_without_mail_is_the_last(end, code):
    server = Inside(smtp_maxsize=1000)
    server.grace = 10
    with server, Wire(server.port) as client:
        client.ehlo()
        client.envelope("a@example.com", ["b@example.org"])
        server.end()
        until(lambda: server.listener._server.refusal)
        client.send(end)
        assert client.reply().code == code
        assert client.reply().raw == STOPPING
        assert client.hung_up()


def test_the_grace_over_everyone_is_told_and_the_listener_ends():
    server = Inside()
    server.grace = 0.5
    with server, Wire(server.port) as sender, Wire(server.port) as waiting:
        for client in (sender, waiting):
            client.ehlo()
            client.envelope("a@example.com", ["b@example.org"])
        waiting.send(b"BDAT 2 LAST\r\nHi")
        assert sender.command("DATA").code == 354
        until(lambda: server.sink.waiting)
        started = time.monotonic()
        server.end()
        for client in (sender, waiting):
            assert client.reply().raw == STOPPING
        assert 0.5 <= time.monotonic() - started < 3 * 0.5
        for client in (sender, waiting):
            client.close()
        server.thread.join(3)
        assert not server.thread.is_alive()


def test_who_waits_to_be_accepted_at_the_end_is_told():
    with Inside() as server:
        is_busy, connected = threading.Event(), threading.Event()

        def busy():
            server.ending.set()
            is_busy.set()
            assert connected.wait(10)  # nothing is accepted meanwhile

        server.loop.call_soon_threadsafe(busy)
        assert is_busy.wait(10)
        address = ("127.0.0.1", server.port)
        clients = [socket.create_connection(address, 5) for _ in range(200)]
        connected.set()
        heard = {client.recv(100)[:10] for client in clients}
        for client in clients:
            client.close()
        assert heard == {b"421 4.3.2 "}
        server.thread.join(3)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


def test_nobody_is_reset_who_connects_while_a_socket_is_closed():
    port = lasting_port()
    outcomes = Counter()
    over = threading.Event()

    def hammer():
        while not over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), 10) as client:
                    outcomes[client.recv(100)[:3]] += 1
            except OSError as error:
                outcomes[type(error).__name__] += 1

    threads = [threading.Thread(target=hammer) for _ in range(16)]
    for each in threads:
        each.start()
    for _ in range(20):
        sockets = listener.bind(("127.0.0.1",), (port,))
        time.sleep(0.02)  # they wait to be accepted
        listener.turn_away(sockets, [])
    over.set()
    for each in threads:
        each.join()
    assert outcomes[b"421"]
    assert outcomes.keys() <= {b"421", "ConnectionRefusedError"}, outcomes
    assert outcomes[b"421"]


def test_who_waits_and_has_spoken_is_told_and_not_reset():
    sockets = listener.bind(("127.0.0.1",), (0,))
    with socket.create_connection(sockets[0].getsockname(), 10) as client:
        client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 25\r\n")
        listener.turn_away(sockets, [])
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        assert client.recv(100) == STOPPING
        assert client.recv(1) == b""
