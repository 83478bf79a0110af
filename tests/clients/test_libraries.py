"""Other languages' libraries send: nodemailer and Go's net/smtp. Nothing twice, nothing lost."""

import base64
import email
import email.policy
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import ROOT, Daemon
from tests.support.inbox import EmbeddedInbox, Inbox

HERE = Path(__file__).parent
TOOLS = ROOT / ".tools"

Mail = dict[str, Any]
Send = Callable[[int, list[Mail]], str]
"""Sends mails, as nodemailer describes them, to a port; gives what the program printed."""


def run(job: dict[str, Any], *command: str | Path, **env: str) -> str:
    done = subprocess.run(
        command,
        input=json.dumps(job),
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def nodemailer() -> Send:
    modules = TOOLS / "node" / "node_modules"
    if shutil.which("node") is None or not (modules / "nodemailer").is_dir():
        pytest.skip(f"needs node and nodemailer in {modules} (tests/install-tools puts it there)")

    def send(port: int, mails: list[Mail]) -> str:
        job = {"port": port, "mails": mails}
        return run(job, "node", HERE / "library.js", NODE_PATH=str(modules))

    return send


@pytest.fixture
def net_smtp(tmp_path: Path) -> Send:
    go = shutil.which("go", path=f"{os.environ['PATH']}:{TOOLS}/go/usr/bin")
    if go is None:
        pytest.skip("needs Go (tests/install-tools unpacks it)")
    program = tmp_path / "library"
    offline = {"GOPROXY": "off", "GOTOOLCHAIN": "local", "GOCACHE": str(tmp_path / "go")}
    run({}, go, "build", "-o", program, HERE / "library.go", **offline)

    def send(port: int, mails: list[Mail]) -> str:
        return run({"port": port, "mails": mails}, program)

    return send


@pytest.mark.parametrize("library", ["nodemailer", "net_smtp"])
def test_each_mail_arrives_once(
    library: str, inbox: Inbox, start_daemon: Callable[..., Daemon], request: pytest.FixtureRequest
) -> None:
    send: Send = request.getfixturevalue(library)
    daemon = start_daemon(**inbox.settings)
    to = ["one@example.org", "two+tag@example.org"]
    large = '.dot "\\ ü \N{WAVING HAND SIGN}\r\n.\r\n..\r\n' * 300_000
    mails = [
        {
            "envelope": {"from": f"{number}@example.com", "to": to},
            "raw": f"Subject: {number}\r\n\r\n.\r\n..\r\n.dot ü\r\n\r\n"
            + (large if number == 50 else ""),
        }
        for number in range(100)
    ]
    send(daemon.port, mails)
    messages = inbox.messages(daemon)
    got = sorted((each["envelope"], each["recipient"], each["mime"]) for each in messages)
    assert got == sorted(
        (mail["envelope"]["from"], recipient, mail["raw"]) for mail in mails for recipient in to
    )


def test_net_smtp_asks_for_smtputf8(net_smtp: Send, start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon()
    envelope = {"from": "jürgen@example.com", "to": ["用户@例子.example"]}
    net_smtp(daemon.port, [{"envelope": envelope, "raw": "Subject: ü\r\n\r\n"}])
    (message,) = EmbeddedInbox().messages(daemon)
    assert message["smtputf8"] is True
    assert [message["envelope"], message["recipient"]] == [
        "jürgen@example.com",
        "用户@例子.example",
    ]


def test_what_nodemailer_composes(nodemailer: Send, start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon()
    picture = bytes(range(256)) * 40
    printed = nodemailer(
        daemon.port,
        [
            {
                "from": "Jürgen <jürgen@example.com>",
                "to": "one@example.org",
                "subject": "Grüße \N{WAVING HAND SIGN}",
                "text": "First line\n.\nUmlaut ü\n",
                "html": "<p>Umlaut ü</p>",
                "headers": {"X-MQ-Tag": "welcome"},
                "attachments": [
                    {
                        "filename": "ü.bin",
                        "content": base64.b64encode(picture).decode(),
                        "encoding": "base64",
                    }
                ],
                "dsn": {
                    "id": "QQ+314159",
                    "return": "headers",
                    "notify": ["failure", "delay"],
                    "recipient": "rfc822;bob@ent.example",
                },
            }
        ],
    )
    (message,) = EmbeddedInbox().messages(daemon)
    (reply,) = json.loads(printed)
    assert f"{message['message-id']} for one@example.org" in reply
    assert message["tags"] == ["welcome"]
    assert message["smtputf8"] is True
    assert (message["envelope"], message["recipient"]) == ("jürgen@example.com", "one@example.org")
    assert message["dsn"] == {
        "envid": "QQ+314159",
        "ret": "HDRS",
        "notify": "FAILURE,DELAY",
        "orcpt": "rfc822;bob@ent.example",
    }
    mail = email.message_from_string(message["mime"], policy=email.policy.default)
    assert mail["Subject"] == "Grüße \N{WAVING HAND SIGN}"
    assert "X-MQ-Tag" not in mail
    text = mail.get_body(("plain",))
    assert text is not None
    assert text.get_content() == "First line\r\n.\r\nUmlaut ü\r\n"
    (attachment,) = mail.iter_attachments()
    assert attachment.get_filename() == "ü.bin"
    assert attachment.get_content() == picture
