"""proxy_acceptor and proxy: PROXY headers before SMTP, raw octets against the real daemon."""

import contextlib
import re
import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from fastsmtp.net import proxy
from tests.support import certificates
from tests.support.daemon import Daemon
from tests.support.held import Inside
from tests.support.inbox import EmbeddedInbox
from tests.support.patience import until
from tests.support.ports import lasting_port
from tests.support.watcher import SETTINGS, Scrape
from tests.support.wire import Reply, Wire
from tests.test_proxy import BAD, SSL, TCP4, TCP6, tlv, v2, with_checksum

V1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 25\r\n"
HIDDEN = {
    "UNKNOWN": b"PROXY UNKNOWN\r\n",
    "UNKNOWN-with-text": b"PROXY UNKNOWN 192.0.2.1 198.51.100.2 40000 25\r\n",
    "LOCAL": v2(b"", command=0x20, family=0),
    "LOCAL-with-addresses": v2(TCP4, command=0x20),
    "LOCAL-with-no-tlvs": v2(b"\xff" * 40, command=0x20, family=0),
    "UNSPEC": v2(b"", family=0),
    "UNIX": v2(bytes(216), family=0x31),
}
MAIL = (
    b"EHLO me\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 4 LAST\r\nHi\r\nQUIT\r\n"
)


