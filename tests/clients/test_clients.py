"""Real clients send the same mail: its JSON is right in RabbitMQ and in the embedded queue."""

import os
import re
import shutil
import smtplib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import postfix
from tests.support.daemon import Daemon
from tests.support.inbox import Inbox

HELO = "client.example.net"
SENDER = "sender@example.com"
RECIPIENTS = ("one@example.org", "two+tag@example.org")
TEXT = """\
From: Sender <sender@example.com>
X-MQ-Tag: welcome
To: one@example.org
Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=
 and a folded line
x-mq-maxattempts: 3
X-Mq-Campaign: spring

Dots: at the end.
.
..
.dot
Quotes ", backslash \\, tab \t, umlaut ü, emoji \N{WAVING HAND SIGN}
From the beginning of a line.

""".encode()
MIME = TEXT.decode().replace("\n", "\r\n")
for header in ("X-MQ-Tag: welcome", "x-mq-maxattempts: 3", "X-Mq-Campaign: spring"):
    MIME = MIME.replace(f"{header}\r\n", "")

Client = Callable[[int, Path], None]
"""Sends TEXT, a file with plain newlines, to a port: two recipients."""


def run(*command: str, env: Mapping[str, str] = os.environ) -> None:
    """A program of the machine's; it must succeed."""
    # `make sanitize` preloads into Python what other programs cannot bear.
    env = {key: value for key, value in env.items() if key != "LD_PRELOAD"}
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    done = subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")


def swaks(port: int, file: Path) -> None:
    run(
        *("swaks", "--server", "127.0.0.1", "--port", str(port), "--helo", HELO),
        *("--from", SENDER, "--to", ",".join(RECIPIENTS), "--data", f"@{file}"),
    )


def by_smtplib(port: int, file: Path) -> None:
    with smtplib.SMTP("127.0.0.1", port, local_hostname=HELO, timeout=30) as client:
        content = file.read_bytes().replace(b"\n", b"\r\n")
        assert client.sendmail(SENDER, RECIPIENTS, content, ["BODY=8BITMIME"]) == {}


def curl(port: int, file: Path) -> None:
    run(
        *("curl", "--silent", "--show-error", f"smtp://127.0.0.1:{port}/{HELO}", "--crlf"),
        *("--mail-from", SENDER, "--upload-file", str(file)),
        *(word for each in RECIPIENTS for word in ("--mail-rcpt", each)),
    )


def smtp_source(port: int, file: Path) -> None:
    if postfix.MISSING:
        pytest.skip(postfix.MISSING)
    for recipient in RECIPIENTS:
        run(
            *(postfix.SMTP_SOURCE, "-M", HELO, "-f", SENDER, "-t", recipient),
            *("-F", str(file), f"127.0.0.1:{port}"),
            env=postfix.ENV,
        )


def judge(messages: Sequence[dict[str, Any]], port: int, added: str) -> None:
    """Every property of json.md, as far as the client decides or the settings say it."""
    assert sorted(message["recipient"] for message in messages) == sorted(RECIPIENTS)
    assert len({message["message-id"] for message in messages}) == len(messages)
    for message in messages:
        assert list(message)[-1] == "mime"
        connection = message.pop("connection")
        received = datetime.strptime(message.pop("received"), "%Y-%m-%d %H:%M:%S")
        assert abs(datetime.now(UTC) - received.replace(tzinfo=UTC)) < timedelta(minutes=5)
        assert re.fullmatch(r"[0-9A-Za-z]+", message.pop("message-id"))
        assert message.pop("recipient") in RECIPIENTS
        assert message == {
            "hostname": "mx.example.com",
            "envelope": SENDER,
            "ips": ["127.0.0.1"],
            "tags": ["welcome"],
            "maxattempts": 3,
            "campaign": "spring",
            "mime": MIME + added,
        }
        assert 0 < connection.pop("remote-port") < 65536
        assert connection == {
            "local-ip": "127.0.0.1",
            "local-port": port,
            "remote-ip": "127.0.0.1",
            "secure": False,
            "helo": HELO,
        }


@pytest.mark.parametrize(
    ("client", "added"),
    # Two of them end what they read from a file with an empty line.
    [(swaks, "\r\n"), (by_smtplib, ""), (curl, ""), (smtp_source, "\r\n")],
)
def test_the_json_is_right(
    client: Client, added: str, inbox: Inbox, start_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = start_daemon(**inbox.settings)
    file = tmp_path / "mail.txt"
    file.write_bytes(TEXT)
    client(daemon.port, file)
    judge(inbox.messages(daemon), daemon.port, added)


def test_many_sessions_of_smtp_source(
    inbox: Inbox, start_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    if postfix.MISSING:
        pytest.skip(postfix.MISSING)
    daemon = start_daemon(**inbox.settings)
    run(
        *(postfix.SMTP_SOURCE, "-d", "-N", "-s", "20", "-m", "500", "-l", "2048"),
        *("-f", SENDER, "-t", "rcpt@example.org", f"127.0.0.1:{daemon.port}"),
        env=postfix.ENV,
    )
    messages = inbox.messages(daemon)
    assert len({message["recipient"] for message in messages}) == len(messages) == 500
    assert all(message["mime"].endswith("X\r\n") for message in messages)
    assert all(message["mime"].count("XXXX\r\n") == 26 for message in messages)
