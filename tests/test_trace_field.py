"""trace_field: a Received field that no HELO can forge."""

import re

import pytest

from fastsmtp.envelope import Envelope
from fastsmtp.peer import Peer
from fastsmtp.trace_field import received_field
from tests.support.wire import Wire

FIELD = re.compile(
    r"Received: from (\S+) \((\[[^ \]]+\])\)\r\n"
    r"\tby mx\.example\.com \(fastsmtp\) with (\w+);\r\n"
    r"\t\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000\r\n"
)


def made(helo, smtputf8=False, ip="192.0.2.1"):
    peer = Peer("127.0.0.1", 25, ip, 4000)
    peer.helo = helo
    envelope = Envelope("a@example.com")
    envelope.smtputf8 = smtputf8
    found = FIELD.fullmatch(received_field("mx.example.com", envelope, peer, 0).decode())
    assert found, helo
    return found.groups()


@pytest.mark.parametrize(
    "helo",
    ["client.example.net", "localhost", "MY_PC", "a.b.", "[192.0.2.7]", "[IPv6:2001:db8::1]"],
)
def test_a_name_or_an_address_stays(helo):
    assert made(helo) == (helo, "[192.0.2.1]", "ESMTP")


@pytest.mark.parametrize(
    "helo",
    [
        "x (real.host [198.51.100.1]) by",
        "x ([198.51.100.1])\tby other.example with ESMTPS;",
        "x(y)",
        "a by b",
        "a;b",
        'a"b',
        "a\\b",
        "a..b",
        "",
        "[1.2.3.4] by",
        "<a@b>",
        "a\u00a0by",
        "a\u2028by",
        "a\u202eyb",
        "b\u00fccher.example",
    ],
)
def test_anything_else_gives_way_to_the_clients_address(helo):
    assert made(helo) == ("[192.0.2.1]", "[192.0.2.1]", "ESMTP")


def test_a_name_beyond_ascii_needs_smtputf8():
    assert made("b\u00fccher.example", smtputf8=True)[0] == "b\u00fccher.example"
    assert made("b\u00fccher by", smtputf8=True)[0] == "[192.0.2.1]"


def test_an_ipv6_address_is_tagged():
    assert made("x y", ip="2001:db8::1")[:2] == ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]")


def test_a_client_that_says_our_words(start_daemon):
    daemon = start_daemon(smtp_received=True)
    with Wire(daemon.port) as client:
        assert client.command("HELO x (real.host [198.51.100.1]) by").code == 250
        assert client.mail(b"Subject: hi\r\n\r\n").code == 250
    mime = daemon.queue("show", "last", "--mime")
    assert mime.startswith("Received: from [127.0.0.1] ([127.0.0.1])\r\n\tby mx.example.com (fasts")
    assert "real.host" not in mime
