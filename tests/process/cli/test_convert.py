"""`fastsmtp convert` as an operator meets it: files in, the daemon's JSON and notes out."""

import os
import pty
import smtplib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.daemon import ROOT, Daemon
from tests.support.inbox import EmbeddedInbox

COMMAND = [sys.executable, "-m", "fastsmtp", "convert"]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("FASTSMTP_")} | {
    "PYTHONPATH": str(ROOT)
}
FROM_TO = ("--envelope", "you@example.com", "--recipient", "friend@example.org")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Writes `content` to m.eml and converts it: `run(content, *arguments)`."""

    def run(content: bytes, *arguments: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "m.eml").write_bytes(content)
        return subprocess.run(
            [*COMMAND, "m.eml", *(arguments or FROM_TO)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env=ENVIRONMENT,
        )

    return run


def objects(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in done.stdout.splitlines()]


def test_it_is_the_json_that_the_daemon_publishes(
    run: Run, start_daemon: Callable[..., Daemon]
) -> None:
    content = (
        "From: you@example.com\r\nX-MQ-Tag: a\r\nX-Mq-Priority:\r\n 7\r\n"
        "X-MQ-Results-Queue: r\r\nX-MQ-Campaign: spring\r\nSubject: grüße\r\n\r\n.dot\r\nbye\r\n"
    ).encode()
    recipients = ["friend@example.org", "other@example.org"]
    inbox = EmbeddedInbox()
    daemon = start_daemon(**inbox.settings)
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=30) as client:
        client.sendmail("you@example.com", recipients, content, ["BODY=8BITMIME", "RET=HDRS"])
    published = inbox.messages(daemon)
    done = run(
        content,
        *("--config-file", str(daemon.config), "--envelope", "you@example.com RET=HDRS"),
        *(word for each in recipients for word in ("--recipient", each)),
    )
    assert done.returncode == 0
    converted = objects(done)
    assert [list(each) for each in converted] == [list(each) for each in published]
    for one in (*published, *converted):
        del one["message-id"], one["received"], one["connection"]
    assert converted == published


NOTED = b"""\
From: you@example.com
X-MQ-Priorty: 3
X-MQ-Priority:
 high
X-MQ-Tags: a
X-MQ-Tag: a
x-mq-recipient: other@example.org
X-MQ-Envelope: no mailbox
X-MQ-Campaign: spring
X-MQ-Delayed: 2026-02-30 00:00:00
X-MQ-Retries: 300,soon
X-MQ-KeepMIME: maybe
X-MQ-: what

