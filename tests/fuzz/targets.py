"""What must hold for any octets: one function a target, an AssertionError where it does not.

How an input is split is drawn from the input itself, so that a failure repeats.
"""

import base64
import contextlib
import random
import re
import zlib
from collections.abc import Callable, Iterator

import orjson

from fastsmtp import _content, _parser, _proxy, replies, xclient
from fastsmtp._escape import Measure
from fastsmtp._session import Rules, Session
from fastsmtp._tail import Reader, Tail
from fastsmtp.availability import Availability
from fastsmtp.metrics import Metrics
from fastsmtp.peer import Peer
from fastsmtp.questions import Introduction
from fastsmtp.refusals import Refusals
from fastsmtp.settings import Settings
from fastsmtp.sinks.rabbitmq._confirms import Confirms
from tests.oracle import commands, message
from tests.oracle import confirms as confirms_oracle
from tests.oracle import content as oracle

MODES = {"normalize": _content.NORMALIZE, "reject": _content.REJECT, "keep": _content.KEEP}
TEXT_OF = bytes.decode
LIMIT = 2000  # octets of content, small enough to be passed
REPLY_LINE = re.compile(rb"[2-5][0-9]{2}[ -][\x20-\x7e\x80-\xff]*\r\n")


def splits(data: bytes) -> Iterator[bytes]:
    """`data` in parts, mostly small ones."""
    dice = random.Random(zlib.crc32(data))
    while data:
        size = dice.choice((1, 1, 2, 3, 7, 40, 1000))
        yield data[:size]
        data = data[size:]


def proxy(data: bytes) -> None:
    """The header is the same whole and in parts, and no octet behind it is asked for."""
    whole = _proxy_outcome(data)
    seen = b""
    for part in splits(data):
        seen += part
        if _proxy_outcome(seen) != "more":
            break
    assert _proxy_outcome(seen) == whole
    if isinstance(whole, tuple):
        size = whole[0]
        assert all(size >= end + _proxy.parse(data[:end]) > end for end in range(size))


def _proxy_outcome(data: bytes) -> str | tuple:
    try:
        found = _proxy.parse(data)
    except _proxy.ProxyError:
        return "error"
    if isinstance(found, int):
        return "more"
    return (
        found.size, found.version, found.command, found.family,
        found.source_ip, found.source_port, found.destination_ip, found.destination_port,
        found.unique_id, found.authority, found.alpn, found.secure, found.tls,
        found.client_cn, found.client_verified,
    )  # fmt: skip


def parser(data: bytes) -> None:
    """MAIL, RCPT, BDAT and mailboxes: a value or CommandError, as the oracle says."""
    line = data.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
    verb, argument = _parser.split_command(line)
    assert b" " not in verb
    for mail in (b"MAIL " + argument, b"MAIL FROM:" + line):
        found = _parsed(_parser.parse_mail, _parser.split_command(mail)[1])
        assert (found is None) == bool(commands.mail(mail).errors)
    for smtputf8 in (False, True):
        rcpt = b"RCPT TO:" + line
        found = _parsed(_parser.parse_rcpt, _parser.split_command(rcpt)[1], smtputf8)
        assert (found is None) == bool(commands.rcpt(rcpt, smtputf8).errors)
    assert _parsed(_parser.parse_mailbox, line) == message.sender_of(line)
    _parsed(_parser.parse_bdat, line)
    with contextlib.suppress(xclient.XclientError):
        for name, value in xclient.parse(line).items():
            assert name in xclient.ATTRIBUTES
            assert value.isprintable()


def _parsed(parse: Callable, *arguments: object) -> object:
    try:
        return parse(*arguments)
    except _parser.CommandError as error:
        assert error.problem in ("syntax", "mailbox", "utf8", "parameter")
        return None


