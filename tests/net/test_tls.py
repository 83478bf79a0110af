"""net/tls: what TLS clients see, whatever they do, and what becomes of their mail."""

import contextlib
import hashlib
import json
import shutil
import smtplib
import socket
import ssl
import struct
import subprocess
import time

import pytest

from fastsmtp.net import deadlines, flow, tls
from tests.support import certificates
from tests.support.held import Inside
from tests.support.in_memory import InMemory
from tests.support.patience import until
from tests.support.watcher import SETTINGS, Scrape
from tests.support.wire import Wire, flooding

HELLO = b"EHLO client.example.net\r\n"
BEGIN = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"
STOPPING = b"421 4.3.2 Service is stopping, try again\r\n"
HAS_SWAKS_TLS = (
    shutil.which("swaks")
    and subprocess.run(["perl", "-MNet::SSLeay", "-e1"], stderr=-3, check=False).returncode == 0
)


@pytest.fixture
def pair(tmp_path):
    return certificates.make(tmp_path)


@pytest.fixture
def server(pair):
    """A listener that takes every mail, with a certificate for mx.example.com."""
    with inside(pair) as server:
        yield server


def inside(*pairs, **settings):
    server = Inside(
        smtp_certificate=tuple(str(each.certificate) for each in pairs),
        smtp_key=tuple(str(each.key) for each in pairs),
        **settings,
    )
    server.sink.auto = True
    return server


@pytest.fixture
def trusting(pair):
    return certificates.client(pair.certificate)


def only(version, context):
    context.minimum_version = context.maximum_version = version
    return context


def shown(daemon, recipient="b@example.org"):
    """The JSON of the only mail for `recipient`."""
    (line,) = [line for line in daemon.queue("list").splitlines() if f"<{recipient}>" in line]
    return json.loads(daemon.queue("show", line.split()[0]))


