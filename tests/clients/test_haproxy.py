"""A real HAProxy that tells who the client is: the configurations of docs/haproxy.md."""

import contextlib
import smtplib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import certificates
from tests.support.haproxy import MISSING, HAProxy
from tests.support.inbox import EmbeddedInbox
from tests.support.patience import until
from tests.support.wire import Wire

PLAIN = "A plain port, with STARTTLS"
THROUGH = "TLS that passes through"
ENDED = "TLS that ends at HAProxy"

CLIENT = "127.0.0.5"

HAS_IPV6 = False
with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
    probe.bind(("::1", 0))
    HAS_IPV6 = True


@pytest.fixture
def make_proxy(tmp_path: Path) -> Iterator[Callable[..., HAProxy]]:
    """Starts an HAProxy with a documented configuration, or what `change` makes of it."""
    if MISSING:
        pytest.skip(MISSING)
    made: list[HAProxy] = []

    def make(heading: str, port: int, host: str = "127.0.0.1", change=str) -> HAProxy:
        made.append(HAProxy(tmp_path, [port], heading, host))
        made[-1].text = change(made[-1].text)
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def pair(tmp_path: Path) -> certificates.Files:
    return certificates.make(tmp_path)


def version_1(text: str) -> str:
    return text.replace("send-proxy-v2", "send-proxy")


@pytest.mark.parametrize(("change", "version"), [(str, 2), (version_1, 1)])
def test_plain_mail_has_the_clients_address(start_daemon, make_proxy, change, version):
    daemon = start_daemon(smtp_proxy="127.0.0.1", smtp_range=f"{CLIENT}; 127.0.0.1")
    proxy = make_proxy(PLAIN, daemon.port, change=change)
    with Wire(proxy.port, source=CLIENT) as client:
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250
        port = client.socket.getsockname()[1]
    assert EmbeddedInbox().last(daemon)["connection"] == {
        "local-ip": "127.0.0.1",
        "local-port": proxy.port,
        "remote-ip": CLIENT,
        "remote-port": port,
        "secure": False,
        "helo": "client.example.net",
        "proxy": {"remote-ip": "127.0.0.1", "version": version},
    }
    with Wire(proxy.port, source="127.0.0.6") as stranger:
        assert stranger.greeting.code == 554


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
@pytest.mark.parametrize("change", [str, version_1])
def test_ipv6(start_daemon, make_proxy, change):
    daemon = start_daemon(smtp_proxy="127.0.0.1", smtp_range="::1; 127.0.0.1")
    proxy = make_proxy(PLAIN, daemon.port, "[::1]", change)
    with smtplib.SMTP("::1", proxy.port) as client:
        client.sendmail("a@example.com", ["b@example.org"], b"Hi\r\n")
    assert (
        EmbeddedInbox().last(daemon)["connection"]["remote-ip"]
        == EmbeddedInbox().last(daemon)["connection"]["local-ip"]
        == "::1"
    )


def test_starttls_through_it(start_daemon, make_proxy, pair):
    daemon = start_daemon(smtp_proxy="127.0.0.1", **pair.settings)
    proxy = make_proxy(PLAIN, daemon.port)
    context = certificates.client(pair.certificate)
    context.check_hostname = False
    with smtplib.SMTP("127.0.0.1", proxy.port, source_address=(CLIENT, 0)) as client:
        client.starttls(context=context)
        client.sendmail("a@example.com", ["b@example.org"], b"Hi\r\n")
    facts = EmbeddedInbox().last(daemon)["connection"]
    assert (facts["remote-ip"], facts["secure"], facts["tls"]) == (CLIENT, True, "TLSv1.3")
    assert facts["proxy"]["version"] == 2


def over_tls(port: int, context) -> smtplib.SMTP_SSL:
    context.check_hostname = False
    return smtplib.SMTP_SSL("127.0.0.1", port, context=context, source_address=(CLIENT, 0))


