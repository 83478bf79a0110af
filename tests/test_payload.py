"""payload and headers: the JSON of every message is the one that the slow model makes."""

import base64
import itertools
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsmtp.addresses import plain_address
from fastsmtp.availability import Availability
from fastsmtp.envelope import Envelope, Recipient
from fastsmtp.headers import RefusedError
from fastsmtp.metrics import Metrics
from fastsmtp.payload import SLICE, Composer
from fastsmtp.peer import Peer, Proxy
from fastsmtp.route import Route
from fastsmtp.settings import Settings
from tests.oracle import corpus, message, strategies

PLAIN = message.Envelope("s@example.com", [message.Recipient("r@example.org")])

BOTH = pytest.mark.parametrize("steps", [False, True], ids=["at once", "in steps"])


def compose(
    content,
    envelope=PLAIN,
    settings=None,
    peer=None,
    availability=None,
    pieces=None,
    steps=False,
    **more,
):
    """(Outgoing, Metrics), or the refusal; at once, or in steps as a large message is."""
    settings = settings or message.Settings()
    peer = peer or message.Peer()
    made = Settings(
        smtp_hostname=settings.hostname,
        smtp_extract="true" if settings.extract else "false",
        json_binary=settings.json_binary,
        smtp_default_ips=tuple(settings.default_ips),
        smtp_mappable_ips=tuple(ip_network(each) for each in settings.mappable_ips),
        smtp_unmappable_ips=tuple(ip_network(each) for each in settings.unmappable_ips),
        **more,
    )
    metrics = Metrics()
    composer = Composer(made, availability or Availability(1 << 40), metrics)
    given = our_envelope(envelope), our_peer(peer), list(pieces or [content])
    try:
        return (finished(composer.steps(*given)) if steps else composer.compose(*given)), metrics
    except RefusedError as error:
        return (error.reply.code, error.reply.enhanced), metrics


