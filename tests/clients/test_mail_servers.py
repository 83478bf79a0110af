"""A real Postfix and a real Exim pass mail on: the JSON is right, nothing twice, nothing lost."""

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.exim import Exim
from tests.support.inbox import EmbeddedInbox, Inbox, RabbitmqInbox
from tests.support.ports import lasting_port
from tests.support.postfix import Postfix
from tests.support.rabbitmq import Broker
from tests.support.relay import Relay

SENDER = "sender@example.com"
HEADER = """\
From: Sender <sender@example.com>
To: undisclosed-recipients:;
Date: Mon, 23 Nov 2026 12:00:00 +0000
Message-ID: <1@example.com>
Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=
""".replace("\n", "\r\n").encode()
PLAIN = HEADER + b"\r\n.\r\n..\r\n.dot\r\n\r\nFrom the beginning of a line\r\n. \r\n\r\n"
UTF8 = HEADER + 'MIME-Version: 1.0\r\n\r\nUmlaut ü, \N{WAVING HAND SIGN}, "\\\t\r\n'.encode()
LATIN1 = HEADER + b"MIME-Version: 1.0\r\n\r\nUmlaut \xfc, \xa4\r\n"
LINE = "0123456789 ü \N{WAVING HAND SIGN} .\r\n..\r\n".encode() * 20
LARGE = HEADER + b"\r\n" + LINE * (10 * 1024 * 1024 // len(LINE))
MANY = [f"a-recipient-with-a-rather-long-name-{number:03}@example.org" for number in range(200)]

StartRelay = Callable[[Daemon], Relay]
KINDS: dict[str, type[Relay]] = {"postfix": Postfix, "exim": Exim}


@pytest.fixture
def relays() -> Iterator[list[Relay]]:
    """What is in it at the end is closed."""
    started: list[Relay] = []
    yield started
    for each in started:
        each.close()


@pytest.fixture(params=KINDS)
def start_relay(request: pytest.FixtureRequest, relays: list[Relay]) -> StartRelay:
    """Starts the server, which passes mail on to the daemon that is given."""
    kind = KINDS[request.param]
    if kind.missing:
        pytest.skip(kind.missing)

    def start(daemon: Daemon) -> Relay:
        relays.append(kind(daemon.port))
        relays[-1].start()
        return relays[-1]

    return start


def content(message: dict[str, Any]) -> bytes:
    """What was sent to the relay: the content less the Received field that the relay put before."""
    mime: str = message["mime"]
    coded = message.get("mime-encoding") == "base64"
    whole = base64.b64decode(mime) if coded else mime.encode()
    field = re.match(rb"Received: from .*?\r\n(?![ \t])", whole, re.DOTALL)
    assert field, whole[:400]
    assert b"by relay.example.net" in field[0]
    return whole[field.end() :]


def recipients(messages: Sequence[dict[str, Any]]) -> list[str]:
    return sorted(message["recipient"] for message in messages)


def test_content_arrives_as_it_was_sent(
    inbox: Inbox, start_daemon: Callable[..., Daemon], start_relay: StartRelay
) -> None:
    daemon = start_daemon(**inbox.settings)
    relay = start_relay(daemon)
    mails = {"plain": PLAIN, "utf-8": UTF8, "latin-1": LATIN1, "large": LARGE}
    for name, mail in mails.items():
        relay.send(mail, f"{name}@example.com", ["rcpt@example.org"], ["BODY=8BITMIME"])
    relay.deliver()
    messages = inbox.messages(daemon)
    assert len(messages) == len(mails)
    assert {each["envelope"].partition("@")[0]: content(each) for each in messages} == mails
    for message in messages:
        assert message["recipient"] == "rcpt@example.org"
        assert message["connection"]["helo"] == "relay.example.net"
        assert ("mime-encoding" in message) == message["envelope"].startswith("latin-1")
        assert "smtputf8" not in message
    if isinstance(relay, Exim):  # K: it sent BDAT
        assert len(re.findall(r" => rcpt@example\.org .* K ", relay.log)) == len(mails)


def test_200_recipients_in_one_transaction(
    inbox: Inbox, start_daemon: Callable[..., Daemon], start_relay: StartRelay
) -> None:
    daemon = start_daemon(**inbox.settings)
    relay = start_relay(daemon)
    relay.send(PLAIN, SENDER, MANY)
    relay.deliver()
    messages = inbox.messages(daemon)
    assert recipients(messages) == MANY
    assert {content(message) for message in messages} == {PLAIN}
    assert len({message["connection"]["remote-port"] for message in messages}) == 1


def test_recipients_over_the_limit_are_sent_again(
    start_daemon: Callable[..., Daemon], start_relay: StartRelay
) -> None:
    inbox = EmbeddedInbox()
    daemon = start_daemon(smtp_maxrecipients=80)
    relay = start_relay(daemon)
    relay.send(PLAIN, SENDER, MANY)
    relay.deliver()
    messages = inbox.messages(daemon)
    assert recipients(messages) == MANY
    assert {content(message) for message in messages} == {PLAIN}


def test_smtputf8(start_daemon: Callable[..., Daemon], start_relay: StartRelay) -> None:
    inbox = EmbeddedInbox()
    daemon = start_daemon()
    relay = start_relay(daemon)
    mail = "Subject: Grüße\r\n".encode() + UTF8
    relay.send(mail, "jürgen@example.com", ["用户@例子.example"], ["BODY=8BITMIME", "SMTPUTF8"])
    relay.deliver()
    (message,) = inbox.messages(daemon)
    assert content(message) == mail
    assert message["smtputf8"] is True
    assert (message["envelope"], message["recipient"]) == (
        "jürgen@example.com",
        "用户@例子.example",
    )


def test_dsn_parameters(start_daemon: Callable[..., Daemon], start_relay: StartRelay) -> None:
    inbox = EmbeddedInbox()
    daemon = start_daemon()
    relay = start_relay(daemon)
    relay.send(
        PLAIN,
        SENDER,
        ["rcpt@example.org"],
        ["RET=HDRS", "ENVID=QQ+2B314159"],
        ["NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;Bob+2Btag@ent.example"],
    )
    relay.deliver()
    (message,) = inbox.messages(daemon)
    dsn = message["dsn"]
    assert sorted(dsn.pop("notify").split(",")) == ["DELAY", "FAILURE"]
    assert dsn == {"ret": "HDRS", "envid": "QQ+314159", "orcpt": "rfc822;Bob+tag@ent.example"}


def send(relay: Relay, names: Sequence[str]) -> None:
    """One mail a name, to two recipients."""
    for name in names:
        relay.send(PLAIN, f"{name}@example.com", ["a@example.org", "b@example.org"])


def assert_once_each(messages: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """Every mail of `send` is there for each of its recipients, unchanged."""
    assert sorted((each["envelope"], each["recipient"]) for each in messages) == sorted(
        (f"{name}@example.com", f"{recipient}@example.org") for name in names for recipient in "ab"
    )
    assert {content(message) for message in messages} == {PLAIN}


def test_mail_waits_for_the_broker(
    killable: Broker, start_daemon: Callable[..., Daemon], relays: list[Relay]
) -> None:
    inbox = RabbitmqInbox(killable)
    daemon = start_daemon(**inbox.settings)
    # One outage for both: it takes long.
    relays += [kind(daemon.port) for kind in KINDS.values() if not kind.missing]
    if not relays:
        pytest.skip(" ".join(kind.missing for kind in KINDS.values()))
    before = [f"before-{number}" for number in range(10)]
    during = [f"during-{number}" for number in range(20)]
    for relay in relays:
        relay.start()
        send(relay, before)
        relay.deliver()
    killable.stop()
    for relay in relays:
        send(relay, during)
        relay.wait_for(r"451 4\.3\.0")
    killable.start()
    for relay in relays:
        relay.deliver()
    assert_once_each(inbox.messages(daemon), (before + during) * len(relays))


def test_mail_waits_for_fastsmtp(
    start_daemon: Callable[..., Daemon], start_relay: StartRelay
) -> None:
    daemon = start_daemon(smtp_port=lasting_port())
    relay = start_relay(daemon)
    names = [f"number-{number}" for number in range(40)]
    for begin in range(0, len(names), 20):
        send(relay, names[begin : begin + 20])
        daemon.stop()
        daemon.start()
    relay.deliver()
    assert_once_each(EmbeddedInbox().messages(daemon), names)