X-MQ-Body: is none
"""
NOTES = """\
m.eml:2: x-mq-priorty: unknown, becomes a property of this name; expected x-mq-priority?
m.eml:3: x-mq-priority: malformed, stays in the MIME; expected an integer of 64 bits, \
found 'high'
m.eml:5: x-mq-tags: the server's, stays in the MIME; expected x-mq-tag?
m.eml:7: x-mq-recipient: the server's, stays in the MIME; expected a name that docs/json.md lists
m.eml:8: x-mq-envelope: malformed, stays in the MIME; expected a mailbox, or nothing, \
found 'no mailbox'
m.eml:9: x-mq-campaign: unknown, becomes a property of this name; expected a name that \
docs/json.md lists
m.eml:10: x-mq-delayed: malformed, stays in the MIME; expected YYYY-MM-DD HH:MM:SS, \
a date that exists, found '2026-02-30 00:00:00'
m.eml:11: x-mq-retries: malformed, stays in the MIME; expected integers of 64 bits, \
commas between, found '300,soon'
m.eml:12: x-mq-keepmime: malformed, stays in the MIME; expected true, false, yes, no, \
on, off, 1 or 0, found 'maybe'
m.eml:13: x-mq-: the server's, stays in the MIME; expected a name that docs/json.md lists
"""


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_every_header_to_look_at_is_told_with_its_line(run: Run, newline: bytes) -> None:
    done = run(NOTED.replace(b"\n", newline))
    assert (done.returncode, done.stderr) == (0, NOTES)
    [one] = objects(done)
    assert (one["priorty"], one["campaign"], one["tags"]) == ("3", "spring", ["a"])
    assert not one.keys() & {"priority", "delayed", "nextattempt", "retries", "keepmime"}
    lifted = (b"X-MQ-Priorty: 3\n", b"X-MQ-Tag: a\n", b"X-MQ-Campaign: spring\n")
    kept = NOTED
    for line in lifted:
        kept = kept.replace(line, b"")
    assert one["mime"].encode() == kept.replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    ("header", "status"),
    [("Priority: 3", 0), ("Priorty: 3", 1), ("Priority: high", 1), ("Connection: x", 1)],
)
def test_strict_exits_with_1_if_there_is_any(run: Run, header: str, status: int) -> None:
    content = f"X-MQ-{header}\n\n".encode()
    done = run(content, *FROM_TO, "--strict")
    assert (done.returncode, bool(done.stderr), len(objects(done))) == (status, bool(status), 1)
    assert run(content).returncode == 0


def test_no_header_is_told_where_none_is_lifted(run: Run) -> None:
    done = run(NOTED, *FROM_TO, "--smtp-extract", "false", "--strict")
    assert (done.returncode, done.stderr) == (0, "")
    assert objects(done)[0]["mime"] == NOTED.decode().replace("\n", "\r\n")


def test_no_control_character_of_a_header_reaches_the_terminal(run: Run) -> None:
    stderr = run(b"X-MQ-Priority: \x1b[2J\r\n\r\n").stderr
    assert "\x1b" not in stderr
    assert "found '?[2J'" in stderr


@pytest.mark.parametrize(
    ("mode", "mime"), [("normalize", "a b\r\nc\r\n"), ("keep", "a\rb\nc\r\n"), ("reject", None)]
)
def test_newlines_become_what_the_setting_says(run: Run, mode: str, mime: str | None) -> None:
    done = run(b"\r\na\rb\nc\r\n", *FROM_TO, "--smtp-bare-newline", mode)
    if mime is None:
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("m.eml: would be refused: 550 5.6.0 ")
    else:
        assert [one["mime"] for one in objects(done)] == ["\r\n" + mime]


@pytest.mark.parametrize(
    ("content", "option", "reply"),
    [
        (b"x" * 2000, "--smtp-maxsize=1000", "552 5.3.4"),
        (b"\xff", "--json-binary=reject", "554 5.6.3"),
        (b"Received: x\r\n" * 101, "--smtp-extract=true", "554 5.4.6"),
        (b"X-MQ-A: x\r\n" * 1001, "--smtp-extract=true", "552 5.3.4"),
    ],
)
def test_mail_that_would_be_refused_is_said_so(
    run: Run, content: bytes, option: str, reply: str
) -> None:
    done = run(content, *FROM_TO, option)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"m.eml: would be refused: {reply} ")


def test_what_is_not_utf8_is_base64(run: Run) -> None:
    [one] = objects(run(b"\r\n\xff"))
    assert (one["mime-encoding"], one["mime"]) == ("base64", "DQr/")


@pytest.mark.parametrize(
    ("sender", "recipient", "found"),
    [
        ("", "friend@example.org", ("", "friend@example.org", None)),
        ("<a@example.com>", "Postmaster", ("a@example.com", "Postmaster", None)),
        ("ä@example.com", "b@example.org", ("ä@example.com", "b@example.org", True)),
    ],
)
def test_addresses_are_taken_as_mail_and_rcpt_take_them(
    run: Run, sender: str, recipient: str, found: tuple[str, str, bool | None]
) -> None:
    [one] = objects(run(b"", "--envelope", sender, "--recipient", recipient))
    assert (one["envelope"], one["recipient"], one.get("smtputf8")) == found


@pytest.mark.parametrize(("sender", "recipient"), [("a b", "c@d"), ("a@b", ""), ("a@b", "c\n@d")])
def test_a_wrong_address_is_a_wrong_argument(run: Run, sender: str, recipient: str) -> None:
    done = run(b"", "--envelope", sender, "--recipient", recipient)
    assert (done.returncode, done.stdout) == (2, "")
    assert ": expected an address, found " in done.stderr


@pytest.mark.parametrize("arguments", [FROM_TO[:2], FROM_TO[2:], (*FROM_TO, "--no-such", "1")])
def test_wrong_arguments_exit_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(b"", *arguments).returncode == 2


def test_a_file_that_cannot_be_read_does_not_hide_the_others(run: Run) -> None:
    done = run(b"Subject: hi\n", "missing.eml", ".", *FROM_TO)
    assert (done.returncode, len(objects(done))) == (1, 1)
    assert done.stderr == (
        "missing.eml: cannot be read: No such file or directory\n"
        ".: cannot be read: Is a directory\n"
    )


def test_a_terminal_gets_many_lines(tmp_path: Path) -> None:
    (tmp_path / "m.eml").write_text("Subject: hi\n")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, str(tmp_path / "m.eml"), *FROM_TO], stdout=theirs, env=ENVIRONMENT
    ) as process:
        os.close(theirs)
        seen = b""
        while b"\n}" not in seen:
            seen += os.read(ours, 1000)
    os.close(ours)
    assert process.returncode == 0
    assert b'\r\n  "mime": "Subject: hi\\r\\n"\r\n}' in seen


def test_it_ends_quietly_when_its_reader_has_seen_enough(tmp_path: Path) -> None:
    (tmp_path / "m.eml").write_bytes(b"x" * 1_000_000)
    line = f"{' '.join(COMMAND)} m.eml m.eml m.eml {' '.join(FROM_TO)} | head -c 10"
    done = subprocess.run(
        line, shell=True, capture_output=True, cwd=tmp_path, env=ENVIRONMENT, timeout=60
    )
    assert (len(done.stdout), done.stderr) == (10, b"")
