"""net/tls: what real TLS clients see, and what becomes of the mail."""

import json
import smtplib
import ssl

import pytest

from tests.support import certificates
from tests.support.wire import Wire


@pytest.fixture
def pair(tmp_path):
    return certificates.make(tmp_path)


def shown(daemon, recipient="b@example.org"):
    """The JSON of the only mail for `recipient`."""
    (line,) = [line for line in daemon.queue("list").splitlines() if f"<{recipient}>" in line]
    return json.loads(daemon.queue("show", line.split()[0]))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("tls_first", [False, True])
def test_a_mail_over_tls_says_so(start_daemon, pair, version, tls_first):
    daemon = start_daemon(smtp_secure_port=0, **pair.settings)
    context = certificates.client(pair.certificate)
    context.minimum_version = context.maximum_version = version
    context.check_hostname = False
    if tls_first:
        client = smtplib.SMTP_SSL("127.0.0.1", daemon.tls_port, context=context)
    else:
        client = smtplib.SMTP("127.0.0.1", daemon.port)
        client.starttls(context=context)
    with client:
        name, cipher = client.sock.version(), client.sock.cipher()[0]
        client.ehlo("client.example.net")
        assert not client.has_extn("starttls")
        client.sendmail("a@example.com", ["b@example.org"], b"Subject: x\r\n\r\nHi\r\n")
    connection = shown(daemon)["connection"]
    assert connection["secure"] is True
    assert connection["tls"] == name == version.name.replace("_", ".")
    assert connection["cipher"] == cipher
    assert connection["helo"] == "client.example.net"


def test_a_plain_session_has_no_word_of_tls(start_daemon, pair):
    daemon = start_daemon(**pair.settings)
    with Wire(daemon.port) as client:
        assert "STARTTLS" in client.ehlo().lines
        assert client.mail(b"Hi\r\n", recipients=["b@example.org"]).code == 250
    connection = shown(daemon)["connection"]
    assert connection["secure"] is False
    assert connection.keys().isdisjoint({"tls", "cipher"})
