"""received-log: one line per recipient, accepted or refused."""

import json
import os
import re

import pytest

from fastsmtp.escaping import escaped
from fastsmtp.process import control
from tests.support.daemon import COMMAND
from tests.support.patience import until
from tests.support.wire import Wire


def lines(path):
    """The fields of each line."""
    return [line.split("\t") for line in path.read_text().splitlines()]


FULL = 1 << 30
"""Bytes that a file may have, so that one is full."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "received.log"


def test_every_recipient_has_its_line_accepted_or_refused(start_daemon, path):
    daemon = start_daemon(received_log=path, smtp_maxsize=100)
    with Wire(daemon.port) as client:
        client.ehlo()
        ids = client.mail(b"Hi\r\n", recipients=["a@example.org", '"x\\y"@example.org']).ids
        assert client.mail(b"x" * 200 + b"\r\n").code == 552
        client.envelope("", ["late@example.org"])
        assert client.bdat(b"x" * 200).code == 552
    daemon.stop()
    found = lines(path)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line[0]) for line in found)
    ok = "250 2.0.0 Ok, your message has been queued using the following identifiers:"
    large = "552 5.3.4 Message too large"
    assert [line[1:] for line in found] == [
        [ids[0], "sender@example.com", "a@example.org", "4", "127.0.0.1", "-", ok],
        [ids[1], "sender@example.com", '"x\\\\y"@example.org', "4", "127.0.0.1", "-", ok],
        ["-", "sender@example.com", "rcpt@example.org", "202", "127.0.0.1", "-", large],
        ["-", "", "late@example.org", "0", "127.0.0.1", "-", large],
    ]
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_is_json_where_the_log_is(start_daemon, path):
    daemon = start_daemon(received_log=path, log_format="json")
    with Wire(daemon.port) as client:
        client.ehlo()
        (accepted,) = client.mail(b"Hi\r\n", recipients=['"x\\y"@example.org']).ids
        client.command("MAIL FROM:<a@example.com> SIZE=7")
        client.command(b"RCPT TO:<\x1b@example.org>")
    daemon.stop()
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert path.read_text().replace("\n", "").isprintable()
    assert all(re.fullmatch(r"\d{4}-.*T.*\.\d{3}Z", line.pop("time")) for line in found)
    assert found == [
        {
            "id": accepted,
            "envelope": "sender@example.com",
            "recipient": '"x\\y"@example.org',
            "size": 4,
            "client": "127.0.0.1",
            "user": None,
            "reply": "250 2.0.0 Ok, your message has been queued using the following identifiers:",
        },
        {
            "id": None,
            "envelope": "a@example.com",
            "recipient": "\x1b@example.org",
            "size": 7,
            "client": "127.0.0.1",
            "user": None,
            "reply": "553 5.1.3 Bad recipient address",
        },
    ]


def test_a_refused_rcpt_has_its_line(start_daemon, path):
    daemon = start_daemon(received_log=path, smtp_maxrecipients=1)
    with Wire(daemon.port) as client:
        client.ehlo()
        client.command("RCPT TO:<early@example.org>")
        client.command("MAIL FROM:<a@example.com> SIZE=7")
        client.command("RCPT TO:<bad@@example.org>")
        client.command("RCPT TO:<b@example.org>")
        client.command("RCPT TO:<c\t@example.org>")
        (message_id,) = client.data(b"Hi\r\n").ids
    daemon.stop()
    many = "452 4.5.3 Too many recipients"
    assert [line[1:5] + line[7:] for line in lines(path)] == [
        ["-", "a@example.com", "bad@@example.org", "7", "553 5.1.3 Bad recipient address"],
        ["-", "a@example.com", "c\\t@example.org", "7", many],
        [
            *(message_id, "a@example.com", "b@example.org", "4"),
            "250 2.0.0 Ok, your message has been queued using the following identifiers:",
        ],
    ]


def test_lines_come_within_a_second_or_so_and_none_is_lost_at_the_end(start_daemon, path):
    daemon = start_daemon(received_log=path)
    with Wire(daemon.port) as client:
        client.ehlo()
        client.mail(b"Hi\r\n")
        until(lambda: len(lines(path)) == 1, 3 * 1.0)
        for _ in range(500):
            client.mail(b"Hi\r\n")
    daemon.stop()
    assert len(lines(path)) == 501


def test_a_reload_opens_the_file_anew(start_daemon, path):
    daemon = start_daemon(received_log=path)
    with Wire(daemon.port) as client:
        client.ehlo()
        client.mail(b"Hi\r\n")
    path.rename(path.with_suffix(".1"))
    assert control.ask_to_reload(daemon.process.pid, force=False)[0] == 0
    with Wire(daemon.port) as client:
        client.ehlo()
        client.mail(b"Hi\r\n")
    daemon.stop()
    assert len(lines(path)) == len(lines(path.with_suffix(".1"))) == 1


def test_a_full_disk_is_told_once_and_mail_goes_on(start_daemon, path):
    path.touch(0o600)
    os.truncate(path, FULL)
    command = ("prlimit", f"--fsize={FULL}", *COMMAND)
    daemon = start_daemon(command=command, received_log=path)
    with Wire(daemon.port) as client:
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250
        daemon.wait_for(re.compile("received-log .*received.log: lines are lost: File too large"))
        assert client.mail(b"Hi\r\n").code == 250
    daemon.stop()
    assert daemon.log.count("lines are lost") == 1


@pytest.mark.parametrize(
    ("text", "safe"),
    [("a@b", "a@b"), ("a\tb\r\n", "a\\tb\\r\\n"), ("\x1b\\", "\\x1b\\\\"), ("é\u2028", "é\\u2028")],
)
def test_no_field_can_hold_what_ends_it(text, safe):
    assert escaped(text) == safe


def test_events_of_a_client_name_it(start_daemon):
    daemon = start_daemon(log_level="debug", log_format="json")
    with Wire(daemon.port) as client:
        client.ehlo()
        (message_id,) = client.mail(b"X-MQ-Priority: high\r\n\r\n").ids
    until(lambda: "disconnected" in daemon.log)
    found = re.findall(
        r'"message":"([^"]*)","worker":1,"session":"(\w+)","client":"127.0.0.1"', daemon.log
    )
    assert [message for message, _ in found] == [
        "connected",
        "header X-MQ-priority does not parse",
        "message answered: <Reply 250 2.0.0 Ok, your message has been queued using the following "
        "identifiers:>",
        "disconnected",
    ]
    assert len({session for _, session in found}) == 1
    assert f'"ids":"{message_id}"' in daemon.log
