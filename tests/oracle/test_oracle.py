"""The model itself: examples by hand, and that both ways of the wire are each other's inverse."""

import pytest
from hypothesis import given

from tests.oracle import commands, content, corpus, message, strategies

ENVELOPE = message.Envelope("s@example.org", [message.Recipient("r@example.net")])


def published(text: bytes, **settings):
    return message.published(text, ENVELOPE, message.Settings(**settings), message.Peer())


@pytest.mark.parametrize(
    ("wire", "expected", "used"),
    [
        (b".\r\n", b"", 3),
        (b".\r\nQUIT\r\n", b"", 3),
        (b"\r\n.\r\n", b"\r\n", 5),
        (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n", 10),
        (b"..\r\n.\r\n", b".\r\n", 7),
        (b"a\n.\r\nb\r\n.\r\n", b"a\r\n.\r\nb\r\n", 11),
        (b"a\r\n.\nb\r\n.\r\n", b"a\r\n\r\nb\r\n", 11),
        (b"a\r.\r\r\n.\r\n", b"a . \r\n", 9),
    ],
)
def test_end_of_data(wire, expected, used):
    seen = content.by_data(wire)
    assert (seen.content, seen.used) == (expected, used)


@pytest.mark.parametrize("wire", [b"", b".", b".\r", b".\n", b"\n.\n", b"a\r\n.\n", b"\r.\r\n"])
def test_no_end_of_data(wire):
    assert content.by_data(wire) is None


def test_modes_differ_only_in_bare_newlines():
    wire = b"a\nb\rc\r\n.\r\n"
    assert content.by_data(wire, "normalize").content == b"a\r\nb c\r\n"
    assert content.by_data(wire, "keep").content == b"a\nb\rc\r\n"
    assert content.by_data(wire, "reject").refusal == (550, "5.6.0")
    assert content.by_data(b"a\r\n.\r\n", "reject").refusal is None
    assert {content.by_data(wire, mode).size for mode in content.MODES} == {7}


def test_bdat_is_not_unstuffed_and_joins_chunks():
    assert content.by_bdat([b"..\r", b"\n."]).content == b"..\r\n."


@given(strategies.lines())
def test_what_is_sent_by_data_arrives(text):
    seen = content.by_data(content.data(text) + b"QUIT\r\n", "keep")
    assert seen.content == text
    assert seen.used == len(content.data(text))


@given(strategies.messages())
def test_header_and_rest_are_the_whole(text):
    fields, rest = message.split_header(text)
    assert b"".join(raw for _, _, raw in fields) + rest == text


def test_the_corpus_is_the_same_twice_and_its_names_are_its_own():
    contents = list(corpus.contents())
    assert contents == list(corpus.contents())
    assert len({name for name, _ in contents}) == len(contents)


def test_lifting_by_hand():
    text = (
        b"X-MQ-Tag: a\r\n b\r\nSubject: s\r\nx-mq-ENVELOPE : <n@example.org>\r\n"
        b"X-MQ-Priority: 3\r\nX-MQ-Foo: 1\r\nX-MQ-Foo: 2\r\nX-MQ-Mime: m\r\n\r\nX-MQ-Tag: c\r\n"
    )
    result = published(text)
    one = result.objects[0]
    assert one["tags"] == ["a b"]
    assert one["envelope"] == "n@example.org"
    assert one["foo"] == ["1", "2"]
    assert one["mime"] == "Subject: s\r\nX-MQ-Mime: m\r\n\r\nX-MQ-Tag: c\r\n"
    assert one["ips"] == ["127.0.0.1"]
    assert (result.priority, result.malformed, result.reserved) == (3, 0, 1)
    assert list(one)[-1] == "mime"


def test_refusals_by_hand():
    by_name = dict(corpus.contents())
    assert published(by_name["lifted-1000"]).refusal is None
    assert published(by_name["lifted-1001"]).refusal == (552, "5.3.4")
    assert published(by_name["lifted-256k-and-0"]).refusal is None
    assert published(by_name["lifted-256k-and-1"]).refusal == (552, "5.3.4")
    assert published(by_name["received-100"]).refusal is None
    assert published(by_name["received-101"]).refusal == (554, "5.4.6")
    assert published(b"\xff\r\n", json_binary="reject").refusal == (554, "5.6.3")
    assert published(b"\xff\r\n").objects[0]["mime-encoding"] == "base64"


@pytest.mark.parametrize(
    ("line", "mailbox", "params"),
    [
        (b"MAIL FROM:<>", "", {}),
        (b"mail from: a@example.org size=5 ", "a@example.org", {"size": 5}),
        (b'MAIL FROM:<"a> b"@c>  SMTPUTF8', '"a> b"@c', {"smtputf8": True}),
        (b"MAIL FROM:<@x,@y:a@[1.2.3.4]> ENVID=+2bx", "a@[1.2.3.4]", {"envid": "+x"}),
        ("MAIL FROM:<é@ü.example> SMTPUTF8".encode(), "é@ü.example", {"smtputf8": True}),
    ],
)
def test_good_mail_lines(line, mailbox, params):
    assert commands.mail(line) == commands.Line(mailbox, params)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"MAIL", (501, "5.5.4")),
        (b"MAIL FROM:", (501, "5.5.4")),
        (b"MAIL FROM :<a@b>", (501, "5.5.4")),
        (b"MAIL FROM:a", (553, "5.1.7")),
        (b"MAIL FROM:<Postmaster>", (553, "5.1.7")),
        (b"MAIL FROM:<a@b> SIZE=1 size=2", (501, "5.5.4")),
        (b"MAIL FROM:<a@b> FOO=1", (555, "5.5.4")),
        (b"MAIL FROM:<a@b> BODY=BINARYMIME", (501, "5.5.4")),
        ("MAIL FROM:<é@b>".encode(), (553, "5.6.7")),
        (b"MAIL FROM:<\xe9@b> SMTPUTF8", (553, "5.6.7")),
        (b"MAIL FROM:<a\0@b>", (500, "5.5.2")),
    ],
)
def test_bad_mail_lines(line, error):
    assert commands.mail(line).errors == {error}


def test_rcpt_lines():
    assert commands.rcpt(b"RCPT TO:<pOstmaster>").mailbox == "pOstmaster"
    assert commands.rcpt(b"RCPT TO:<>").errors == {(553, "5.1.3")}
    good = commands.rcpt(b"RCPT TO:<a@b> NOTIFY=success,delay ORCPT=rfc822;x+40y")
    assert good.params == {"notify": "SUCCESS,DELAY", "orcpt": "rfc822;x@y"}
    assert commands.rcpt(b"RCPT TO:<a@b> NOTIFY=NEVER,DELAY").errors == {(501, "5.5.4")}
    assert commands.rcpt("RCPT TO:<a@b> ORCPT=utf-8;é".encode()).errors == {(501, "5.5.4")}
    assert commands.rcpt("RCPT TO:<a@b> ORCPT=utf-8;é".encode(), True).params["orcpt"] == "utf-8;é"


@given(strategies.mail_lines())
def test_a_mail_line_is_good_or_has_errors(line):
    seen = commands.mail(line)
    assert seen.errors or seen.mailbox or b"<>" in line
    assert not (seen.errors and seen.mailbox)