def content(data: bytes) -> None:
    """DATA and BDAT in parts keep what the oracle keeps; the header walk finds its fields."""
    for mode, newlines in MODES.items():
        expected = oracle.by_data(data, mode)
        seen, used = _content.Content(newlines, LIMIT), 0
        for part in splits(data):
            end = seen.feed_data(part, 0)
            used += len(part) if end < 0 else end
            if end >= 0:
                break
        else:
            assert expected is None
        if expected:
            assert (used, seen.size) == (expected.used, expected.size)
            assert seen.too_large or b"".join(seen.pieces) == expected.content
        chunks = _content.Content(newlines, LIMIT)
        for part in splits(data):
            chunks.feed_chunk(part, 0, len(part))
        chunks.finish()
        assert chunks.too_large == (len(data) > LIMIT)
        kept = b"" if chunks.too_large else oracle.by_bdat([data], mode).content
        assert b"".join(chunks.pieces) == kept
    offered = []
    scan = _content.HeaderScan(data, lambda name, *_: bool(offered.append(name)))
    while not scan.run(100):
        pass
    names = [name.lower().decode() for name, _, _ in message.split_header(data)[0]]
    assert offered == [name[5:] for name in names if name.startswith("x-mq-")]


def session(data: bytes) -> None:
    """A dialogue has the same replies and messages whole and in parts; every line is a reply.

    Its peer may say XCLIENT; every fifth may send no mail before TLS.
    """
    mode = list(MODES)[len(data) % 3]
    require_tls = len(data) % 5 == 0
    out, messages = _talk([data], mode, require_tls)
    lines = out.splitlines(keepends=True)
    assert all(REPLY_LINE.fullmatch(line) and len(line) <= replies.MAX_LINE for line in lines)
    if replies.PROTOCOL_ERROR.wire not in out:  # octets that came too early close a session
        assert _talk(splits(data), mode, require_tls) == (out, messages)
    if require_tls:
        assert messages == []


def _talk(parts: Iterator[bytes] | list[bytes], mode: str, require_tls: bool) -> tuple[bytes, list]:
    rules = Rules(
        Settings(
            smtp_hostname="mx.example.com", smtp_bare_newline=mode, smtp_require_tls=require_tls
        )
    )
    peer = Peer("127.0.0.1", 25, "127.0.0.1", 4000)
    peer.xclient_ip = "127.0.0.1"
    talk = Session(rules, Availability(LIMIT), Metrics(), Refusals(), peer)
    out, messages = b"", []
    for part in parts:
        if talk.closing:
            break
        out += talk.feed(part)
        while talk.question or talk.stalled:
            if talk.stalled:
                out += talk.proceed()
                continue
            if isinstance(talk.question, Introduction):
                messages.append(talk.question.said)
                allowed = replies.OK if len(talk.question.said) < 5 else replies.ACCESS_DENIED
                out += talk.answer(talk.question, allowed)
                continue
            message = talk.question
            recipients = [recipient.mailbox for recipient in message.envelope.recipients]
            messages.append((message.envelope.sender, recipients, b"".join(message.pieces)))
            out += talk.answer(message, replies.OK)
    return out, messages


def confirms(data: bytes) -> None:
    """A broker's octets in parts are heard, and passed on, as the oracle says."""
    told, taking, others, broken = confirms_oracle.Told(), Confirms(), b"", False
    taking.watch(1, told)
    try:
        for part in splits(data):
            others += taking.take(part)
    except ValueError:
        broken = True
    expected = confirms_oracle.read(1, data)
    assert (told, broken) == (expected.told, expected.broken)
    assert broken or others == expected.others


def escape(data: bytes) -> None:
    """Content in parts becomes the text that orjson or base64 makes of the whole."""
    measure, spans = Measure(), [(part, 0, len(part)) for part in splits(data)]
    for span in spans:
        measure.add(*span)
    try:
        text = orjson.dumps(TEXT_OF(data))
    except UnicodeDecodeError:
        text = None
    assert measure.is_utf8 == (text is not None)
    expected = [(Tail.base64(b"", spans), base64.b64encode(data) + b'"}')]
    if text is not None:
        expected.append((Tail.text(b"", spans, measure.size), text[1:] + b"}"))
    for tail, end in expected:
        reader = Reader(tail)
        found = b"".join(reader.read(len(part)) for part in splits(data * 8 + bytes(99)))
        assert (found, tail.size) == (end, len(end))
        assert reader.left == 0


TARGETS = {
    "proxy": proxy,
    "parser": parser,
    "content": content,
    "session": session,
    "confirms": confirms,
    "escape": escape,
}
