"""A real nginx that tells who the client is: the configurations of docs/nginx.md."""

import smtplib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import certificates
from tests.support.inbox import EmbeddedInbox
from tests.support.nginx import MISSING, Nginx
from tests.support.wire import Wire

XCLIENT = "The mail proxy, with XCLIENT"
HEADER = "The mail proxy, with a PROXY header"
STREAM = "The stream proxy"

PROXY, CLIENT, STRANGER = "127.0.0.1", "127.0.0.5", "127.0.0.6"


@pytest.fixture
def make_nginx(tmp_path: Path) -> Iterator[Callable[..., Nginx]]:
    """Starts an nginx with a documented configuration, or what `change` makes of it."""
    if MISSING:
        pytest.skip(MISSING)
    made: list[Nginx] = []

    def make(heading: str, port: int, change=str) -> Nginx:
        made.append(Nginx(tmp_path, heading, port))
        made[-1].text = change(made[-1].text)
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_the_mail_proxy_says_xclient(start_daemon, make_nginx):
    daemon = start_daemon(smtp_xclient=PROXY, smtp_range=CLIENT)
    nginx = make_nginx(XCLIENT, daemon.port)
    with Wire(nginx.port, source=CLIENT) as client:
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250
        assert client.mail(b"..dots\r\n", recipients=["b@example.org", "c@example.org"]).code == 250
    assert EmbeddedInbox().last(daemon)["connection"] == {
        "local-ip": "127.0.0.1",
        "local-port": daemon.port,
        "remote-ip": CLIENT,
        "remote-port": 0,
        "secure": False,
        "helo": "client.example.net",
    }
    with Wire(nginx.port, source=STRANGER) as client:
        client.ehlo()
        assert client.command("MAIL FROM:<a@example.com>").code == 250  # nginx asks nobody yet
        reply = client.command("RCPT TO:<b@example.org>")
    assert reply.raw == b"554 5.7.1 Your address may not send mail here\r\n"
    assert len(EmbeddedInbox().messages(daemon)) == 3


def test_the_mail_proxy_tells_who_has_logged_in(start_daemon, make_nginx):
    daemon = start_daemon(
        smtp_xclient=PROXY, smtp_username="u", smtp_password="p", smtp_insecure_auth=True
    )
    nginx = make_nginx(
        XCLIENT,
        daemon.port,
        lambda text: text.replace("smtp_auth none;", "smtp_auth login plain;"),
    )
    with smtplib.SMTP("127.0.0.1", nginx.port, source_address=(CLIENT, 0)) as client:
        client.login("anna@example.com", "whatever")  # the HTTP server lets everyone in
        client.sendmail("a@example.com", ["b@example.org"], b"Hi\r\n")
    facts = EmbeddedInbox().last(daemon)["connection"]
    assert (facts["remote-ip"], facts["user"]) == (CLIENT, "anna@example.com")


def test_the_mail_proxy_that_ends_tls(start_daemon, make_nginx, tmp_path):
    pair = certificates.make(tmp_path)
    daemon = start_daemon(smtp_xclient=PROXY, smtp_maxsize="1MB")
    nginx = make_nginx(
        XCLIENT,
        daemon.port,
        lambda text: text.replace(
            "protocol smtp;",
            f"protocol smtp; starttls on; ssl_certificate {pair.certificate};"
            f"ssl_certificate_key {pair.key};",
        ),
    )
    context: ssl.SSLContext = certificates.client(pair.certificate)
    context.check_hostname = False
    with smtplib.SMTP("127.0.0.1", nginx.port, source_address=(CLIENT, 0)) as client:
        client.starttls(context=context)
        client.sendmail("a@example.com", ["b@example.org"], b"x" * 100_000 + b"\r\n")
    facts = EmbeddedInbox().last(daemon)["connection"]
    assert (facts["remote-ip"], facts["secure"]) == (CLIENT, False)


def test_the_mail_proxy_that_may_not(start_daemon, make_nginx):
    daemon = start_daemon()
    nginx = make_nginx(XCLIENT, daemon.port)
    with Wire(nginx.port, source=CLIENT) as client:
        client.ehlo()
        client.command("MAIL FROM:<a@example.com>")
        reply = client.command("RCPT TO:<b@example.org>")
    assert reply.raw == b"550 5.7.0 Your address may not use XCLIENT\r\n"


@pytest.mark.parametrize("heading", [HEADER, STREAM])
def test_a_proxy_header(start_daemon, make_nginx, heading):
    daemon = start_daemon(smtp_proxy=PROXY, smtp_range=f"{CLIENT}; {PROXY}")
    nginx = make_nginx(heading, daemon.port)
    with Wire(nginx.port, source=CLIENT) as client:
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250
        port = client.socket.getsockname()[1]
    assert EmbeddedInbox().last(daemon)["connection"] == {
        "local-ip": "127.0.0.1",
        "local-port": nginx.port,
        "remote-ip": CLIENT,
        "remote-port": port,
        "secure": False,
        "helo": "nginx.example.com" if heading == HEADER else "client.example.net",
        "proxy": {"remote-ip": PROXY, "version": 1},
    }
    if heading == STREAM:
        with Wire(nginx.port, source=STRANGER) as client:
            assert client.greeting.code == 554


def test_starttls_through_the_stream_proxy(start_daemon, make_nginx, tmp_path):
    pair = certificates.make(tmp_path)
    daemon = start_daemon(smtp_proxy=PROXY, smtp_require_tls=True, **pair.settings)
    nginx = make_nginx(STREAM, daemon.port)
    with Wire(nginx.port, source=CLIENT) as client:
        client.ehlo()
        assert client.command("MAIL FROM:<a@example.com>").code == 530
        client.starttls(certificates.client(pair.certificate))
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250
    facts = EmbeddedInbox().last(daemon)["connection"]
    assert (facts["remote-ip"], facts["secure"], facts["tls"]) == (CLIENT, True, "TLSv1.3")