def s_client(port, *options, feed=""):
    """OpenSSL's client: all that it printed."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options],
        input=feed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=20,
        check=False,
    )
    return done.stdout


# A session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("tls_first", [False, True])
def test_a_mail_over_tls_says_so(start_daemon, pair, trusting, version, tls_first):
    daemon = start_daemon(smtp_secure_port=0, **pair.settings)
    context = only(version, trusting)
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


@pytest.mark.skipif(not HAS_SWAKS_TLS, reason="no swaks with Net::SSLeay")
@pytest.mark.parametrize("how", ["-tls", "-tlsc"])
def test_swaks(server, how):
    port = server.port if how == "-tls" else server.tls_port
    swaks = ["swaks", "--server", f"127.0.0.1:{port}", how, "--to", "b@example.org"]
    done = subprocess.run(swaks, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout
    assert len(server.sink.messages) == 1


def test_starttls_forgets_what_was_said_before(server, trusting):
    with Wire(server.port) as client:
        client.ehlo()
        client.envelope("a@example.com", ["b@example.org"])
        client.starttls(trusting)
        assert client.command("MAIL FROM:<a@example.com>").code == 503
        lines = client.ehlo().lines
        assert "STARTTLS" not in lines
        assert "PIPELINING" in lines
        assert client.command("DATA").code == 503
        assert client.command("STARTTLS").code == 503
        assert client.mail(b"Hi\r\n").code == 250
        assert client.command("QUIT").code == 221
        assert client.hung_up()


def test_a_large_message_arrives_whole(start_daemon, pair, trusting):
    daemon = start_daemon(smtp_secure_port=0, **pair.settings)
    line = b"0123456789abcdef" * 4 + b"\r\n"
    content = b"Subject: large\r\n\r\n" + line * 80_000
    with Wire(daemon.tls_port, tls=trusting) as client:
        client.ehlo()
        assert client.mail(content, recipients=["b@example.org"]).code == 250
    mime = shown(daemon)["mime"].encode()
    assert hashlib.sha256(mime).digest() == hashlib.sha256(content).digest()


def test_8_kb_of_commands_in_one_record(server, trusting):
    with Wire(server.port) as client:
        client.ehlo()
        client.starttls(trusting)
        client.send(HELLO + BEGIN + b"NOOP\r\n" * 1350)
        assert [reply.code for reply in client.replies(1353)] == [250] * 1353


def test_what_comes_together_with_the_end_of_the_handshake_is_answered_over_tls(server, trusting):
    """TLS 1.3: the client may speak before it has heard that the server is done."""
    for port in (server.port, server.tls_port):
        with socket.create_connection(("127.0.0.1", port), 10) as raw:
            if port == server.port:
                raw.recv(1000)
                raw.sendall(b"STARTTLS\r\n")
                assert raw.recv(1000).startswith(b"220 2.0.0 ")
            client = InMemory(only(ssl.TLSVersion.TLSv1_3, trusting), raw)
            client.handshake(HELLO + b"NOOP\r\n")
            received = b""
            while b"250 2.0.0" not in received:
                received += client.read()
            assert b"PIPELINING" in received


def test_who_ends_tls_gets_the_replies_to_what_was_said(server, trusting, caplog):
    with socket.create_connection(("127.0.0.1", server.tls_port), 10) as raw:
        client = InMemory(trusting, raw)
        client.handshake()
        assert client.read().startswith(b"220 ")
        client.tls.write(HELLO + b"NOOP\r\nNOOP\r\n")
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.unwrap()
        client.flush()
        received = b""
        with contextlib.suppress(EOFError, ssl.SSLZeroReturnError):
            while data := client.read():
                received += data
        assert received.count(b"250 2.0.0 ") == 2
    until(lambda: not server.connections)
    assert caplog.text == ""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_ends_tls_while_its_mail_is_on_the_way_gets_the_reply(
    server, trusting, caplog, version
):
    server.sink.auto = False
    with socket.create_connection(("127.0.0.1", server.tls_port), 10) as raw:
        client = InMemory(only(version, trusting), raw)
        client.handshake()
        assert client.read().startswith(b"220 ")
        mail = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nBDAT 4 LAST\r\nHi\r\n"
        client.tls.write(HELLO + mail)
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.unwrap()
        client.flush()
        until(lambda: server.sink.waiting)
        server.do(server.sink.release)
        received = b""
        with contextlib.suppress(EOFError, ssl.SSLZeroReturnError):
            while data := client.read():
                received += data
        assert b"\n250-2.0.0 Ok, your message has been queued" in received
    until(lambda: not server.connections)
    assert server.metrics.messages == 1
    assert caplog.text == ""


def test_a_client_that_reads_no_replies_is_read_no_more(server, trusting):
    with Wire(server.tls_port, tls=trusting) as client:
        client.ehlo()
        client.envelope("a@example.com", ["b@example.org"])
        with flooding(client, b"HELP\r\n" * 2000) as is_stuck:
            (connection,) = server.connections
            until(lambda: is_stuck(server.port) and connection.flow.is_paused)


def test_what_is_pipelined_behind_a_waiting_message_is_bounded(server, trusting):
    server.sink.auto = False
    with Wire(server.tls_port, tls=trusting) as client:
        client.send(HELLO + BEGIN + b"BDAT 4 LAST\r\nHi\r\n")
        until(lambda: server.sink.waiting)
        client.send(BEGIN + b"NOOP\r\n" * 50_000)
        (open_one,) = server.connections
        until(lambda: open_one.flow.is_paused)
        assert open_one.session.backlog < flow.BACKLOG + (1 << 20)
        server.do(server.sink.release)
        assert [reply.code for reply in client.replies(50_006)] == [250] * 50_006


def test_no_reset_eats_the_reply_to_refused_data(server, trusting):
    with Wire(server.tls_port, tls=trusting) as client:
        client.send(HELLO + b"DATA\r\n" + b"content\r\n" * 1000)
        for _ in range(20):
            client.send(b"content\r\n" * 10_000)
        assert client.reply().code == 250
        assert client.reply().raw == b"554 5.5.0 Protocol error, closing\r\n"
        assert client.hung_up()


def test_a_mistake_of_ours_as_tls_begins_ends_it_and_says_nothing(monkeypatch, server, caplog):
    monkeypatch.setattr(tls.Certificates, "context", None)
    with socket.create_connection(("127.0.0.1", server.tls_port), 10) as raw:
        ended(raw)
    with Wire(server.port) as client:
        assert client.command("STARTTLS").code == 220
        assert client.hung_up()
    until(lambda: not server.connections)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["a connection could not be begun", "a session failed"]


# The handshake


@pytest.mark.parametrize("tls_first", [False, True])
def test_a_handshake_that_stalls_ends(monkeypatch, pair, tls_first):
    assert deadlines.HANDSHAKE == 10
    monkeypatch.setattr(deadlines, "HANDSHAKE", 1)
    with inside(pair, smtp_timeout=3) as server:  # which the time below would not allow
        port = server.tls_port if tls_first else server.port
        with socket.create_connection(("127.0.0.1", port), 10) as raw:
            if not tls_first:
                raw.recv(1000)
                raw.sendall(b"STARTTLS\r\n")
                assert raw.recv(1000).startswith(b"220 ")
            started = time.monotonic()
            raw.sendall(b"\x16\x03\x01\x02\x00")  # the beginning of a ClientHello
            ended(raw)
            assert 0.2 < time.monotonic() - started < 3 * 1
            until(lambda: not server.connections)


def ended(raw):
    """It is hung up, with nothing said."""
    with contextlib.suppress(ConnectionResetError):
        assert raw.recv(1000) == b""


def test_the_idle_time_does_not_cut_into_a_handshake_with_plain_text(monkeypatch, pair):
    monkeypatch.setattr(deadlines, "LINGER", 0.3)
    with (
        inside(pair, smtp_timeout=0.3) as server,
        socket.create_connection(("127.0.0.1", server.tls_port), 10) as raw,
    ):
        ended(raw)
        until(lambda: not server.connections)


def test_who_is_idle_hears_it_over_tls(pair, trusting):
    with inside(pair, smtp_timeout=0.5) as server:
        with Wire(server.tls_port, tls=trusting) as client:
            assert client.reply().raw.startswith(b"421 4.4.2 ")
            assert client.hung_up()
        until(lambda: not server.connections)


@pytest.mark.parametrize("sent", [HELLO, b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\x80" * 5000])
def test_plain_text_on_a_tls_port_is_not_answered(server, sent):
    with socket.create_connection(("127.0.0.1", server.tls_port), 10) as raw:
        raw.sendall(sent)
        ended(raw)
    until(lambda: not server.connections)


def test_a_plain_client_in_the_middle_of_it_harms_nobody(server, trusting):
    """Clients that vanish at every step of a handshake leave nothing behind."""
    for port in (server.port, server.tls_port):
        for step in range(3):
            raw = socket.create_connection(("127.0.0.1", port), 10)
            if port == server.port:
                raw.recv(1000)
                raw.sendall(b"STARTTLS\r\n")
                raw.recv(1000)
            client = InMemory(trusting, raw)
            with pytest.raises(ssl.SSLWantReadError):
                client.tls.do_handshake()
            hello = client.outgoing.read()
            raw.sendall(hello[: len(hello) * step // 2])
            if step == 1:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()
    until(lambda: not server.connections)
    with Wire(server.port) as client:
        client.starttls(trusting)
        assert client.ehlo().code == 250


# Injection: CVE-2011-0411 and its kin


@pytest.mark.parametrize("behind", [b"NOOP\r\n", b"MAIL FROM:<a@example.com>\r\n", b"x", b"\r\n"])
def test_what_comes_behind_starttls_in_one_packet_never_runs(server, behind):
    with Wire(server.port) as client:
        client.ehlo()
        client.send(b"STARTTLS\r\n" + behind)
        assert client.reply().raw.startswith(b"554 5.5.0 ")
        assert client.hung_up()


def test_a_client_hello_behind_starttls_in_one_packet_is_refused_too(server, trusting):
    with Wire(server.port) as client:
        hello = InMemory(trusting, client.socket)
        with pytest.raises(ssl.SSLWantReadError):
            hello.tls.do_handshake()
        client.send(b"STARTTLS\r\n" + hello.outgoing.read())
        assert client.reply().raw.startswith(b"554 5.5.0 ")
        assert client.hung_up()


def test_what_comes_behind_the_220_in_plain_text_never_runs(server, trusting):
    for pause in (0, 0.05):
        with Wire(server.port) as client:
            client.ehlo()
            client.send(b"STARTTLS\r\n")
            assert client.reply().code == 220
            client.send(b"MAIL FROM:<evil@example.com>\r\n")
            time.sleep(pause)  # it may be read alone, or with what follows
            hello = InMemory(trusting, client.socket)
            with pytest.raises((OSError, EOFError)):
                hello.handshake()
            assert client.hung_up()
    until(lambda: not server.connections)
    assert server.metrics.replies.get("250 2.1.0", 0) == 0


def test_the_next_packet_before_the_220_is_read_never_runs(server):
    """Two packets that the server may find together, or not."""
    for _ in range(50):
        with Wire(server.port) as client:
            client.send(b"STARTTLS\r\n")
            client.send(b"EHLO evil.example.com\r\nNOOP\r\n")
            assert client.reply().code in (220, 554)
            assert client.hung_up()
    until(lambda: not server.connections)


# What is agreed on


def test_nothing_older_than_tls_1_2(server):
    old = s_client(server.tls_port, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    assert "Cipher is (NONE)" in old
    assert "alert protocol version" in old
    assert "Cipher is (NONE)" not in s_client(server.tls_port, "-tls1_2")


def test_the_minimum_can_be_1_3(pair):
    with inside(pair, smtp_tls_minimum="1.3") as server:
        assert "Cipher is (NONE)" in s_client(server.tls_port, "-tls1_2")
        assert "New, TLSv1.3, Cipher is TLS_" in s_client(server.tls_port)


def test_ciphers(pair):
    with inside(pair, smtp_ciphers="ECDHE-ECDSA-AES128-GCM-SHA256") as server:
        other = s_client(server.tls_port, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384")
        assert "Cipher is (NONE)" in other
        allowed = s_client(server.tls_port, "-tls1_2")
        assert "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256" in allowed
        assert "New, TLSv1.3" in s_client(server.tls_port)


def test_failures_are_counted_by_reason(start_daemon, pair):
    daemon = start_daemon(smtp_secure_port=0, smtp_timeout=2, **pair.settings, **SETTINGS)

    def count(reason):
        return Scrape(daemon)("fastsmtp_tls_failures_total", reason=reason)

    s_client(daemon.tls_port, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    until(lambda: count("version") == 1)
    s_client(daemon.tls_port, "-tls1_2", "-cipher", "AES128-SHA")
    until(lambda: count("cipher") == 1)
    with socket.create_connection(("127.0.0.1", daemon.tls_port)) as client:
        client.sendall(HELLO * 4)
        until(lambda: count("not_tls") == 1)
    with socket.create_connection(("127.0.0.1", daemon.tls_port)) as client:
        client.sendall(b"\x16\x03\x01")
    until(lambda: count("hung_up") == 1)
    with pytest.raises(ssl.SSLError), Wire(daemon.tls_port, tls=ssl.create_default_context()):
        pass  # it does not trust the certificate
    until(lambda: count("alert") == 1)
    with socket.create_connection(("127.0.0.1", daemon.tls_port)):
        until(lambda: count("timeout") == 1)
    assert count("other") == count("broken") == 0


NOT_BY_DEFAULT = [
    "AES128-SHA",  # RSA key exchange and CBC
    "AES256-SHA256",
    "AES128-GCM-SHA256",  # RSA key exchange
    "ECDHE-RSA-AES128-SHA",  # CBC
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-RSA-AES256-SHA384",
    "DHE-RSA-AES128-GCM-SHA256",
]


def test_tls_1_2_is_aead_with_forward_secrecy_alone_unless_ciphers_are_set(tmp_path):
    rsa = certificates.make(tmp_path, kind="rsa")
    with inside(rsa) as server:
        for cipher in NOT_BY_DEFAULT:
            refused = s_client(server.tls_port, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
            assert "Cipher is (NONE)" in refused, cipher
            assert "alert handshake failure" in refused
        for cipher in (
            "ECDHE-RSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "ECDHE-RSA-CHACHA20-POLY1305",
        ):
            allowed = s_client(server.tls_port, "-tls1_2", "-cipher", cipher)
            assert f"Cipher is {cipher}" in allowed
    with inside(rsa, smtp_ciphers="AES128-SHA256:ECDHE-RSA-AES128-SHA256") as server:
        for cipher in ("AES128-SHA256", "ECDHE-RSA-AES128-SHA256"):
            assert f"Cipher is {cipher}" in s_client(server.tls_port, "-tls1_2", "-cipher", cipher)


def test_a_mailerq_cipher_list_is_understood(pair):
    ciphers = "!aNULL:!eNULL:!LOW:!SSLv2:!EXPORT:!EXPORT56:FIPS:MEDIUM:HIGH:@STRENGTH"
    with inside(pair, smtp_ciphers=ciphers) as server:
        assert "Cipher is (NONE)" not in s_client(server.tls_port, "-tls1_2")


def test_no_alpn_is_chosen_and_none_is_an_error(server):
    assert "No ALPN negotiated" in s_client(server.tls_port, "-alpn", "h2,smtp")


def test_renegotiation_is_refused(server):
    told = s_client(server.tls_port, "-tls1_2", feed="R\n")
    assert "RENEGOTIATING" in told
    assert "no renegotiation" in told


def test_a_client_may_change_its_keys_and_asks_for_ours(server):
    with subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{server.tls_port}", "-tls1_3", "-crlf"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as client:
        told = b""
        for said, answer in ((b"", b"220 "), (b"K\n", b"KEYUPDATE"), (b"HELO x\n", b"250 ")):
            client.stdin.write(said)
            client.stdin.flush()
            while answer not in told:
                line = client.stdout.readline()
                assert line, told
                told += line
        client.kill()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("tls_first", [False, True])
def test_sessions_are_resumed(server, trusting, version, tls_first):
    only(version, trusting)
    session = None
    for round_ in range(3):
        raw = socket.create_connection(
            ("127.0.0.1", server.tls_port if tls_first else server.port), 10
        )
        if not tls_first:
            raw.recv(1000)
            raw.sendall(b"STARTTLS\r\n")
            raw.recv(1000)
        with trusting.wrap_socket(raw, server_hostname="mx.example.com", session=session) as client:
            assert client.session_reused == bool(round_)
            client.sendall(HELLO)
            while b"LIMITS" not in client.recv(1000):
                pass
            session = client.session


def test_the_certificate_is_chosen_by_sni(tmp_path):
    names = ["mx.example.com", "mail.example.org", "*.example.net"]
    pairs = [certificates.make(tmp_path, name) for name in names]
    expected = {
        "mx.example.com": 0,
        "mail.example.org": 1,
        "MAIL.Example.Org": 1,
        "a.example.net": 2,
        "a.b.example.net": 0,
        "unknown.example": 0,
        "": 0,
    }
    with inside(*pairs) as server:
        for name, number in expected.items():
            assert presented(server.tls_port, name) == der(pairs[number]), name


def test_a_server_name_that_is_no_text_ends_the_handshake_and_is_not_in_the_log(
    tmp_path, start_daemon
):
    pairs = [certificates.make(tmp_path, name) for name in ("mx.example.com", "b.example.org")]
    daemon = start_daemon(
        smtp_certificate=";".join(str(pair.certificate) for pair in pairs),
        smtp_key=";".join(str(pair.key) for pair in pairs),
        smtp_secure_port=0,
    )
    before = daemon.log
    with socket.create_connection(("127.0.0.1", daemon.tls_port), 30) as raw:
        hello = InMemory(certificates.client(pairs[0].certificate), raw)
        with pytest.raises(ssl.SSLWantReadError):
            hello.tls.do_handshake()
        raw.sendall(hello.outgoing.read().replace(b"mx.example.com", b"\xff\x1b[2J\nexamples"))
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(1000):
                pass
    daemon.stop()
    assert [
        line for line in daemon.log[len(before) :].splitlines() if " info stopp" not in line
    ] == []


def test_the_first_of_two_for_one_name_is_chosen(tmp_path):
    pairs = [certificates.make(tmp_path, "mx.example.com", file=file) for file in "ab"]
    with inside(*pairs) as server:
        assert presented(server.tls_port, "mx.example.com") == der(pairs[0])


def presented(port, name="mx.example.com"):
    """The certificate that a client gets that asks for `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 10) as raw,
        context.wrap_socket(raw, server_hostname=name or None) as client,
    ):
        return client.getpeercert(binary_form=True)


def der(pair):
    return ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())


# Who may come in, and the end


def test_who_may_not_come_in_is_hung_up_on_before_the_handshake(pair):
    with inside(pair, smtp_connections=1) as server:
        with Wire(server.port) as client:
            with socket.create_connection(("127.0.0.1", server.tls_port), 10) as raw:
                ended(raw)
            assert client.command("QUIT").code == 221
        until(lambda: not server.connections)


def test_a_handshake_takes_a_place(pair):
    with inside(pair, smtp_connections=1) as server:
        with socket.create_connection(("127.0.0.1", server.tls_port), 10):
            until(lambda: server.connections)
            with Wire(server.port) as client:
                assert client.greeting.code == 421
        until(lambda: not server.connections)


def test_the_end_is_told_over_tls(pair, trusting):
    with inside(pair) as server:
        server.grace = 5
        first = Wire(server.port)
        first.ehlo()
        first.starttls(trusting)
        clients = [first, Wire(server.tls_port, tls=trusting)]
        begun = Wire(server.tls_port, tls=trusting)
        begun.ehlo()
        begun.envelope("a@example.com", ["b@example.org"])
        in_handshake = socket.create_connection(("127.0.0.1", server.tls_port), 10)
        until(lambda: len(server.connections) == 4)
        server.end()
        for client in clients:
            assert client.reply().raw == STOPPING
            assert client.hung_up()
        assert begun.data(b"Hi\r\n").code == 250
        assert begun.reply().raw == STOPPING
        with (
            in_handshake,
            trusting.wrap_socket(in_handshake, server_hostname="mx.example.com") as late,
        ):
            assert late.recv(1000) == STOPPING
        for client in [*clients, begun]:
            client.close()
