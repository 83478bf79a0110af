"""net/refusal_log: whatever a client is refused is one line, limited per client and reason."""

import json
import re
from base64 import b64encode

import pytest

from tests.support.patience import until
from tests.support.wire import Wire

OTHERS = ("time", "level", "worker", "session")


def told(daemon):
    """Message, client and the rest of every line about a refusal."""
    found = [json.loads(line) for line in daemon.log.splitlines() if line.startswith("{")]
    return [
        {name: value for name, value in event.items() if name not in OTHERS}
        for event in found
        if event["message"].startswith(("refused: ", "deferred: "))
    ]


@pytest.fixture
def start(start_daemon):
    return lambda **settings: start_daemon(log_format="json", **settings)


def test_a_client_outside_the_range(start):
    daemon = start(smtp_range="127.0.0.2")
    with Wire(daemon.port) as client:
        assert client.greeting.code == 554
    until(lambda: told(daemon))
    assert told(daemon) == [
        {
            "message": "refused: 554 5.7.1 Your address may not send mail here",
            "client": "127.0.0.1",
        }
    ]


def test_too_many_connections_of_all_and_of_one_address(start):
    daemon = start(smtp_connections=2, smtp_connections_per_ip=1)
    with Wire(daemon.port), Wire(daemon.port) as second:
        assert second.greeting.code == 421
        with Wire(daemon.port, source="127.0.0.2"), Wire(daemon.port, source="127.0.0.3") as last:
            assert last.greeting.code == 421
    until(lambda: len(told(daemon)) == 2)
    assert [(event["client"], event["message"]) for event in told(daemon)] == [
        ("127.0.0.1", "deferred: 421 4.3.2 Too many connections from you, try again later"),
        ("127.0.0.3", "deferred: 421 4.3.2 Too many connections, try again later"),
    ]


def test_commands_sizes_and_credentials_name_envelope_and_user(start):
    user = {"smtp_username": "u", "smtp_password": "secret", "smtp_insecure_auth": "true"}
    daemon = start(smtp_maxsize=100, **user)
    with Wire(daemon.port) as client:
        client.ehlo()
        client.command("MAIL FROM:<a@example.com>")
        client.command(b"AUTH PLAIN " + b64encode(b"\0u\0guessed"))
        client.command(b"AUTH PLAIN " + b64encode(b"\0u\0secret"))
        client.command("MAIL FROM:<a@example.com> SIZE=101")
        client.command("MAIL FROM:<a@example.com>")
        client.command("RCPT TO:<nobody@@example.org>")
        client.command("RCPT TO:<b@example.org>")
        assert client.data(b"x" * 200 + b"\r\n").code == 552
        client.command("EXPN list")
    until(lambda: len(told(daemon)) == 5)
    about = {"client": "127.0.0.1", "user": "u", "envelope": "a@example.com"}
    assert told(daemon) == [
        {
            "message": "refused: 530 5.7.0 Authentication required",
            "client": "127.0.0.1",
            "envelope": "a@example.com",
        },
        {
            "message": "refused: 535 5.7.8 Authentication credentials invalid",
            "client": "127.0.0.1",
        },
        {"message": "refused: 552 5.3.4 Message too large", **about},
        {
            "message": "refused: 553 5.1.3 Bad recipient address",
            **about,
            "recipient": "nobody@@example.org",
        },
        {
            "message": "refused: 502 5.5.1 Command not implemented",
            "client": "127.0.0.1",
            "user": "u",
        },
    ]
    assert "guessed" not in daemon.log


def test_a_protocol_error_and_a_slow_client(start):
    daemon = start(smtp_timeout=1)
    with Wire(daemon.port) as browser:
        assert browser.command("GET / HTTP/1.1").code == 554
    with Wire(daemon.port) as slow:
        assert slow.reply().code == 421
    assert [event["message"] for event in told(daemon)] == [
        "refused: 554 5.5.0 Protocol error, closing",
        "deferred: 421 4.4.2 Timeout, closing",
    ]


def test_a_flood_is_one_line_and_a_count(start):
    daemon = start(smtp_maxerrors=1000)
    for source in ("127.0.0.1", "127.0.0.2"):
        with Wire(daemon.port, source=source) as client:
            client.ehlo()
            for _ in range(200):
                assert client.command("NONSENSE").code == 500
            assert client.command("EXPN x").code == 502
    daemon.stop()
    unknown = "refused: 500 5.5.2 Command unrecognized"
    seen = [
        (event["client"], re.sub(r"in \d+ s", "in … s", event["message"])) for event in told(daemon)
    ]
    assert sorted(seen) == sorted(
        (f"127.0.0.{host}", line)
        for host in (1, 2)
        for line in (
            unknown,
            "refused: 502 5.5.1 Command not implemented",
            f"{unknown} (199 like this in … s)",
        )
    )


def test_nothing_in_an_address_forges_another_field(start_daemon):
    daemon = start_daemon(smtp_maxsize=100)
    with Wire(daemon.port) as client:
        client.ehlo()
        client.command('MAIL FROM:<"x user=root client=192.0.2.1"@example.com> SIZE=101')
    until(lambda: "refused" in daemon.log)
    (line,) = [line for line in daemon.log.splitlines() if "refused" in line]
    assert re.findall(r"\b(\w+)=", line) == ["worker", "session", "client", "envelope"]
    assert r"\x22x\x20user\x3droot\x20client\x3d192.0.2.1\x22@example.com" in line


def test_nothing_in_a_header_forges_another_field(start_daemon):
    daemon = start_daemon()
    with Wire(daemon.port) as client:
        client.ehlo()
        assert client.mail(b"X-MQ-Priority: 1 user=root client=192.0.2.1\r\n\r\n").code == 250
    until(lambda: "does not parse" in daemon.log)
    (line,) = [line for line in daemon.log.splitlines() if "does not parse" in line]
    assert re.findall(r"\b(\w+)=", line) == ["worker", "session", "client", "value"]
    assert line.endswith(r" value=1\x20user\x3droot\x20client\x3d192.0.2.1")
