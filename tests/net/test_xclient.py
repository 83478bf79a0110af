"""net/xclient: who says XCLIENT speaks for others; raw octets against the real daemon."""

import contextlib
import re
from collections.abc import Iterator

import pytest

from fastsmtp import replies
from tests.net.test_proxy import Proxied, from_
from tests.support.daemon import Daemon
from tests.support.inbox import EmbeddedInbox
from tests.support.wire import Wire

OFFER = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
PEER = "127.0.0.1"
GREETING = b"220 mx.example.com ESMTP fastsmtp\r\n"
ALL = (
    "XCLIENT NAME=client.example.net ADDR=192.0.2.1 PORT=40000 PROTO=ESMTP HELO=client "
    "LOGIN=j+40example.net DESTADDR=198.51.100.2 DESTPORT=587"
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One for all tests that only look: PEER may say XCLIENT."""
    made = Daemon(tmp_path_factory.mktemp("xclient"), smtp_xclient=PEER)
    made.start()
    try:
        yield made
        made.close()
    finally:
        made.kill()


def test_it_is_offered_to_those_peers_alone(daemon):
    with Wire(daemon.port) as peer, Wire(daemon.port, source="127.0.0.2") as other:
        assert OFFER in peer.ehlo().lines
        assert not any("XCLIENT" in line for line in other.ehlo().lines)
        for line in (ALL, "XCLIENT", "xclient ADDR=x"):
            assert other.command(line).raw == replies.XCLIENT_DENIED.wire
        assert other.mail(b"Hi\r\n").code == 250
    assert EmbeddedInbox().last(daemon)["connection"]["remote-ip"] == "127.0.0.2"


def test_the_session_begins_anew_as_whoever_was_named(daemon):
    with Wire(daemon.port) as client:
        client.ehlo()
        assert client.command(ALL).raw == GREETING
        assert client.command("MAIL FROM:<a@b>").raw == replies.HELLO_FIRST.wire
        assert OFFER in client.ehlo().lines
        assert client.mail(b"Hi\r\n").code == 250
    message = EmbeddedInbox().last(daemon)
    assert message["connection"] == {
        "local-ip": "198.51.100.2",
        "local-port": 587,
        "remote-ip": "192.0.2.1",
        "remote-port": 40000,
        "secure": False,
        "user": "j@example.net",
        "helo": "client.example.net",
    }
    assert "ips" not in message  # a proxy stands before us


@pytest.mark.parametrize("hello", [False, True])
def test_before_and_after_a_hello(daemon, hello):
    with Wire(daemon.port) as client:
        if hello:
            client.ehlo()
        assert client.command("XCLIENT ADDR=IPV6:2001:db8::7").raw == GREETING
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250
        assert client.command("XCLIENT LOGIN=me").raw == GREETING
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250
        assert client.command("XCLIENT NAME=[UNAVAILABLE]").raw == GREETING
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250
    facts = [each["connection"] for each in EmbeddedInbox().messages(daemon)[-3:]]
    assert {each["remote-ip"] for each in facts} == {"2001:db8::7"}  # what is not said stays
    assert {each["remote-port"] for each in facts} == {0}
    assert [each.get("user") for each in facts] == [None, "me", None]  # but AUTH is forgotten


def test_in_a_transaction_it_is_refused_and_the_transaction_stands(daemon):
    with Wire(daemon.port) as client:
        client.ehlo()
        client.envelope("a@example.com", ["b@example.org"])
        assert client.command("XCLIENT ADDR=192.0.2.1").raw == replies.WRONG_ORDER.wire
        assert client.bdat(b"Hi", last=False).code == 250
        assert client.command("XCLIENT ADDR=192.0.2.1").raw == replies.WRONG_ORDER.wire
        assert client.bdat(b"\r\n").code == 250
    assert EmbeddedInbox().last(daemon)["connection"]["remote-ip"] == PEER


@pytest.mark.parametrize(
    "argument",
    [b"", b"ADDR=1.2.3", b"FOO=x", b"ADDR=192.0.2.1 LOGIN=a+0Ab", b"PORT=99999", b"ADDR"],
)
def test_a_wrong_argument_changes_nothing(daemon, argument):
    with Wire(daemon.port) as client:
        client.ehlo()
        assert client.command(b"XCLIENT " + argument).raw == replies.BAD_ARGUMENT.wire
        assert client.mail(b"Hi\r\n").code == 250
    facts = EmbeddedInbox().last(daemon)["connection"]
    assert (facts["remote-ip"], facts.get("user")) == (PEER, None)


def test_what_is_pipelined_behind_it_is_the_named_clients(daemon):
    with Wire(daemon.port) as client:
        client.send(
            b"EHLO proxy\r\nXCLIENT ADDR=192.0.2.5 LOGIN=u\r\n"
            b"EHLO me\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
            b"BDAT 4 LAST\r\nHi\r\nQUIT\r\n"
        )
        assert [reply.code for reply in client.replies(7)] == [250, 220, 250, 250, 250, 250, 221]
    facts = EmbeddedInbox().last(daemon)["connection"]
    assert (facts["remote-ip"], facts["user"], facts["helo"]) == ("192.0.2.5", "u", "me")


def test_login_counts_as_auth(start_daemon):
    daemon = start_daemon(
        smtp_xclient=PEER, smtp_username="u", smtp_password="p", smtp_insecure_auth=True
    )
    with Wire(daemon.port) as client:
        client.ehlo()
        assert client.command("MAIL FROM:<a@b>").raw == replies.AUTH_REQUIRED.wire
        assert client.command("XCLIENT ADDR=192.0.2.1 LOGIN=[UNAVAILABLE]").raw == GREETING
        client.ehlo()
        assert client.command("MAIL FROM:<a@b>").raw == replies.AUTH_REQUIRED.wire
        assert client.command("XCLIENT LOGIN=somebody").raw == GREETING
        client.ehlo()
        assert client.command("AUTH PLAIN AHUAcA==").raw == replies.WRONG_ORDER.wire
        assert client.mail(b"Hi\r\n").code == 250
    assert EmbeddedInbox().last(daemon)["connection"]["user"] == "somebody"


def test_the_range_is_judged_on_the_named_client(start_daemon):
    daemon = start_daemon(smtp_xclient=PEER, smtp_range="192.0.2.0/24; 2001:db8::/32")
    with Wire(daemon.port) as client:
        client.ehlo()
        assert client.command("MAIL FROM:<a@b>").raw == replies.UNKNOWN_CLIENT.wire
        for address in ("192.0.2.1", "IPV6:2001:db8::1", "IPV6:::ffff:192.0.2.1"):
            assert client.command(f"XCLIENT ADDR={address}").raw == GREETING
            client.ehlo()
            assert client.mail(b"Hi\r\n").code == 250
        assert client.command("XCLIENT ADDR=[UNAVAILABLE]").raw == GREETING
        client.ehlo()
        assert client.command("MAIL FROM:<a@b>").raw == replies.UNKNOWN_CLIENT.wire
        assert client.command("XCLIENT ADDR=192.0.3.1").raw == replies.ACCESS_DENIED.wire
        assert client.ehlo().code == 503
        assert client.command("XCLIENT ADDR=192.0.2.1").code == 503
        assert client.command("QUIT").code == 221
    with Wire(daemon.port, source="127.0.0.2") as other:
        assert other.greeting.raw == replies.ACCESS_DENIED.wire


def test_without_an_address_the_peer_answers_for_its_client(start_daemon):
    daemon = start_daemon(
        smtp_xclient=PEER, smtp_range=PEER, smtp_extract="trusted", smtp_trusted=PEER
    )
    with Wire(daemon.port) as client:
        for command in ("XCLIENT NAME=[TEMPUNAVAIL]", "XCLIENT ADDR=[UNAVAILABLE]"):
            assert client.command(command).raw == GREETING
            client.ehlo()
            assert client.mail(b"X-MQ-Tag: mine\r\n\r\nHi\r\n").code == 250
    named, hidden = EmbeddedInbox().messages(daemon)
    assert named["connection"]["remote-ip"] == hidden["connection"]["remote-ip"] == PEER
    assert named["tags"] == ["mine"]
    assert "tags" not in hidden  # nobody trusts whom it speaks for


def test_the_limit_of_an_address_is_the_named_clients(start_daemon):
    daemon = start_daemon(smtp_xclient=PEER, smtp_connections_per_ip=2)
    with contextlib.ExitStack() as stack:
        for address, code in [
            ("192.0.2.1", 220),
            ("192.0.2.1", 220),
            ("192.0.2.1", 421),
            ("192.0.2.2", 220),
            ("[UNAVAILABLE]", 220),
            ("[UNAVAILABLE]", 220),
            ("[UNAVAILABLE]", 220),
        ]:
            client = stack.enter_context(Wire(daemon.port))
            assert client.command(f"XCLIENT ADDR={address}").code == code, address
    with contextlib.ExitStack() as stack:  # places come back, of whoever a session was last
        for _ in range(5):
            client = stack.enter_context(Wire(daemon.port))
            for address in ("192.0.2.1", "192.0.2.2", "192.0.2.9"):
                client.command(f"XCLIENT ADDR={address}")
                client.command(f"XCLIENT ADDR={address}")
            client.command("XCLIENT ADDR=[UNAVAILABLE]")
        assert client.ehlo().code == 250


def test_the_peer_is_judged_on_its_address_behind_a_proxy(start_daemon):
    daemon = start_daemon(smtp_proxy="127.0.0.1", smtp_xclient="192.0.2.1")
    with Proxied(daemon.port, from_("192.0.2.1")) as client:
        client.reply()
        assert OFFER in client.ehlo().lines
        assert client.command("XCLIENT ADDR=203.0.113.1").raw == GREETING
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250
    facts = EmbeddedInbox().last(daemon)["connection"]
    assert (facts["remote-ip"], facts["local-ip"]) == ("203.0.113.1", "198.51.100.2")
    assert facts["proxy"]["remote-ip"] == "127.0.0.1"
    with Proxied(daemon.port, from_("192.0.2.2")) as client:
        client.reply()
        assert client.command("XCLIENT ADDR=203.0.113.1").raw == replies.XCLIENT_DENIED.wire


def test_memory_is_the_named_clients(start_daemon):
    """Two clients behind one proxy are two in the log, too."""
    daemon = start_daemon(smtp_xclient=PEER, log_format="json")
    with Wire(daemon.port) as client:
        client.command("XCLIENT ADDR=192.0.2.77 LOGIN=u")
        client.ehlo()
        assert client.command("FOO").code == 500
    found = daemon.wait_for(re.compile(r"refused: 500 5\.5\.2.*"))
    assert "192.0.2.77" in found[0]