class Proxied(Wire):
    """A client that sends a header first, or octets that are none."""

    def __init__(self, port: int, header: bytes, source: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unread = b""
        self.send(header)

    def transaction(self) -> list[Reply]:
        """The replies to MAIL: greeting, EHLO, MAIL, RCPT, content, QUIT."""
        return self.replies(6)


def from_(client: str, port: int = 40000) -> bytes:
    family = "TCP6" if ":" in client else "TCP4"
    server = "2001:db8::25" if ":" in client else "198.51.100.2"
    return f"PROXY {family} {client} {server} {port} 25\r\n".encode()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One for all tests that only look: a proxy may be at 127.0.0.1."""
    made = Daemon(tmp_path_factory.mktemp("proxied"), smtp_proxy="127.0.0.1; ::1")
    made.start()
    try:
        yield made
        made.close()
    finally:
        made.kill()


def all_answered(daemon: Daemon) -> None:
    """Whatever came before is read: a client that comes now is greeted, and answered."""
    with Proxied(daemon.port, HIDDEN["LOCAL"] + 5 * b"NOOP\r\n") as later:
        assert [reply.code for reply in later.replies(6)] == [220] + 5 * [250]


# What a header tells


@pytest.mark.parametrize("rest", [b"", MAIL], ids=["alone", "with-mail-behind-it"])
@pytest.mark.parametrize(
    ("header", "facts"),
    [
        (V1, {"remote-ip": "192.0.2.1", "remote-port": 40000, "local-ip": "198.51.100.2"}),
        (v2(TCP4), {"remote-ip": "192.0.2.1", "remote-port": 40000, "local-ip": "198.51.100.2"}),
        (
            b"PROXY TCP6 2001:DB8::1 ::ffff:192.0.2.9 1 65535\r\n",
            {"remote-ip": "2001:db8::1", "local-ip": "192.0.2.9", "local-port": 65535},
        ),
        (v2(TCP6, family=0x21), {"remote-ip": "2001:db8::1", "local-ip": "192.0.2.9"}),
    ],
    ids=["v1", "v2", "v1-ipv6", "v2-ipv6"],
)
def test_the_json_has_the_ends_of_the_client(daemon, header, facts, rest):
    with Proxied(daemon.port, header + rest) as client:
        if not rest:
            assert client.reply().code == 220
            client.send(MAIL)
            replies = client.replies(5)
        else:
            replies = client.transaction()[1:]
        assert [reply.code for reply in replies] == [250, 250, 250, 250, 221]
    message = EmbeddedInbox().last(daemon)
    connection = message["connection"]
    assert connection.items() >= facts.items()
    version = 1 if header.startswith(b"PROXY") else 2
    assert connection["proxy"] == {"remote-ip": "127.0.0.1", "version": version}
    assert connection["secure"] is False
    assert "ips" not in message


def test_tlvs_are_in_the_json_and_tls_at_the_proxy_is_secure(daemon):
    header = with_checksum(
        TCP4, tlv(1, b"smtp") + tlv(2, b"mx.example.com") + tlv(5, b"id-1") + SSL
    )
    with Proxied(daemon.port, header + MAIL) as client:
        replies = client.transaction()
        assert [reply.code for reply in replies] == [220, 250, 250, 250, 250, 221]
        assert "STARTTLS" not in replies[1].lines
    connection = EmbeddedInbox().last(daemon)["connection"]
    assert connection["secure"] is True
    assert "tls" not in connection
    assert connection["proxy"] == {
        "remote-ip": "127.0.0.1",
        "version": 2,
        "unique-id": "id-1",
        "sni": "mx.example.com",
        "alpn": "smtp",
        "tls": "TLSv1.3",
        "client-cn": "cn.example",
        "client-verified": True,
    }


def test_ips_are_of_the_address_that_the_client_connected_to(start_daemon):
    daemon = start_daemon(
        smtp_proxy="127.0.0.1",
        smtp_mappable_ips="198.51.100.0/24",
        smtp_default_ips="203.0.113.9",
    )
    for header in (V1, from_("2001:db8::1"), HIDDEN["UNKNOWN"]):
        with Proxied(daemon.port, header + MAIL) as client:
            client.transaction()
    messages = EmbeddedInbox().messages(daemon)
    assert [each["ips"] for each in messages] == [
        ["198.51.100.2"],
        ["203.0.113.9"],
        ["203.0.113.9"],
    ]


# How a header comes


@pytest.mark.parametrize(
    "header", [V1, with_checksum(TCP4, tlv(5, b"id-1") + SSL)], ids=["v1", "v2"]
)
def test_every_split_is_the_same(daemon, header):
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(Proxied(daemon.port, header[:size]))
            for size in range(len(header) + 1)
        ]
        all_answered(daemon)  # the first part is read alone
        for size, client in enumerate(clients):
            client.send(header[size:] + MAIL)
        for client in clients:
            codes = [reply.code for reply in client.transaction()]
            assert codes == [220, 250, 250, 250, 250, 221]
            assert client.hung_up()


def test_octet_by_octet(daemon):
    with Proxied(daemon.port, b"") as client:
        for octet in V1 + MAIL:
            client.send(bytes([octet]))
            time.sleep(0.002)  # most octets are read alone
        assert [reply.code for reply in client.transaction()] == [220, 250, 250, 250, 250, 221]


def test_the_longest_header(daemon):
    header = v2(TCP4 + tlv(4, bytes(4096 - 12 - 3)))
    assert len(header) == 16 + 4096
    with Proxied(daemon.port, header + MAIL) as client:
        assert client.transaction()[4].code == 250


def test_nothing_is_said_before_the_whole_header_and_5_seconds_are_all_it_has(daemon):
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(Proxied(daemon.port, start))
            for start in (b"", b"P", V1[:-1], v2(TCP4)[:20], b"\r\n\r\n\0\r\nQUIT\n")
        ]
        dribbling = stack.enter_context(Proxied(daemon.port, b""))
        for octet in V1:
            with contextlib.suppress(OSError):
                dribbling.send(bytes([octet]))
            time.sleep(0.15)  # 5 seconds are over before the header is whole
        assert 5 < time.monotonic() - begun < 15
        for client in (*clients, dribbling):
            assert client.hung_up()
            assert client.unread == b""
    assert "smtp-proxy: no PROXY header has come after 5 s: is send-proxy set" in daemon.log
    assert "smtp-proxy: its PROXY header is unfinished after 5 s" in daemon.log


# Headers that are wrong


@pytest.fixture
def inside() -> Iterator[Inside]:
    """A server that has not complained yet: lines about headers are bounded."""
    with Inside(smtp_proxy=(ip_network("127.0.0.1"),)) as server:
        yield server


def refused(server: Inside, octets: bytes, caplog: pytest.LogCaptureFixture) -> str:
    """What the log says when `octets` come; none is answered."""
    with Proxied(server.port, octets) as client:
        assert client.hung_up()
        assert client.unread == b""
    until(lambda: caplog.messages)
    [line] = caplog.messages
    assert line.startswith("closed a connection from 127.0.0.1, which is in smtp-proxy: ")
    return line


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_header_is_answered_with_nothing_and_one_line(inside, name, caplog):
    octets, text = BAD[name]
    assert re.search(text, refused(inside, octets + MAIL, caplog))


@pytest.mark.parametrize(
    ("octets", "advice"),
    [
        (MAIL, "no PROXY header came first: is send-proxy set at the proxy for this server?"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS came before the PROXY header: the proxy must send"),
        (v2(TCP4, command=0x31), "unknown version 3: set send-proxy or send-proxy-v2"),
    ],
)
def test_the_line_says_what_to_change(inside, octets, advice, caplog):
    assert advice in refused(inside, octets, caplog)


def test_an_end_within_the_header_is_told(inside, caplog):
    with Proxied(inside.port, V1[:20]) as client:
        client.socket.shutdown(socket.SHUT_WR)
        assert client.hung_up()
    until(lambda: "it ended within its PROXY header" in caplog.text)


def test_lines_about_headers_are_bounded(inside, caplog, monkeypatch):
    for _ in range(30):
        with Proxied(inside.port, b"GET / HTTP/1.0\r\n\r\n") as client:
            assert client.hung_up()
    assert len(caplog.messages) == 10
    monkeypatch.setattr(proxy, "PERIOD", 0.0)
    with Proxied(inside.port, b"GET / HTTP/1.0\r\n\r\n") as client:
        assert client.hung_up()
    until(lambda: len(caplog.messages) == 12)
    assert caplog.messages[10] == "20 more lines about PROXY headers were not written"


@pytest.mark.parametrize("header", [V1, v2(TCP4)], ids=["v1", "v2"])
def test_a_header_of_somebody_else_is_an_unknown_command(inside, header, caplog):
    with Wire(inside.port, source="127.0.0.2") as client:
        client.send(header)
        assert client.reply().raw.startswith(b"500 5.5.2 ")
    [line] = caplog.messages
    assert "PROXY header came from 127.0.0.2, which is not in smtp-proxy: add it" in line


@pytest.mark.parametrize("header", [V1, v2(TCP4)], ids=["v1", "v2"])
def test_a_header_of_somebody_else_on_a_tls_port_is_named(start_daemon, tmp_path, header):
    daemon = start_daemon(smtp_secure_port=0, **certificates.make(tmp_path).settings)
    with Proxied(daemon.tls_port, header) as client:
        assert client.hung_up()
    daemon.wait_for(
        re.compile("came from 127.0.0.1 on a TLS port is not TLS: .* that is not in smtp-proxy")
    )


def test_a_second_header_is_an_unknown_command(inside, caplog):
    with Proxied(inside.port, V1 + V1) as client:
        assert [reply.code for reply in client.replies(2)] == [220, 500]
    [line] = caplog.messages
    assert "a second PROXY header came from 127.0.0.1: one proxy" in line


def test_others_on_the_same_port_come_in_without_a_header(daemon):
    with Wire(daemon.port, source="127.0.0.2") as client:
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250
    connection = EmbeddedInbox().last(daemon)["connection"]
    assert connection["remote-ip"] == "127.0.0.2"
    assert "proxy" not in connection


def test_failures_are_counted_by_reason(start_daemon):
    daemon = start_daemon(smtp_proxy="127.0.0.1", **SETTINGS)

    def count(reason):
        return Scrape(daemon)("fastsmtp_proxy_failures_total", reason=reason)

    for header, reason in (
        (b"EHLO me\r\n", "missing"),
        (b"\x16\x03\x01\x02\x00", "missing"),
        (b"PROXY TCP4 a b c d\r\n", "malformed"),
        (b"PROXY TCP4 ", "unfinished"),
    ):
        before = count(reason)
        with Proxied(daemon.port, header) as client:
            with contextlib.suppress(OSError):  # it may be hung up already
                client.socket.shutdown(socket.SHUT_WR)
            assert client.hung_up()
        until(lambda reason=reason, before=before: count(reason) == before + 1)
    with Proxied(daemon.port, V1 + V1) as client:
        assert [reply.code for reply in client.replies(2)] == [220, 500]
    until(lambda: count("unexpected") == 1)
    with Proxied(daemon.port, b"") as client:
        assert client.hung_up()  # after five seconds
    assert count("timeout") == 1
    assert count("missing") == 2


# Proxies that do not tell who the client is


def test_a_hidden_client_is_greeted_but_may_send_only_if_its_proxy_may(start_daemon):
    daemon = start_daemon(
        smtp_proxy="127.0.0.1", smtp_range="192.0.2.0/24", smtp_port=lasting_port()
    )
    for name, header in HIDDEN.items():
        with Proxied(daemon.port, header) as client:
            assert client.reply().code == 220, name
            assert client.ehlo().code == 250, name
            assert client.command("MAIL FROM:<a@b.example>").raw.startswith(b"550 5.7.1 "), name
    assert daemon.reload(smtp_range="127.0.0.1")[0] == 0
    for name, header in HIDDEN.items():
        with Proxied(daemon.port, header + MAIL) as client:
            assert client.transaction()[4].code == 250, name
        connection = EmbeddedInbox().last(daemon)["connection"]
        ends = (connection["remote-ip"], connection["local-port"])
        assert ends == ("127.0.0.1", daemon.port), name
    assert len(EmbeddedInbox().messages(daemon)) == len(HIDDEN)
    with Proxied(daemon.port, V1) as client:
        assert client.reply().code == 554  # 192.0.2.1 is not the proxy


def test_hidden_clients_have_no_limit_of_their_address_and_no_trust(start_daemon):
    daemon = start_daemon(
        smtp_proxy="127.0.0.1",
        smtp_connections_per_ip=1,
        smtp_extract="trusted",
        smtp_trusted="127.0.0.1",
    )
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Proxied(daemon.port, header)) for header in HIDDEN.values()]
        for client in clients:
            assert client.reply().code == 220
            client.ehlo()
            assert client.mail(b"X-MQ-Tag: mine\r\n\r\nHi\r\n").code == 250
    messages = EmbeddedInbox().messages(daemon)
    assert len(messages) == len(HIDDEN)
    assert all("tags" not in each for each in messages)


# The client's address counts


def test_the_range_is_judged_on_the_clients_address(start_daemon):
    daemon = start_daemon(smtp_proxy="127.0.0.1", smtp_range="192.0.2.0/24; 2001:db8::/32")
    for client_ip, code in [
        ("192.0.2.1", 220),
        ("192.0.3.1", 554),
        ("127.0.0.1", 554),
        ("2001:db8::7", 220),
        ("2001:db9::7", 554),
        ("::ffff:192.0.2.1", 220),
    ]:
        with Proxied(daemon.port, from_(client_ip)) as client:
            assert client.reply().code == code, client_ip
    with Wire(daemon.port, source="127.0.0.2") as client:
        assert client.greeting.code == 554


def test_trust_is_judged_on_the_clients_address(start_daemon):
    daemon = start_daemon(
        smtp_proxy="127.0.0.1", smtp_extract="trusted", smtp_trusted="192.0.2.0/24"
    )
    for client_ip in ("192.0.2.1", "127.0.0.1"):
        with Proxied(daemon.port, from_(client_ip)) as client:
            assert client.reply().code == 220
            client.ehlo()
            assert client.mail(b"X-MQ-Tag: mine\r\n\r\nHi\r\n").code == 250
    first, second = EmbeddedInbox().messages(daemon)
    assert first["tags"] == ["mine"]
    assert "tags" not in second


def test_the_limit_of_an_address_is_the_clients(start_daemon):
    daemon = start_daemon(smtp_proxy="127.0.0.1", smtp_connections_per_ip=2)
    with contextlib.ExitStack() as stack:
        for client_ip, code in [
            ("192.0.2.1", 220),
            ("192.0.2.1", 220),
            ("192.0.2.1", 421),
            ("192.0.2.2", 220),
            ("2001:db8:0:1::1", 220),
            ("2001:db8:0:1:2::1", 220),
            ("2001:db8:0:1:3::1", 421),
            ("2001:db8:0:2::1", 220),
        ]:
            client = stack.enter_context(Proxied(daemon.port, from_(client_ip)))
            assert client.reply().code == code, client_ip


# Health checks, and the end


def reset(client: socket.socket) -> None:
    """Hang up as HAProxy does after a check: no FIN, a RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_health_checks_leave_nothing_in_the_log(daemon):
    before = daemon.log
    for octets in (b"", *HIDDEN.values(), HIDDEN["LOCAL"] + b"QUIT\r\n", V1):
        for ends in (reset, socket.socket.close):
            client = socket.create_connection(("127.0.0.1", daemon.port))
            client.sendall(octets)
            ends(client)
            client = socket.create_connection(("127.0.0.1", daemon.port))
            client.sendall(octets)
            all_answered(daemon)
            ends(client)
    with Proxied(daemon.port, HIDDEN["LOCAL"]) as client:
        assert client.reply().code == 220
    assert daemon.log == before


def test_a_header_on_its_way_does_not_hold_up_the_end(start_daemon):
    daemon = start_daemon(smtp_proxy="127.0.0.1")
    with Proxied(daemon.port, V1[:10]) as late:
        all_answered(daemon)  # who is not accepted yet hears 421
        begun = time.monotonic()
        daemon.stop()
        assert time.monotonic() - begun < 5
        assert late.hung_up()


def test_who_finishes_its_header_when_we_end_is_told(start_daemon):
    daemon = start_daemon(smtp_proxy="127.0.0.1")
    with Proxied(daemon.port, V1) as idle, Proxied(daemon.port, V1[:10]) as late:
        assert idle.reply().code == 220
        assert daemon.process is not None
        daemon.process.terminate()
        assert idle.reply().code == 421
        idle.close()
        late.send(V1[10:])
        assert late.reply().code == 421
        late.close()
        assert daemon.ended(15) == 0


def test_who_finishes_its_header_while_we_stop_is_told(start_daemon):
    daemon = start_daemon(smtp_proxy="127.0.0.1")
    with (
        Proxied(daemon.port, V1) as busy,
        Proxied(daemon.port, V1) as idle,
        Proxied(daemon.port, V1[:10]) as late,
    ):
        assert busy.reply().code == 220
        busy.ehlo()
        busy.envelope("a@b.example", ["c@d.example"])
        assert idle.reply().code == 220
        assert daemon.process is not None
        daemon.process.terminate()
        assert idle.reply().code == 421
        idle.close()
        late.send(V1[10:])
        assert late.reply().code == 421
        late.close()
        assert busy.bdat(b"Hi\r\n").code == 250
        busy.close()
        assert daemon.ended(15) == 0


def test_many_at_once_over_several_workers(start_daemon):
    daemon = start_daemon(smtp_proxy="127.0.0.1", smtp_threads=2)
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(Proxied(daemon.port, from_("192.0.2.1", port)))
            for port in range(1000, 1200)
        ]
        for client in clients:
            assert client.reply().code == 220
            client.send(MAIL)
        for client in clients:
            assert [reply.code for reply in client.replies(5)] == [250, 250, 250, 250, 221]
    ports = [each["connection"]["remote-port"] for each in EmbeddedInbox().messages(daemon)]
    assert sorted(ports) == list(range(1000, 1200))
