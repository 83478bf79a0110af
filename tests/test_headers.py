"""headers: what the table of x-mq-* headers promises (spec/json.md), rule by rule.

tests/test_payload.py compares arbitrary messages with the slow model. Here each rule is written out
by hand, so that a model with the same mistake does not hide it.
"""

import json
from typing import Any

import pytest

from fastsmtp.headers import MAX_LIFTED, MAX_LIFTED_OCTETS, RESERVED, SCALARS
from tests.oracle import message
from tests.test_payload import PLAIN, body, compose, no_key_twice

REST = b"Subject: s\r\n\r\nbody\r\n"

OF_THE_SERVER = sorted(message.RESERVED - {"envelope"})


def published(headers: str | bytes, envelope: message.Envelope = PLAIN) -> dict[str, Any]:
    """The object for a message with these header lines; with no key twice, however deep."""
    block = headers.encode() if isinstance(headers, str) else headers
    outgoing, _ = compose(block + REST, envelope)
    assert outgoing != (552, "5.3.4")
    found: dict[str, Any] = json.loads(body(outgoing[0]), object_pairs_hook=no_key_twice)
    return found


def counted(headers: str) -> tuple[int, int]:
    """How many headers are counted as malformed, and as the server's."""
    _, metrics = compose(headers.encode() + REST)
    return metrics.headers_malformed, metrics.headers_reserved


def own(found: dict[str, Any]) -> dict[str, Any]:
    """The properties that come from headers."""
    rest = ("message-id", "received", "hostname", "envelope", "recipient", "connection", "mime")
    return {name: value for name, value in found.items() if name not in (*rest, "ips")}


# "A typed value that does not parse gives no property: the header stays in the MIME, is counted
# and logged. Mail is not lost over it, and a property never has another type than this page says."

MALFORMED = [
    *(f"X-MQ-Priority: {value}" for value in ("high", "", "1.0", "0x1", "1_0", "٣", "+", "1 2")),
    "X-MQ-Priority: 9223372036854775808",
    "X-MQ-MaxAttempts: -9223372036854775809",
    f"X-MQ-MaxAttempts: {'9' * 5000}",
    "X-MQ-Smarthost-Port: smtp",
    "X-MQ-Retries: ",
    "X-MQ-Retries: 300,,600",
    "X-MQ-Retries: 300,9223372036854775808",
    "X-MQ-InlineCSS: maybe",
    "X-MQ-KeepMIME: 2",
    "X-MQ-Delayed: tomorrow",
    "X-MQ-Delayed: 2026-02-29 00:00:00",
    "X-MQ-Delayed: 2026-01-01 24:00:00",
    "X-MQ-Delayed: 2026-1-1 0:0:0",
    "X-MQ-MaxDeliverTime: 0000-01-01 00:00:00",
    "X-MQ-MaxDeliverTime: 2026-01-01T00:00:00",
    "x-mq-envelope : no\r\n mailbox",
]


