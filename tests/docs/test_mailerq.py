"""Moving from MailerQ: its config file and a consumer of its inbox, as docs/mailerq.md has them."""

import getpass
import re
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastsmtp.process import mailerq
from fastsmtp.settings import SETTINGS
from tests.support.daemon import COMMAND, ROOT, Daemon
from tests.support.rabbitmq import Broker

CONFIG = ROOT / "tests" / "mailerq" / "config.txt"
CONSUMER = ROOT / "tests" / "mailerq" / "consumer.py"
PAGE = ROOT / "docs" / "mailerq.md"

Start = Callable[..., Daemon]


def keys(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


@pytest.fixture
def start(start_daemon: Start, broker: Broker, queue: str, tmp_path: Path) -> Start:
    """Starts the daemon with the file: its paths in a folder of the test's, a free port and a
    queue of the test's own."""
    given = keys(CONFIG.read_text())
    if "user" in given:
        given["user"] = getpass.getuser()
    if "smtp-secure-port" in given:
        given["smtp-secure-port"] = "0"
    if "smtp-certificate" in given:
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
                *("-subj", "/CN=mx1.example.com"),
                *("-keyout", tmp_path / "mx1.example.com.key"),
                *("-out", tmp_path / "mx1.example.com.crt"),
            ],
            check=True,
            capture_output=True,
        )
    text = "".join(f"{key}: {value}\n" for key, value in given.items())
    file = tmp_path / "mailerq.txt"
    file.write_text(re.sub(r"/(etc|var/log)/mailerq", str(tmp_path), text))

    def start(**settings: object) -> Daemon:
        return start_daemon(
            command=[*COMMAND, "--config-file", str(file)],
            **{"rabbitmq_address": broker.url, "rabbitmq_inbox": queue} | settings,
        )

    return start


def connected(daemon: Daemon) -> smtplib.SMTP:
    """A client that does what the server wants before mail."""
    given = keys(CONFIG.read_text())
    client = smtplib.SMTP("127.0.0.1", daemon.port, timeout=30)
    client.ehlo()
    if client.has_extn("starttls"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client.starttls(context=context)
        client.ehlo()
    if client.has_extn("auth"):
        client.login(given["smtp-username"], given["smtp-password"])
    return client


def test_a_config_file_starts_with_warnings_only(start: Start, queue: str) -> None:
    daemon = start()
    told = [line.split(" ", 2)[1:] for line in daemon.log.splitlines()]
    assert "error" not in {level for level, _ in told}
    warned = [text for level, text in told if level == "warning"]
    ignored = [key for key in keys(CONFIG.read_text()) if key not in SETTINGS | mailerq.ALIASES]
    assert [line.split()[0] for line in warned if "of MailerQ" in line] == ignored
    assert [line for line in warned if "of MailerQ" not in line] == [
        "rabbitmq-persistent is false: confirmed mail does not survive a crash of the broker"
    ]
    with connected(daemon) as client:
        assert client.sendmail("a@example.com", ["b@example.org"], b"Subject: hi\r\n\r\n") == {}


@pytest.mark.parametrize("binary", ["base64", "reject"])
def test_a_consumer_reads_the_inbox(start: Start, broker: Broker, queue: str, binary: str) -> None:
    daemon = start(json_binary=binary)
    eight_bit = binary == "base64"
    with connected(daemon) as client:
        assert client.has_extn("8bitmime") == client.has_extn("smtputf8") == eight_bit
        client.sendmail("a@example.com", ["b@example.org"], b"Subject: one\r\n\r\nhello\r\n")
        client.sendmail("a@example.com", ["c@example.org"], "Subject: two\r\n\r\nä\r\n".encode())
        if not eight_bit:
            with pytest.raises(smtplib.SMTPDataError, match=r"554, b'5\.6\.3 "):
                client.sendmail("a@example.com", ["d@example.org"], b"Subject: x\r\n\r\n\xe4\r\n")
    process = subprocess.Popen(
        [sys.executable, str(CONSUMER), broker.url, queue], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(2)]
    finally:
        process.kill()
        process.communicate()
    assert lines == ["a@example.com b@example.org one\n", "a@example.com c@example.org two\n"]


def test_parts_of_the_address_let_us_into_the_broker(
    start_daemon: Start, broker: Broker, queue: str
) -> None:
    user, password, vhost = "me@x", "a@:/%#;,b?[ü+", "/mail in"
    broker.ctl("add_vhost", vhost)
    broker.ctl("add_user", user, password)
    broker.ctl("set_permissions", "--vhost", vhost, user, ".*", ".*", ".*")
    try:
        daemon = start_daemon(
            rabbitmq_address="",
            rabbitmq_host=f"127.0.0.1:{broker.port}",
            rabbitmq_user=user,
            rabbitmq_password=password,
            rabbitmq_vhost=vhost,
            rabbitmq_inbox=queue,
        )
        with smtplib.SMTP("127.0.0.1", daemon.port, timeout=30) as client:
            client.sendmail("a@example.com", ["b@example.org"], b"Subject: hi\r\n\r\n")
        assert broker.ctl("list_queues", "--vhost", vhost, "name", "messages").split()[-2:] == [
            queue,
            "1",
        ]
        assert password not in daemon.log
    finally:
        broker.ctl("delete_user", user)
        broker.ctl("delete_vhost", vhost)


def test_the_page_tells_what_differs_with_the_defaults_that_hold() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    told = {cells[1].strip(): cells[2] for cells in (row.split("|") for row in rows)}
    assert "`smtp-default-ips`, or absent" in told["`ips` behind a proxy"]
    assert f"default {SETTINGS['rabbitmq-throttle'].default} " in told["`rabbitmq-throttle`"]
    assert "the queue of `rabbitmq-outbox`" in told["an empty `rabbitmq-inbox`"]
    for alias in (*mailerq.ALIASES, *mailerq.PARTS):
        assert any(f"`{alias}`" in name for name in told)


def test_the_page_shows_these_very_files() -> None:
    blocks = re.findall(r"```(?:python)?\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert CONFIG.read_text() in blocks
    assert CONSUMER.read_text() in blocks
