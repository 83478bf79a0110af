"""AUTH with the real daemon: who may send, what failures are told, and what is written of it."""

import base64
import contextlib
import smtplib
import socket
import struct
import subprocess
import threading
import time

import pytest

from tests.support import certificates
from tests.support.guessing import counted
from tests.support.inbox import EmbeddedInbox
from tests.support.patience import until
from tests.support.ports import lasting_port
from tests.support.wire import Wire, all_read

USER, PASSWORD = "relay@example.com", "hunter2 häßlich"
PAIR = {"smtp_username": USER, "smtp_password": PASSWORD, "smtp_insecure_auth": "true"}
REFUSED = b"535 5.7.8 Authentication credentials invalid\r\n"
UNAVAILABLE = b"454 4.7.0 Authentication not available, try again later\r\n"


def b64(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def plain(user=USER, password=PASSWORD, identity=""):
    return b64(f"{identity}\0{user}\0{password}")


def auth(port, user=USER, password=PASSWORD):
    """The reply to AUTH PLAIN on a connection of its own, and the seconds that it took."""
    with Wire(port, 60) as client:
        client.ehlo()
        begun = time.monotonic()
        reply = client.command(f"AUTH PLAIN {plain(user, password)}")
        return reply, time.monotonic() - begun


@pytest.fixture
def daemon(start_daemon):
    return start_daemon(**PAIR)


def test_the_ready_line_and_ehlo_say_auth(daemon, start_daemon):
    assert "; AUTH: on;" in daemon.log
    with Wire(daemon.port) as client:
        assert "AUTH PLAIN LOGIN" in client.ehlo().lines
        assert client.command("MAIL FROM:<a@example.com>").raw == (
            b"530 5.7.0 Authentication required\r\n"
        )
    open_to_all = start_daemon()
    assert "; AUTH: off;" in open_to_all.log
    with Wire(open_to_all.port) as client:
        assert "AUTH" not in " ".join(client.ehlo().lines)
        assert client.command(f"AUTH PLAIN {plain()}").code == 502


@pytest.mark.parametrize("mechanism", ["auth_plain", "auth_login"])
@pytest.mark.parametrize("initial", [True, False])
def test_smtplib(daemon, mechanism, initial):
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.ehlo()
        client.user, client.password = USER, "hunter2"
        with pytest.raises(smtplib.SMTPAuthenticationError) as error:
            client.auth(
                mechanism.removeprefix("auth_").upper(),
                getattr(client, mechanism),
                initial_response_ok=initial,
            )
        assert error.value.smtp_code == 535
        client.rset()


def test_accepted_mail_names_the_user_everywhere(tmp_path, start_daemon):
    daemon = start_daemon(
        smtp_username=USER,
        smtp_password="hunter2",
        smtp_insecure_auth="true",
        received_log=tmp_path / "received.log",
        log_level="debug",
        smtp_received="true",
    )
    for mechanism in ("PLAIN", "LOGIN"):
        for initial in (True, False):
            with smtplib.SMTP("127.0.0.1", daemon.port) as client:
                client.ehlo()
                client.user, client.password = USER, "hunter2"
                way = getattr(client, f"auth_{mechanism.lower()}")
                code, _ = client.auth(mechanism, way, initial_response_ok=initial)
                assert code == 235
                client.sendmail("a@example.com", "b@example.org", b"Subject: Hi\r\n\r\nHi\r\n")
    messages = EmbeddedInbox().messages(daemon)
    assert [message["connection"]["user"] for message in messages] == [USER] * 4
    assert all("with ESMTPA" in message["mime"] for message in messages)
    until(lambda: (tmp_path / "received.log").read_text().count(f"\t{USER}\t250 ") == 4)
    assert f" user={USER}" in daemon.log
    assert "hunter2" not in daemon.log


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks(daemon, mechanism):
    sent = [
        *("swaks", "--server", f"127.0.0.1:{daemon.port}", "--to", "b@example.org"),
        *("--from", "a@example.com", "--auth", mechanism, "--auth-user", USER),
    ]
    done = subprocess.run([*sent, "--auth-password", PASSWORD], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    assert EmbeddedInbox().messages(daemon)[0]["connection"]["user"] == USER
    done = subprocess.run([*sent, "--auth-password", "wrong"], capture_output=True, check=False)
    assert done.returncode == 28  # authentication failed
    assert REFUSED.strip() in done.stdout


def test_curl(daemon, tmp_path):
    mail = tmp_path / "mail.eml"
    mail.write_bytes(b"Subject: Hi\r\n\r\nHi\r\n")
    sent = [
        *("curl", "-sS", f"smtp://127.0.0.1:{daemon.port}/me", "--mail-from", "a@example.com"),
        *("--mail-rcpt", "b@example.org", "--upload-file", str(mail)),
    ]
    for option in ("AUTH=PLAIN", "AUTH=LOGIN"):
        words = [*sent, "--login-options", option, "--user", f"{USER}:{PASSWORD}"]
        assert subprocess.run(words, check=False).returncode == 0
    words = [*sent, "--user", f"{USER}:wrong"]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 67
    assert len(EmbeddedInbox().messages(daemon)) == 2


def test_every_refusal_on_the_wire(daemon, start_daemon):
    with Wire(daemon.port) as client:
        assert client.command("AUTH PLAIN").raw.startswith(b"503 5.5.1 ")
        client.ehlo()
        for line, reply in [
            ("AUTH", b"501 5.5.4 "),
            ("AUTH PLAIN a b", b"501 5.5.4 "),
            ("AUTH CRAM-MD5", b"504 5.5.4 "),
            ("AUTH PLAIN a===", b"501 5.5.2 "),
            ("AUTH PLAIN " + b64("no NULs"), b"501 5.5.2 "),
            ("AUTH PLAIN " + b64(b"\0\xff\0pw"), b"535 5.7.8 "),
            ("AUTH PLAIN " + plain("line\nbreak"), b"535 5.7.8 "),
            ("AUTH PLAIN " + plain(identity="somebody else"), b"535 5.7.8 "),
            ("AUTH PLAIN =", b"501 5.5.2 "),
            ("AUTH LOGIN ==", b"501 5.5.2 "),
        ]:
            assert client.command(line).raw.startswith(reply), line
        assert client.command("AUTH LOGIN =").raw == b"334 UGFzc3dvcmQ6\r\n"  # an empty name
        assert client.command("=").raw.startswith(b"501 5.5.2 ")  # empty in the first line alone
        assert client.command("AUTH PLAIN").raw == b"334 \r\n"
        assert client.command("*").raw == b"501 5.7.0 Authentication cancelled\r\n"
        assert client.command("AUTH LOGIN").raw == b"334 VXNlcm5hbWU6\r\n"
        assert client.command(b64(USER)).raw == b"334 UGFzc3dvcmQ6\r\n"
        assert client.command(b64(PASSWORD)).raw == b"235 2.7.0 Authentication successful\r\n"
        assert client.command(f"AUTH PLAIN {plain()}").code == 503
        client.envelope("a@example.com", ["b@example.org"])
        assert client.command(f"AUTH PLAIN {plain()}").code == 503
    insecure = start_daemon(**PAIR, smtp_maxerrors=2)
    with Wire(insecure.port) as client:
        client.ehlo()
        assert client.command("AUTH PLAIN " + plain("\r")).code == 535
        assert client.command("AUTH PLAIN " + plain("\r")).code == 535
        assert client.reply().code == 421


def test_a_dialogue_in_one_packet_and_octet_by_octet(daemon):
    dialogue = (
        b"EHLO x\r\nAUTH PLAIN " + plain().encode() + b"\r\n"
        b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nBDAT 6 LAST\r\nHi you"
        b"QUIT\r\n"
    )
    for pieces in ([dialogue], [dialogue[at : at + 1] for at in range(len(dialogue))]):
        with Wire(daemon.port) as client:
            for piece in pieces:
                client.send(piece)
            assert [reply.code for reply in client.replies(6)] == [250, 235, 250, 250, 250, 221]
    login = f"EHLO x\r\nAUTH LOGIN\r\n{b64(USER)}\r\n{b64(PASSWORD)}\r\nMAIL FROM:<a@b.c>\r\n"
    for at in range(len(login)):
        with Wire(daemon.port) as client:
            client.send(login[:at].encode())
            client.send(login[at:].encode())
            assert [reply.code for reply in client.replies(5)] == [250, 334, 334, 235, 250]


HOSTILE = [
    b"AUTH PLAIN " + b"A" * 12_000,
    b"AUTH PLAIN " + b"A" * 13_000,
    b"AUTH PLAIN " + b"A" * 1_000_000,
    b"AUTH PLAIN " + b64(b"\0" * 9000).encode(),
    b"AUTH PLAIN " + b64(b"\0" + b"u" * 4000 + b"\0" + b"p" * 4000).encode(),
    b"AUTH PLAIN " + b64(b"\0u\0\x01\x02\x03").encode(),
    b"AUTH PLAIN \x00\x01\x02",
    b"AUTH PLAIN \xff\xfe",
    b"AUTH LOGIN " + b64(b"u\0u").encode() + b"\r\n" + b64(b"p\0p").encode(),
    b"AUTH LOGIN\r\n" + b"B" * 13_000,
    b"AUTH LOGIN\r\n\r\n\r\n",
    b"AUTH " + b"X" * 13_000,
]


@pytest.mark.parametrize("packets", [1, 50])
def test_hostile_lines_are_refused_and_the_session_goes_on(daemon, packets):
    for line in HOSTILE:
        with Wire(daemon.port) as client:
            client.ehlo()
            sent = line + b"\r\nNOOP\r\n"
            size = -(-len(sent) // packets)
            for at in range(0, len(sent), size):
                client.send(sent[at : at + size])
            replies = []
            while not replies or replies[-1].raw != b"250 2.0.0 Ok\r\n":
                replies.append(client.reply())
            codes = {reply.code for reply in replies[:-1]}
            assert codes <= {334, 500, 501, 504, 535}, line[:40]
            assert client.command("MAIL FROM:<a@example.com>").code == 530, line[:40]
            assert client.command(f"AUTH PLAIN {plain()}").code == 235, line[:40]


def test_tls_forgets_who_it_was_and_protects_the_next_one(tmp_path, start_daemon):
    made = certificates.make(tmp_path)
    daemon = start_daemon(**PAIR, **made.settings, smtp_secure_port=0, smtp_received="true")
    context = certificates.client(made.certificate)
    context.check_hostname = False
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.ehlo()
        assert client.docmd(f"AUTH PLAIN {plain()}")[0] == 235
        client.starttls(context=context)
        client.ehlo()
        assert client.mail("a@example.com")[0] == 530
        assert client.docmd(f"AUTH PLAIN {plain()}")[0] == 235
        client.sendmail("a@example.com", "b@example.org", b"Subject: Hi\r\n\r\nHi\r\n")
    with smtplib.SMTP_SSL("127.0.0.1", daemon.tls_port, context=context) as client:
        client.ehlo()
        assert client.docmd("AUTH LOGIN")[0] == 334
        assert client.docmd(b64(USER))[0] == 334
        assert client.docmd(b64(PASSWORD))[0] == 235
        client.sendmail("a@example.com", "b@example.org", b"Subject: Hi\r\n\r\nHi\r\n")
        assert client.docmd(f"AUTH PLAIN {plain()}")[0] == 503
    with smtplib.SMTP_SSL("127.0.0.1", daemon.tls_port, context=context) as client:
        client.ehlo()
        assert client.docmd(f"AUTH PLAIN {plain(password='wrong')}")[0] == 535
    messages = EmbeddedInbox().messages(daemon)
    assert len(messages) == 2
    for message in messages:
        assert message["connection"]["user"] == USER
        assert "with ESMTPSA" in message["mime"]


def test_users_of_the_settings_beside_the_pair(start_daemon):
    users = "hardcoded://one:pass:word,two:zwei"
    daemon = start_daemon(**PAIR, smtp_auth=users)
    for user, password in [(USER, PASSWORD), ("one", "pass:word"), ("two", "zwei")]:
        assert auth(daemon.port, user, password)[0].code == 235
    assert auth(daemon.port, "two", "pass:word")[0].code == 535
    alone = start_daemon(smtp_auth=users, smtp_insecure_auth="true")
    assert auth(alone.port, "two", "zwei")[0].code == 235
    assert auth(alone.port)[0].code == 535
    for each in (daemon, alone):
        assert "zwei" not in each.log


def test_failures_are_answered_later_and_later_over_all_workers(start_daemon):
    daemon = start_daemon(**PAIR, smtp_threads=4, smtp_port=lasting_port())
    seconds = [auth(daemon.port, password="wrong")[1] for _ in range(3)]
    for wanted, taken in zip([0.5, 1, 2], seconds, strict=True):
        assert 0.9 * wanted < taken < 3 * wanted
    assert auth(daemon.port)[1] < 1.5  # who knows the password does not wait
    status, said = daemon.reload()
    assert status == 0, said
    reply, taken = auth(daemon.port, password="wrong")
    assert (reply.code, taken > 3) == (535, True)  # new workers know it, too


@pytest.mark.parametrize("resets", [True, False])
def test_hanging_up_does_not_help_to_guess_faster(start_daemon, resets):
    """Who hangs up after 0.2 s has as many guesses as who waits for the replies."""
    metrics = f"127.0.0.1:{lasting_port()}"
    daemon = start_daemon(**PAIR, smtp_threads=1, metrics_address=metrics)
    begun = time.monotonic()
    for _ in range(20):
        with Wire(daemon.port) as client:
            client.ehlo()
            client.socket.settimeout(0.2)
            client.send(f"AUTH PLAIN {plain(password='wrong')}\r\n".encode())
            with contextlib.suppress(TimeoutError):
                client.reply()
            linger = struct.pack("ii", resets, 0)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    waited = 0.5 + 1 + 2 + 4
    most = 4 if time.monotonic() - begun < waited else 5
    assert counted(daemon)["refused"] <= most
    assert auth(daemon.port)[0].code == 235


def test_replies_behind_auth_are_given_to_a_client_that_sends_no_more(daemon):
    with Wire(daemon.port) as client:
        client.send(f"EHLO x\r\nAUTH PLAIN {plain()}\r\nQUIT\r\n".encode())
        client.socket.shutdown(socket.SHUT_WR)
        assert [reply.code for reply in client.replies(3)] == [250, 235, 221]


def test_the_tried_name_is_logged_where_that_is_wanted(start_daemon):
    daemon = start_daemon(**PAIR, log_auth_names="true")
    assert auth(daemon.port, user="eve user=root\\" + "x" * 300)[0].raw == REFUSED
    until(lambda: "refused: 535" in daemon.log)
    line = next(line for line in daemon.log.splitlines() if "refused: 535" in line)
    assert line.partition(" tried=")[2].startswith("eve\\x20user\\x3droot\\\\xxx")
    assert line.count("x" * 180)
    assert not line.count("x" * 200)
    assert PASSWORD not in line


def test_a_client_that_waits_does_not_time_out_and_ends_with_the_daemon(start_daemon):
    daemon = start_daemon(**PAIR, smtp_timeout="0.5", smtp_grace="0.2")
    for _ in range(2):
        auth(daemon.port, password="wrong")
    reply, taken = auth(daemon.port, password="wrong")
    assert reply.raw == REFUSED
    assert taken > 1.5
    with Wire(daemon.port, 30) as client:
        client.ehlo()
        client.send(f"AUTH PLAIN {plain(password='wrong')}\r\n".encode())
        all_read(daemon.port)
        begun = time.monotonic()
        daemon.stop()
        assert client.reply().code == 421
        assert time.monotonic() - begun < 3


def test_authentications_are_counted(start_daemon):
    daemon = start_daemon(**PAIR, metrics_address=f"127.0.0.1:{lasting_port()}")
    auth(daemon.port)
    auth(daemon.port, password="wrong")
    assert counted(daemon) == {"accepted": 1, "refused": 1, "unavailable": 0}


def test_no_password_in_log_title_or_environment(start_daemon):
    daemon = start_daemon(**PAIR, log_level="debug")
    auth(daemon.port, password="swordfish")
    auth(daemon.port, user="swordfish")
    threads = [threading.Thread(target=auth, args=(daemon.port,)) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert "refused: 535 5.7.8 Authentication credentials invalid worker=1 session=" in daemon.log
    for pid in (daemon.process.pid, *daemon.workers):
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                assert b"hunter2" not in file.read()
    assert "hunter2" not in daemon.log
    assert "swordfish" not in daemon.log