def finished(steps):
    """The value of a generator."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def our_envelope(envelope):
    made = Envelope(
        envelope.sender, smtputf8=envelope.smtputf8, ret=envelope.ret, envid=envelope.envid
    )
    made.recipients += [Recipient(r.mailbox, r.notify, r.orcpt) for r in envelope.recipients]
    return made


def our_peer(peer):
    made = Peer(
        plain_address(peer.local_ip), peer.local_port,
        plain_address(peer.remote_ip), peer.remote_port,
    )  # fmt: skip
    made.secure, made.helo, made.user = peer.secure, peer.helo, peer.user or ""
    made.tls, made.cipher = peer.tls or "", peer.cipher or ""
    if peer.proxy:
        made.proxy = Proxy(peer.proxy["remote-ip"], peer.proxy["version"])
        made.proxy.unique_id = peer.proxy.get("unique-id", "")
        made.proxy.client_verified = peer.proxy.get("client-verified")
    return made


def body(outgoing):
    return bytes(outgoing)


def no_key_twice(pairs):
    made = dict(pairs)
    assert len(made) == len(pairs)
    return made


def check(content, envelope=PLAIN, settings=None, peer=None, pieces=None):
    """What is composed is what the model says, but for the two properties nobody foretells."""
    settings, peer = settings or message.Settings(), peer or message.Peer()
    expected = message.published(content, envelope, settings, peer)
    for steps in (False, True):
        agree(expected, *compose(content, envelope, settings, peer, pieces=pieces, steps=steps))


def agree(expected, outgoing, metrics):
    """What was composed is what the model expects."""
    if expected.refusal:
        assert outgoing == expected.refusal
        return
    assert (metrics.headers_malformed, metrics.headers_reserved) == (
        expected.malformed,
        expected.reserved,
    )
    for one, told in zip(outgoing, expected.objects, strict=True):
        found = json.loads(body(one), object_pairs_hook=no_key_twice)
        assert list(found)[-1] == "mime"
        assert found.pop("message-id") == one.id
        received = datetime.strptime(found.pop("received"), "%Y-%m-%d %H:%M:%S")
        assert abs(received.replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=1)
        assert found == told
        assert one.priority == expected.priority
        assert one.encoding == told.get("mime-encoding", "")
        assert one.size == len(body(one))


@pytest.mark.parametrize("content", [c for _, c in corpus.contents()], ids=dict(corpus.contents()))
def test_the_corpus(content):
    check(content)


@pytest.mark.skipif(not corpus.python_messages(), reason=corpus.NO_PYTHON_MESSAGES)
@pytest.mark.parametrize(("name", "content"), corpus.python_messages())
def test_the_messages_of_cpython(name, content):
    check(content)


@given(strategies.messages(), st.booleans(), st.sampled_from(["base64", "reject"]))
def test_messages_agree_with_the_model(content, extract, binary):
    check(content, settings=message.Settings(extract=extract, json_binary=binary))


@given(strategies.messages(), st.data())
def test_pieces_make_no_difference(content, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=4)))
    edges = [0, *cuts, len(content)]
    check(content, pieces=[content[a:b] for a, b in itertools.pairwise(edges)])


@pytest.mark.parametrize("mailbox", ["a\u202eb@example.org", "a@\x85b", "a@[999.1.1.1]"])
def test_an_x_mq_envelope_that_is_no_address_stays_in_the_mime(mailbox):
    content = f"X-MQ-Envelope: {mailbox}\r\n\r\nHi\r\n".encode()
    check(content)
    (one,), _ = compose(content)
    told = json.loads(body(one))
    assert (told["envelope"], told["mime"]) == (PLAIN.sender, content.decode())


@pytest.mark.parametrize("last", [b"", b"\xc3", b"\xff", b"\xe2\x82\xac"])
def test_a_large_message_is_composed_in_steps(last):
    content = b"Subject: x\r\n\r\n" + "é€😀\r\n".encode() * SLICE + last
    pieces = [content[i : i + 100_003] for i in range(0, len(content), 100_003)]
    check(content, pieces=list(pieces))
    steps = Composer(Settings(smtp_hostname="mx"), Availability(1 << 40), Metrics()).steps(
        our_envelope(PLAIN), our_peer(message.Peer()), pieces
    )
    assert sum(1 for _ in steps) > len(content) / SLICE - 2


def test_a_huge_header_block_is_found_in_pieces():
    content = b"X-MQ-Tag: 1\r\n" + b"A: b\r\n" * 200_000 + b"X-MQ-Tag: 2\r\n\r\nX-MQ-Tag: 3\r\n"
    check(content, pieces=[content[i : i + 65_536] for i in range(0, len(content), 65_536)])


def test_every_recipient_has_its_own_and_shares_the_rest():
    envelope = message.Envelope(
        "",
        [
            message.Recipient("a@example.org", notify="SUCCESS,DELAY", orcpt="rfc822;o@example"),
            message.Recipient("b@example.org", notify="NEVER"),
            message.Recipient("a@example.org"),
        ],
        ret="HDRS",
        envid="q+1",
        smtputf8=True,
    )
    check(b"X-MQ-DSN-Ret: full\r\n\r\n", envelope)
    outgoing, _ = compose(b"x", envelope)
    assert len({one.id for one in outgoing}) == 3
    assert all(re.fullmatch("[A-Z0-9]+", one.id) for one in outgoing)
    assert len({id(one.tail) for one in outgoing}) == 1


DSN = [None, "SUCCESS"], [None, "rfc822;o@example"], [None, "HDRS"], [None, "q+1"]
HEADERS = [b"", b"notify: never", b"ret: full", b"orcpt: x", b"envid: y", b"mta: m"]


@pytest.mark.parametrize("headers", [*itertools.combinations(HEADERS[1:], 2), HEADERS[:1]])
def test_dsn_by_parameters_and_headers(headers):
    """Whatever is shared, and whatever headers override, it is one object with each key once."""
    content = b"".join(b"X-MQ-DSN-%b\r\n" % each for each in headers if each) + b"\r\n"
    for ret, envid in itertools.product(*DSN[2:]):
        recipients = [
            message.Recipient("r@example.org", *each) for each in itertools.product(*DSN[:2])
        ]
        check(content, message.Envelope("s@example.com", recipients, ret=ret, envid=envid))


@BOTH
def test_a_large_dsn_is_kept_once(steps):
    """250 KB of X-MQ-DSN-* to 1,000 recipients were 250 MB: each recipient had them of its own."""
    recipients = [message.Recipient(f"r{n}@example.org", notify="NEVER") for n in range(1000)]
    envelope = message.Envelope("s@example.com", recipients)
    content = b"X-MQ-DSN-Envid: " + b"x" * 250_000 + b"\r\n\r\nHi\r\n"
    outgoing, _ = compose(content, envelope, steps=steps)
    assert max(len(one.prefix) for one in outgoing) < 200
    assert outgoing[0].tail.held < 600_000
    assert json.loads(body(outgoing[999]))["dsn"] == {"notify": "NEVER", "envid": "x" * 250_000}


LOCAL = ["192.0.2.10", "::ffff:192.0.2.10", "2001:db8::1"]
RANGES = [[], ["192.0.2.0/24"], ["192.0.2.11"], ["2001:db8::/32"]]


@pytest.mark.parametrize("header", [b"", b"X-MQ-IP: 9.9.9.9\r\n", b"X-MQ-Pool: p\r\n"])
@pytest.mark.parametrize("proxy", [None, {"remote-ip": "10.0.0.1", "version": 2}])
@pytest.mark.parametrize("default", [[], ["203.0.113.1"]])
@pytest.mark.parametrize("mappable", RANGES)
@pytest.mark.parametrize("unmappable", RANGES)
def test_ips_by_every_rule(header, proxy, default, mappable, unmappable):
    settings = message.Settings(
        default_ips=default, mappable_ips=mappable, unmappable_ips=unmappable
    )
    for local in LOCAL:
        check(header + b"\r\n", settings=settings, peer=message.Peer(local_ip=local, proxy=proxy))


def test_the_connection_as_it_is():
    peer = message.Peer(
        local_ip="::ffff:192.0.2.1", remote_ip="2001:DB8:0::7", secure=True, helo="ä\0<b>",
        user="me", tls="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384",
        proxy={"remote-ip": "10.0.0.1", "version": 2, "unique-id": "u", "client-verified": False},
    )  # fmt: skip
    check(b"x", peer=peer)


@BOTH
def test_content_that_would_not_fit_as_text_is_base64(steps):
    availability = Availability(1 << 40)
    availability.limit_body(200_000)
    nuls = b"\0" * 60_000
    (outgoing,), _ = compose(nuls, availability=availability, steps=steps)
    assert outgoing.encoding == "base64"
    assert base64.b64decode(json.loads(body(outgoing))["mime"]) == nuls
    (outgoing,), _ = compose(b"x" * 60_000, availability=availability, steps=steps)
    assert outgoing.encoding == ""


@BOTH
def test_text_over_half_of_the_memory_is_base64(steps):
    """So says docs/json.md of mime-encoding: half of smtp-maxmemory."""
    availability = Availability(1 << 40, maxmemory=200_000)
    for content, encoding in ((b"\0" * 20_000, "base64"), (b"\0" * 16_000, "")):
        (outgoing,), _ = compose(content, availability=availability, steps=steps)
        assert outgoing.encoding == encoding
        assert outgoing.size == len(body(outgoing)) < 110_000
        assert outgoing.tail.held < len(content) + 1000  # the text is not made yet


@BOTH
def test_where_base64_is_not_allowed_text_that_does_not_fit_is_too_large(steps):
    availability = Availability(1 << 40)
    availability.limit_body(200_000)
    settings = message.Settings(json_binary="reject")
    refused, _ = compose(b"\0" * 60_000, settings=settings, availability=availability, steps=steps)
    assert refused == (552, "5.3.4")
    refused, _ = compose(
        b"\xff" * 60_000, settings=settings, availability=availability, steps=steps
    )
    assert refused == (554, "5.6.3")


@pytest.mark.parametrize(("priority", "amqp"), [("0", 0), ("255", 255), ("256", None), ("x", None)])
def test_priority_is_amqps_where_it_can_be(priority, amqp):
    (outgoing,), _ = compose(f"X-MQ-Priority: {priority}\r\n\r\n".encode())
    assert outgoing.priority == amqp


@pytest.mark.parametrize(
    ("trusted", "user", "lifted"), [(False, "", False), (True, "", True), (False, "me", True)]
)
def test_only_the_trusted_are_lifted_where_that_is_set(trusted, user, lifted):
    content = b"X-MQ-Tag: 1\r\nReceived: x\r\n\r\nbody"
    peer = our_peer(message.Peer())
    peer.trusted, peer.user = trusted, user
    composer = Composer(Settings(smtp_extract="trusted"), Availability(1 << 40), Metrics())
    (outgoing,) = composer.compose(our_envelope(PLAIN), peer, [content])
    found = json.loads(body(outgoing))
    assert found.get("tags") == (["1"] if lifted else None)
    assert found["mime"].encode() == (content[13:] if lifted else content)


def test_a_received_field_may_be_prepended():
    peer = replace(message.Peer(), helo="evil\r\nX: (y)", remote_ip="2001:db8::7", user="u")
    content = b"X-MQ-Tag: 1\r\nReceived: x\r\n\r\n\xc3\xa4"
    (outgoing,), _ = compose(content, peer=peer, smtp_received=True)
    mime = json.loads(body(outgoing))["mime"]
    field, date, rest = re.fullmatch(
        r"(Received: .*?);\r\n\t(.*?)\r\n(Received: x\r\n\r\nä)", mime, re.DOTALL
    ).groups()
    assert field == (
        "Received: from [IPv6:2001:db8::7] ([IPv6:2001:db8::7])\r\n"
        "\tby mx.example.com (fastsmtp) with ESMTPA"
    )
    assert abs(parsedate_to_datetime(date) - datetime.now(UTC)) < timedelta(minutes=1)
    assert rest
    hundred = b"Received: x\r\n" * 100
    assert compose(hundred, smtp_received=True)[0] != (554, "5.4.6")


def test_what_does_not_parse_is_logged_on_one_line(caplog):
    compose(b"X-MQ-Priority: hi\x1b[31m\r\n there\r\n\r\n")
    (record,) = caplog.records
    assert record.getMessage() == "header X-MQ-priority does not parse"
    assert record.value == "hi?[31m there"


@pytest.mark.parametrize("name", [b"Priority", b"Envelope"])
def test_a_message_gets_few_lines_in_the_log(caplog, name):
    _, metrics = compose((b"X-MQ-%b: no\r\n" % name) * 900 + b"\r\n")
    assert metrics.headers_malformed == 900
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"header X-MQ-{name.decode().lower()} does not parse"] * 3 + [
        "more X-MQ headers of this message do not parse"
    ]


def test_too_large_headers_are_refused():
    big = b"X-MQ-A: " + b"x" * (256 * 1024) + b"\r\n\r\n"
    assert compose(big)[0] == (552, "5.3.4")


@BOTH
def test_a_route_is_chosen_per_recipient(steps):
    """By client, envelope, recipient and lifted headers: here a queue per user of a domain."""

    def choose(peer, envelope, recipient, lifted):
        if recipient.mailbox.endswith("@example.org"):
            return Route.of("", f"{peer.user}/{recipient.mailbox}/{lifted.properties['priority']}")
        return None

    peer = our_peer(message.Peer())
    peer.user = "me"
    settings = Settings(smtp_extract="true")
    composer = Composer(settings, Availability(1 << 40), Metrics(), route=choose)
    envelope = Envelope("s@example.com")
    envelope.recipients += [Recipient(f"{n}@example.{top}") for n in "ab" for top in ("org", "com")]
    given = envelope, peer, [b"X-MQ-Priority: 7\r\n\r\nHi\r\n"]
    outgoing = finished(composer.steps(*given)) if steps else composer.compose(*given)
    found = [each.route for each in outgoing]
    assert found == [
        Route.of("", "me/a@example.org/7"),
        None,
        Route.of("", "me/b@example.org/7"),
        None,
    ]


def test_without_a_choice_there_is_no_route():
    outgoing, _ = compose(b"\r\nHi\r\n")
    assert [each.route for each in outgoing] == [None]