def test_tls_that_passes_through(start_daemon, make_proxy, pair):
    daemon = start_daemon(smtp_proxy="127.0.0.1", smtp_secure_port=0, **pair.settings)
    proxy = make_proxy(THROUGH, daemon.tls_port)
    for _ in range(5):
        with over_tls(proxy.port, certificates.client(pair.certificate)) as client:
            client.sendmail("a@example.com", ["b@example.org"], b"Hi\r\n")
    facts = EmbeddedInbox().last(daemon)["connection"]
    assert (facts["remote-ip"], facts["secure"], facts["tls"]) == (CLIENT, True, "TLSv1.3")
    assert facts["proxy"] == {"remote-ip": "127.0.0.1", "version": 2}


def test_tls_that_ends_at_the_proxy(start_daemon, make_proxy, pair, tmp_path):
    own = certificates.make(tmp_path, "client.example.net")
    (tmp_path / "mx.pem").write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())
    (tmp_path / "clients.pem").write_bytes(own.certificate.read_bytes())
    daemon = start_daemon(smtp_proxy="127.0.0.1", **pair.settings)
    proxy = make_proxy(ENDED, daemon.port)
    for shows in (True, False):
        context = certificates.client(pair.certificate)
        if shows:
            context.load_cert_chain(own.certificate, own.key)
        with over_tls(proxy.port, context) as client:
            client.ehlo()
            assert not client.has_extn("starttls")
            client.sendmail("a@example.com", ["b@example.org"], b"Hi\r\n")
    shown, anonymous = (each["connection"] for each in EmbeddedInbox().messages(daemon))
    for facts in (shown, anonymous):
        assert (facts["remote-ip"], facts["secure"]) == (CLIENT, True)
        assert facts.keys().isdisjoint({"tls", "cipher"})  # that is between the client and HAProxy
    told = shown["proxy"]
    assert "7F000005-" in told.pop("unique-id")
    assert told == {
        "remote-ip": "127.0.0.1",
        "version": 2,
        "tls": "TLSv1.3",
        "client-cn": "client.example.net",
        "client-verified": True,
    }
    assert anonymous["proxy"].keys().isdisjoint({"client-cn", "client-verified"})


@pytest.mark.parametrize(("heading", "change"), [(PLAIN, str), (PLAIN, version_1), (THROUGH, str)])
def test_health_checks_succeed_and_leave_nothing_in_the_log(
    start_daemon, make_proxy, pair, heading, change
):
    daemon = start_daemon(
        smtp_proxy="127.0.0.1",
        smtp_range="127.0.0.1" if change is version_1 else "192.0.2.0/24",
        smtp_secure_port=0,
        **pair.settings,
    )
    before = daemon.log
    proxy = make_proxy(
        heading, daemon.tls_port if heading == THROUGH else daemon.port, change=change
    )
    until(lambda: proxy.states("check_status")["mx1"] in ("L4OK", "L7OK"))
    time.sleep(2.5)  # two more checks, one per second
    assert proxy.states() == {"mx1": "UP"}
    assert daemon.log == before


def test_a_proxy_that_sends_no_header_is_named_in_the_log(start_daemon, make_proxy):
    daemon = start_daemon(smtp_proxy="127.0.0.1")
    proxy = make_proxy(
        PLAIN,
        daemon.port,
        change=lambda text: (
            text.split("    option smtpchk")[0] + (f"    server mx1 127.0.0.1:{daemon.port}\n")
        ),
    )
    with socket.create_connection(("127.0.0.1", proxy.port), 20) as client:
        assert client.recv(100) == b""
    assert "127.0.0.1, which is in smtp-proxy: no PROXY header has come after 5 s" in daemon.log


def test_a_proxy_that_is_not_in_smtp_proxy_is_named_in_the_log(start_daemon, make_proxy):
    daemon = start_daemon()
    proxy = make_proxy(PLAIN, daemon.port, change=lambda text: text.replace(" check check-", " #"))
    with socket.create_connection(("127.0.0.1", proxy.port), 20) as client:
        client.sendall(b"EHLO me\r\n")
        client.recv(100)
        until(lambda: "127.0.0.1, which is not in smtp-proxy: add it there" in daemon.log)