@pytest.mark.parametrize("header", MALFORMED, ids=lambda header: header[:40])
def test_a_malformed_value_gives_no_property_and_stays_in_the_mime(
    header: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = published(f"To: x\r\n{header}\r\nX-MQ-Tag: t\r\n")
    assert own(found) == {"tags": ["t"]}  # nor an empty object, "smarthost": {}
    assert found["envelope"] == PLAIN.sender
    assert found["mime"] == f"To: x\r\n{header}\r\n{REST.decode()}"
    assert len(caplog.records) == 1
    assert counted(header + "\r\n") == (1, 0)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Priority: 9223372036854775807", 2**63 - 1),
        ("Priority: -9223372036854775808", -(2**63)),
        ("MaxAttempts: +007", 7),
        (f"MaxAttempts: {'0' * 5000}7", 7),
        ("Priority: -0", 0),
        ("Retries: 300, 600 ,3600", [300, 600, 3600]),
        ("InlineCSS: YES", True),
        ("KeepMIME: oFF", False),
        ("MaxDeliverTime: 2028-02-29 23:59:59", "2028-02-29 23:59:59"),
        ("Pool:", ""),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_parses_has_the_type_of_its_header(header: str, value: object) -> None:
    found = published(f"X-MQ-{header}\r\n")
    assert own(found) == {header.partition(":")[0].lower(): value}
    assert repr(own(found)) == repr({header.partition(":")[0].lower(): value})  # True is not 1
    assert found["mime"] == REST.decode()


def test_malformed_headers_are_not_lifted_so_they_do_not_count_against_the_limit() -> None:
    malformed = b"X-MQ-Priority: x\r\n" * (MAX_LIFTED + 500)
    found = published(malformed + b"X-MQ-Tag: t\r\n" * MAX_LIFTED)
    assert len(found["tags"]) == MAX_LIFTED
    assert found["mime"].encode() == malformed + REST


# "A known scalar header given twice: the last one counts." "Every object has each key once."


@pytest.mark.parametrize(
    ("headers", "properties"),
    [
        ("Pool: a|Pool: b", {"pool": "b"}),
        ("Priority: 1|Priority: 2", {"priority": 2}),
        ("Priority: 1|Priority: x", {"priority": 1}),
        ("Priority: x|Priority: 1", {"priority": 1}),
        (
            "Success-Queue: a|success-queue: b|DSN-Queue: c",
            {"queues": {"success": "b", "dsn": "c"}},
        ),
        ("Smarthost-Name: a|Smarthost-Hostname: b", {"smarthost": {"hostname": "b"}}),
        ("Smarthost-Hostname: a|Smarthost-Name: b", {"smarthost": {"hostname": "b"}}),
        ("Smarthost-Port: x|Smarthost-Port: 25", {"smarthost": {"port": 25}}),
        ("DSN-Ret: full|DSN-Ret: hdrs", {"dsn": {"ret": "HDRS"}}),
        ("Colour: b|COLOUR: a|colour: b", {"colour": ["b", "a", "b"]}),
        ("Colour: a", {"colour": "a"}),
        ("Tag: a|Tag: a", {"tags": ["a", "a"]}),
    ],
)
def test_repeated_headers(headers: str, properties: dict[str, Any]) -> None:
    lines = "".join(f"X-MQ-{header}\r\n" for header in headers.split("|"))
    assert own(published(lines)) == properties


def test_the_envelope_is_the_last_one_that_is_a_mailbox() -> None:
    lines = "X-MQ-Envelope: a@x.example\r\nX-MQ-Envelope: <b@x.example>\r\nX-MQ-Envelope: no\r\n"
    found = published(lines)
    assert (found["envelope"], found["mime"]) == (
        "b@x.example",
        "X-MQ-Envelope: no\r\n" + REST.decode(),
    )
    assert published("X-MQ-Envelope:\r\n")["envelope"] == ""
    assert published("X-MQ-Envelope: <>\r\n")["envelope"] == ""


# "MailerQ up to 5.3 reads the one, later ones the other"


def test_a_delayed_message_says_so_twice() -> None:
    first, last = "2026-11-23 08:00:00", "2026-11-24 09:30:00"
    found = published(f"X-MQ-Delayed: {first}\r\nX-MQ-Delayed: {last}\r\n")
    assert own(found) == {"delayed": last, "nextattempt": {"time": last}}
    found = published(f"X-MQ-Delayed: {first}\r\nX-MQ-Delayed: soon\r\n")
    assert own(found) == {"delayed": first, "nextattempt": {"time": first}}


# "dsn.notify, … ; over the SMTP parameter of the same name"


def test_dsn_headers_stand_over_the_smtp_parameters_of_the_same_name() -> None:
    asked = message.Envelope(
        "s@x.example",
        [message.Recipient("r@x.example", notify="NEVER", orcpt="rfc822;o@x.example")],
        ret="FULL",
        envid="smtp",
    )
    parameters = {"notify": "NEVER", "ret": "FULL", "orcpt": "rfc822;o@x.example", "envid": "smtp"}
    assert published("", asked)["dsn"] == parameters
    headers = "X-MQ-DSN-Notify: success\r\nX-MQ-DSN-EnvID: header\r\n"
    assert published(headers, asked)["dsn"] == parameters | {"notify": "SUCCESS", "envid": "header"}
    headers = "X-MQ-DSN-Envelope: reports@x.example\r\nX-MQ-DSN-MTA: Mx.x.example\r\n"
    more = {"envelope": "reports@x.example", "mta": "Mx.x.example"}
    assert published(headers, asked)["dsn"] == parameters | more
    assert published(headers)["dsn"] == more


# "The empty name, … as NAME are the server's (the headers of the table aside): such a header is
# left in the MIME and counted."


def test_the_names_of_the_server_are_those_of_the_contract() -> None:
    assert sorted(RESERVED) == sorted(["", *OF_THE_SERVER])
    assert not RESERVED & SCALARS.keys()


@pytest.mark.parametrize("name", ["", *OF_THE_SERVER])
def test_a_name_of_the_server_is_left_in_the_mime_and_counted(name: str) -> None:
    plain = published("")
    line = f"X-MQ-{name.upper()}\t: forged\r\n"
    found = published(line)
    assert found.keys() == plain.keys()
    assert {key: found[key] for key in found.keys() - {"message-id", "received", "mime"}} == {
        key: plain[key] for key in plain.keys() - {"message-id", "received", "mime"}
    }
    assert found["mime"] == line + REST.decode()
    assert counted(line) == (0, 1)


# "An 8-bit header value that is not UTF-8 is decoded as Latin-1."


def test_a_value_that_is_not_utf8_is_latin_1() -> None:
    found = published(
        b"X-MQ-Pool: caf\xe9\r\nX-MQ-Tag: caf\xc3\xa9\r\nX-MQ-Envelope: \xe9@x.example\r\n"
    )
    assert (found["pool"], found["tags"], found["envelope"]) == ("café", ["café"], "é@x.example")
    assert found["mime"] == REST.decode()


# "At most 1,000 headers and 256 KiB are lifted; more: 552 5.3.4."


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("name", [b"X-MQ-Tag", b"X-MQ-Pool", b"X-MQ-Retries"])
def test_256_kib_of_headers_are_lifted_and_no_more(name: bytes, more: int) -> None:
    half = name + b": " + b"1" * 10 + b"\r\n"
    room = MAX_LIFTED_OCTETS - len(half) - len(name + b": \r\n") + more
    block = half + name + b": " + (b"1," * room)[: room - 1] + b"2\r\n"
    outgoing, _ = compose(block + REST)
    assert (outgoing == (552, "5.3.4")) == bool(more)
