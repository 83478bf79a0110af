"""_session: the dialogue of spec and RFC 5321, spoken without a socket, the same at every split."""

import itertools
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsmtp import replies
from fastsmtp._session import Rules, Session
from fastsmtp.availability import Availability
from fastsmtp.metrics import Metrics
from fastsmtp.peer import Peer
from fastsmtp.questions import Credentials, Introduction, Message
from fastsmtp.refusals import Refusals
from fastsmtp.replies import Reply
from fastsmtp.settings import Settings

QUEUED = Reply(250, "2.0.0", "queued")
HELLO = b"EHLO client\r\n"
ENVELOPE = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"


class Client:
    """Speaks to a session; whatever finishes is answered with `outcome`."""

    def __init__(self, outcome=QUEUED, maxsize=1000, availability=None, **settings):
        settings = Settings(smtp_hostname="mx.example.com", **settings)
        self.availability = availability or Availability(maxsize)
        peer = Peer("127.0.0.1", 25, "127.0.0.1", 4000)
        self.refusals = []
        refusals = Refusals([self.refusals.append])
        asked = [Credentials] if settings.smtp_username else []
        self.session = Session(Rules(settings, asked), self.availability, Metrics(), refusals, peer)
        self.outcome = outcome
        self.messages = []
        self.out = b""

    def hello(self):
        self.session.feed(HELLO)
        return self

    def send(self, *parts):
        """Feed, answer what finishes, give the replies as their first lines' starts."""
        before = len(self.out)
        for part in parts:
            self.out += self.session.feed(part)
            while isinstance(message := self.session.question, Message):
                self.messages.append(
                    (
                        message.envelope.sender,
                        [r.mailbox for r in message.envelope.recipients],
                        b"".join(message.pieces),
                    )
                )
                self.out += self.session.answer(message, self.outcome)
        return self.out[before:]


def codes(out):
    """(code, enhanced code) of each reply."""
    return [
        (line[:3] + b" " + line[4:].split(b" ")[0]).decode()
        for line in out.split(b"\r\n")
        if line and line[3:4] == b" "
    ]


def test_the_greeting_and_hello():
    client = Client()
    assert client.session.greet() == b"220 mx.example.com ESMTP fastsmtp\r\n"
    assert client.send(b"HELO me\r\n") == b"250 mx.example.com\r\n"
    lines = client.send(b"ehlo me\r\n").decode().split("\r\n")[:-1]
    assert [line[4:] for line in lines] == [
        "mx.example.com",
        "PIPELINING",
        "SIZE 1000",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "CHUNKING",
        "DSN",
        "LIMITS RCPTMAX=1000",
    ]
    assert all(line.startswith("250-") for line in lines[:-1])
    assert lines[-1].startswith("250 ")
    assert client.session.peer.helo == "me"


def test_a_consumer_without_mime_encoding_is_spared_8_bit():
    client = Client(json_binary="reject")
    offered = client.send(HELLO)
    assert b"8BITMIME" not in offered
    assert b"SMTPUTF8" not in offered
    assert codes(
        client.send(b"MAIL FROM:<a@b> BODY=8BITMIME\r\nMAIL FROM:<a@b> BODY=7BIT\r\n")
    ) == [
        "555 5.5.4",
        "250 2.1.0",
    ]


def test_a_message_comes_out_with_its_envelope():
    client = Client().hello()
    out = client.send(ENVELOPE + b"RCPT TO:<@x:c@d>\r\n", b"DATA\r\n", b"Hi\r\n..\r\n.\r\n")
    assert codes(out) == ["250 2.1.0", "250 2.1.5", "250 2.1.5", "354 End", "250 2.0.0"]
    assert client.messages == [("a@example.com", ["b@example.org", "c@d"], b"Hi\r\n.\r\n")]


def test_everything_pipelined_in_one_packet_is_answered_in_one_piece():
    client = Client().hello()
    out = client.send(
        ENVELOPE + b"DATA\r\n.\r\n" + ENVELOPE + b"BDAT 1 LAST\r\nxNOOP\r\nQUIT\r\nRSET\r\n"
    )
    assert codes(out) == [
        "250 2.1.0", "250 2.1.5", "354 End", "250 2.0.0",
        "250 2.1.0", "250 2.1.5", "250 2.0.0", "250 2.0.0", "221 2.0.0",
    ]  # fmt: skip
    assert [content for _, _, content in client.messages] == [b"", b"x"]
    assert client.session.closing


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"NOOP", "250 2.0.0"), (b"NOOP x", "250 2.0.0"), (b"RSET", "250 2.0.0"),
        (b"RSET x", "501 5.5.4"), (b"VRFY a", "252 2.0.0"), (b"VRFY", "501 5.5.4"),
        (b"EXPN a", "502 5.5.1"), (b"HELP", "214 2.0.0"), (b"HELP x", "214 2.0.0"),
        (b"QUIT x", "501 5.5.4"), (b"EHLO", "501 5.5.4"), (b"HELO ", "501 5.5.4"),
        (b"", "500 5.5.2"), (b"FOO", "500 5.5.2"), (b"NO\rOP", "500 5.5.2"),
        (b"NOOP\0", "500 5.5.2"), (b"NOOP\r", "500 5.5.2"), (b"DATA", "503 5.5.1"),
        (b"RCPT TO:<a@b>", "503 5.5.1"), (b"BDAT 0", "503 5.5.1"), (b"STARTTLS", "454 4.7.0"),
        (b"STARTTLS x", "501 5.5.4"), (b"AUTH PLAIN", "502 5.5.1"),
        (b"MAIL FROM:<a@b> SIZE=1001", "552 5.3.4"), (b"MAIL FROM:<a@b> SIZE=1000", "250 2.1.0"),
        (b"MAIL FROM:<a@b", "501 5.5.4"), (b"MAIL FROM:<a>", "553 5.1.7"),
        (b"MAIL FROM:<a@[999.1.1.1]>", "553 5.1.7"),
        ("MAIL FROM:<a\u202eb@c> SMTPUTF8".encode(), "553 5.1.7"),
        (b"MAIL FROM:<a@b> FOO", "555 5.5.4"), (b"MAIL FROM:<\xc3\xa4@b>", "553 5.6.7"),
        (b"x" * 4094, "500 5.5.2"), (b"NOOP " + b"x" * 4089, "250 2.0.0"),
        (b"NOOP " + b"x" * 4090, "500 5.5.2"), (b"auth " + b"x" * 12281, "502 5.5.1"),
        (b"AUTH " + b"x" * 12282, "500 5.5.2"),
    ],
)  # fmt: skip
def test_each_command_has_its_reply(line, reply):
    client = Client().hello()
    assert codes(client.send(line + b"\r\n")) == [reply]
    assert codes(client.send(b"NOOP\r\n")) == ["250 2.0.0"]


@pytest.mark.parametrize("line", [b"MAIL FROM:<a@b>", b"RCPT TO:<a@b>", b"DATA"])
def test_mail_needs_a_hello(line):
    assert codes(Client().send(line + b"\r\n")) == ["503 5.5.1"]


def test_the_order_of_a_transaction_is_kept():
    client = Client().hello()
    assert codes(client.send(b"MAIL FROM:<>\r\nMAIL FROM:<>\r\nDATA\r\n")) == [
        "250 2.1.0",
        "503 5.5.1",
        "503 5.5.1",
    ]
    assert codes(client.send(b"RCPT TO:<>\r\nRCPT TO:<a@b>\r\nBDAT 1\r\nxDATA\r\n")) == [
        "553 5.1.3",
        "250 2.1.5",
        "250 2.0.0",
        "503 5.5.1",
    ]
    assert codes(client.send(b"RCPT TO:<a@b>\r\nRSET\r\nBDAT 1 LAST\r\nx")) == [
        "503 5.5.1",
        "250 2.0.0",
        "503 5.5.1",
    ]
    assert client.messages == []


def test_hello_ends_a_transaction():
    client = Client().hello()
    assert codes(client.send(ENVELOPE + HELLO + b"DATA\r\n"))[-1] == "503 5.5.1"


def test_too_many_recipients_are_refused_and_the_others_stand():
    client = Client(smtp_maxrecipients=2).hello()
    client.send(ENVELOPE)
    assert codes(client.send(b"RCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\n")) == ["250 2.1.5", "452 4.5.3"]
    client.send(b"DATA\r\n.\r\n")
    assert client.messages[0][1] == ["b@example.org", "c@d"]


def test_a_recipient_given_twice_counts_twice():
    client = Client().hello()
    client.send(ENVELOPE + b"RCPT TO:<b@example.org>\r\nDATA\r\n.\r\n")
    assert client.messages[0][1] == ["b@example.org"] * 2


def test_the_fan_out_is_known_at_rcpt_or_at_the_end():
    client = Client(smtp_maxfanout=100).hello()
    out = client.send(b"MAIL FROM:<a@b> SIZE=60\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@d>\r\n")
    assert codes(out)[-1] == "452 4.5.3"
    out = client.send(
        b"RSET\r\n" + ENVELOPE + b"RCPT TO:<c@d>\r\nDATA\r\n", b"x" * 50 + b"\r\n.\r\n"
    )
    assert codes(out)[-1] == "552 5.3.4"
    out = client.send(ENVELOPE + b"RCPT TO:<c@d>\r\nDATA\r\n", b"x" * 48 + b"\r\n.\r\n")
    assert codes(out)[-1] == "250 2.0.0"


def test_content_over_the_limit_is_refused_at_its_end():
    client = Client(maxsize=10).hello()
    assert codes(client.send(ENVELOPE + b"DATA\r\n", b"12345678\r\n.\r\n"))[-1] == "250 2.0.0"
    assert codes(client.send(ENVELOPE + b"DATA\r\n", b"123456789\r\n.\r\n"))[-1] == "552 5.3.4"
    assert (
        codes(
            client.send(b"MAIL FROM:<a@b> SIZE=1\r\nRCPT TO:<a@b>\r\nBDAT 10 LAST\r\n1234567890")
        )[-1]
        == "250 2.0.0"
    )
    assert codes(client.send(ENVELOPE + b"BDAT 6\r\n123456BDAT 5\r\n12345BDAT 1 LAST\r\nx")) == [
        "250 2.1.0",
        "250 2.1.5",
        "250 2.0.0",
        "552 5.3.4",
        "503 5.5.1",
    ]
    assert len(client.messages) == 2


@pytest.mark.parametrize("size", [b"", b"x", b"-1", b"1" * 21])
def test_bdat_without_a_size_ends_the_session(size):
    client = Client().hello()
    assert codes(client.send(ENVELOPE + b"BDAT " + size + b"\r\nNOOP\r\n"))[-1] == "501 5.5.4"
    assert client.session.closing


def test_a_refused_chunk_is_consumed():
    client = Client().hello()
    assert codes(client.send(b"BDAT 6\r\nQUIT\r\nNOOP\r\n")) == ["503 5.5.1", "250 2.0.0"]


@pytest.mark.parametrize(
    "line", [b"DATA", b"data ", b"DATA x", b"DATA\0", b"DATA\r", b"DATA " + b"x" * 5000]
)
def test_content_behind_a_refused_data_never_runs(line):
    client = Client().hello()
    assert codes(client.send(line + b"\r\nNOOP\r\nRSET\r\n")) == ["554 5.5.0"]
    assert client.session.closing
    assert client.send(b"NOOP\r\n") == b""


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1", b"POST /x HTTP/1.0", b"Host: x", b"Subject:y"]
)
def test_a_browser_is_shown_the_door(first):
    client = Client()
    assert codes(client.send(first + b"\r\nEHLO x\r\n")) == ["554 5.5.0"]
    assert client.session.closing
    assert codes(Client().hello().send(first + b"\r\n")) == ["500 5.5.2"]


def test_too_many_errors_end_the_session():
    client = Client(smtp_maxerrors=3).hello()
    assert codes(client.send(b"FOO\r\nFOO\r\n")) == ["500 5.5.2"] * 2
    assert codes(client.send(ENVELOPE + b"DATA\r\n", b".\r\n"))[-1] == "250 2.0.0"
    assert codes(client.send(b"FOO\r\nFOO\r\nFOO\r\nFOO\r\n")) == ["500 5.5.2"] * 3 + ["421 4.7.0"]
    assert client.session.closing


NO_MAIL = "421 4.4.2"
HOPELESS = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"


@pytest.mark.parametrize("command", [b"NOOP", b"EHLO x", b"RSET", b"VRFY x", b"HELP"])
def test_a_thousand_commands_without_mail_end_the_session(command):
    client = Client().hello()
    said = codes(client.send(*[command + b"\r\n"] * 2000))
    assert len(said) == 1000  # EHLO was the first
    assert said[-1] == NO_MAIL
    assert client.session.closing
    assert client.refusals[-1].reply is replies.NO_MAIL


def test_transactions_that_are_begun_and_given_up_count():
    client = Client().hello()
    said = codes(client.send(*[ENVELOPE + b"NOOP\r\nRSET\r\n"] * 2000))
    assert said[-1] == NO_MAIL
    assert 1900 < len(said) < 2100  # of four commands two stand within one that has a recipient


def test_commands_within_a_transaction_that_has_a_recipient_do_not_count():
    client = Client().hello()
    client.send(ENVELOPE, *[b"NOOP\r\n"] * 5000)
    assert codes(client.send(b"DATA\r\n", b".\r\n")) == ["354 End", "250 2.0.0"]


@pytest.mark.parametrize("outcome", [QUEUED, replies.NOT_STORED])
def test_a_message_that_is_accepted_or_deferred_begins_the_count_anew(outcome):
    client = Client(outcome=outcome).hello()
    for _ in range(5):
        client.send(*[b"NOOP\r\n"] * 990)
        assert client.send(ENVELOPE, b"DATA\r\n", b".\r\n").endswith(outcome.wire)
    client.outcome = replies.TOO_LARGE
    client.send(*[b"NOOP\r\n"] * 990, ENVELOPE, b"DATA\r\n", b".\r\n")
    assert codes(client.send(*[b"NOOP\r\n"] * 10))[-1] == NO_MAIL


def test_what_follows_from_a_deferral_does_not_count():
    """A pipelining client sends RCPT and DATA behind the MAIL that we defer."""
    client = Client().hello()
    client.availability.refusal = replies.NO_SPACE
    for _ in range(1500):
        assert codes(client.send(HOPELESS)) == ["452 4.3.1", "503 5.5.1", "503 5.5.1"]
        assert codes(client.send(b"MAIL FROM:<a@b>\r\nBDAT 1 LAST\r\nx")) == [
            "452 4.3.1",
            "503 5.5.1",
        ]
    assert len(client.refusals) == 5 * 1500
    client.availability.refusal = None
    client.send(ENVELOPE, b"DATA\r\n", b".\r\n")
    assert len(client.messages) == 1


def test_recipients_that_are_all_deferred_are_no_fault():
    client = Client(smtp_maxfanout=10, smtp_maxerrors=2).hello()
    lines = b"MAIL FROM:<a@b> SIZE=60\r\nRCPT TO:<c@d>\r\nDATA\r\n"
    for _ in range(100):
        assert codes(client.send(lines, b"RSET\r\n")) == [
            "250 2.1.0", "452 4.5.3", "503 5.5.1", "250 2.0.0",
        ]  # fmt: skip
    assert codes(client.send(b"DATA\r\n" * 1, b"DATA\r\n")) == ["503 5.5.1"] * 2 + ["421 4.7.0"]


@pytest.mark.parametrize("line", [b"RSET", b"EHLO x", b"MAIL FROM:<a>"])
def test_after_a_deferral_faults_count_again(line):
    client = Client(smtp_maxerrors=3).hello()
    client.availability.refusal = replies.NO_SPACE
    client.send(HOPELESS, line + b"\r\n")
    assert codes(client.send(*[b"RCPT TO:<a@b>\r\n"] * 3))[-1] == "421 4.7.0"


@pytest.mark.parametrize("line", [b"FOO", b"EXPN x", b"MAIL FROM:<a>"])
def test_a_deferral_excuses_nothing_else(line):
    client = Client(smtp_maxerrors=3).hello()
    client.availability.refusal = replies.NO_SPACE
    assert codes(client.send(HOPELESS, *[line + b"\r\n"] * 3))[-1] == "421 4.7.0"


def test_the_gate_is_asked_at_the_greeting_at_mail_and_for_the_size():
    availability = Availability(1000)
    client = Client(availability=availability).hello()
    availability.refusal = replies.NO_SPACE
    assert codes(client.send(b"MAIL FROM:<a@b>\r\n")) == ["452 4.3.1"]
    availability.refusal = None
    availability.limit_body(64 * 1024 + 400)
    assert b"SIZE 300\r\n" in client.send(HELLO)
    assert codes(client.send(b"MAIL FROM:<a@b> SIZE=301\r\n")) == ["552 5.3.4"]
    availability.greeting = replies.UNAVAILABLE
    late = Client(availability=availability)
    assert codes(late.session.greet()) == ["421 4.3.2"]
    assert late.session.closing


@pytest.mark.parametrize("split", [300, 1_000_000])
def test_what_many_commands_ask_for_is_said_in_parts(split):
    client = Client().hello()
    session = client.session
    wire = b"EHLO x\r\n" * 900 + ENVELOPE + b"NOOP\r\n" * 1000
    wire += b"DATA\r\nHi\r\n.\r\n" + b"NOOP\r\n" * 900
    parts = [session.feed(wire[at : at + split]) for at in range(0, len(wire), split)]
    assert session.stalled == (split > len(wire))
    while session.stalled or session.question:
        parts.append(
            session.answer(session.question, QUEUED) if session.question else session.proceed()
        )
    assert session.proceed() == b""
    assert session.held == 0
    assert max(len(part) for part in parts) < 32 * 1024
    said = codes(b"".join(parts))
    assert said[-903:] == ["250 2.0.0", "354 End", "250 2.0.0"] + ["250 2.0.0"] * 900


def test_full_memory_refuses_new_mail_alone():
    availability = Availability(1000, maxmemory=10)
    client = Client(availability=availability).hello()
    client.send(ENVELOPE)
    availability.memory.hold(11)
    assert codes(client.send(b"DATA\r\n", b"Hi\r\n.\r\n")) == ["354 End", "250 2.0.0"]
    assert codes(client.send(b"MAIL FROM:<a@b>\r\n")) == ["452 4.3.1"]
    assert client.out.endswith(replies.NO_MEMORY.wire)
    availability.memory.hold(-11)
    assert codes(client.send(ENVELOPE))[0] == "250 2.1.0"


def test_what_is_held_is_told_until_the_message_is_finished():
    client = Client().hello()
    session = client.session
    client.send(ENVELOPE + b"DATA\r\n")
    assert session.filling
    assert session.held == 0
    client.send(b"Hi\r\n")
    assert session.held == 4
    assert session.feed(b".\r\nNOOP\r\n") == b""
    assert not session.filling
    assert session.held == len(b"NOOP\r\n")
    session.answer(session.question, QUEUED)
    assert session.held == 0
    client.send(ENVELOPE + b"BDAT 100\r\n" + b"x" * 100)
    assert session.filling
    assert session.held == 100
    client.send(b"BDAT 1000\r\nx")
    assert not session.filling
    assert session.held == 0


@pytest.mark.parametrize("ending", [b"RSET\r\n", b"EHLO x\r\n", b"QUIT\r\n", b"BDAT x\r\n"])
def test_a_transaction_that_ends_early_holds_nothing(ending):
    client = Client().hello()
    client.send(ENVELOPE + b"BDAT 100\r\n" + b"x" * 100)
    client.send(ending)
    assert client.session.held == 0
    assert not client.session.filling


ABANDONED = [
    (b"DATA\r\n", b"a\r\nb", b"c\r\n", b".\r\n"),
    (b"DATA\r\n", b"", b".\r\n"),
    (b"BDAT 3\r\n", b"a", b"b", b"c"),
    (b"BDAT 2\r\nab", b"", b"BDAT 3 LAST\r\n", b"cde"),
    (b"BDAT 2\r\nab", b"", b"BDAT 0 LAST\r\n"),
]


@pytest.mark.parametrize("parts", ABANDONED)
def test_abandoned_content_is_thrown_away_and_refused_at_its_end(parts):
    client = Client().hello()
    client.send(ENVELOPE, *parts[:2])
    client.session.abandon()
    client.session.abandon()
    assert client.session.held == 0
    assert not client.session.filling
    assert client.send(*parts[2:-1]) == b""
    assert client.send(parts[-1]) == replies.NO_MEMORY.wire
    assert client.messages == []
    assert codes(client.send(ENVELOPE, b"DATA\r\nx\r\n.\r\n"))[-1] == "250 2.0.0"
    assert [content for _, _, content in client.messages] == [b"x\r\n"]


@pytest.mark.parametrize("before", [b"", ENVELOPE])
def test_where_no_content_comes_there_is_none_to_abandon(before):
    client = Client().hello()
    client.send(before)
    client.session.abandon()
    assert codes(client.send(b"RSET\r\n" + ENVELOPE + b"DATA\r\n.\r\n"))[-1] == "250 2.0.0"


@pytest.mark.parametrize(
    "refusal", [replies.NOT_STORED, replies.UNROUTABLE, replies.NO_SPACE, replies.TOO_LARGE]
)
def test_what_the_sink_says_is_said(refusal):
    client = Client(outcome=refusal).hello()
    out = client.send(ENVELOPE + b"DATA\r\n.\r\n")
    assert out.endswith(refusal.wire)
    assert codes(client.send(ENVELOPE))[0] == "250 2.1.0"


def test_bare_newlines_in_the_content():
    wire = b"a\nb\rc\r\n.\r\n"
    kept = {}
    for mode in ("normalize", "keep", "reject"):
        client = Client(smtp_bare_newline=mode).hello()
        out = client.send(ENVELOPE + b"DATA\r\n", wire)
        kept[mode] = client.messages[0][2] if client.messages else codes(out)[-1]
    assert kept == {
        "normalize": b"a\r\nb c\r\n",
        "keep": b"a\nb\rc\r\n",
        "reject": "550 5.6.0",
    }


def test_a_bare_lf_ends_a_command_unless_it_is_rejected():
    assert codes(Client().hello().send(b"NOOP\nNOOP\n")) == ["250 2.0.0"] * 2
    strict = Client(smtp_bare_newline="reject").hello()
    assert codes(strict.send(b"NOOP\nNOOP\r\nNOOP\r\n")) == ["500 5.5.2", "250 2.0.0"]


@pytest.mark.parametrize("newlines", ["normalize", "reject"])
@pytest.mark.parametrize("length", [4095, 4096, 4097, 9000, 20000])
def test_a_long_line_is_thrown_away_to_its_end(newlines, length):
    line = b"NOOP " + b"x" * (length - 7) + b"\r\n"
    expected = ["250 2.0.0" if length <= 4096 else "500 5.5.2", "250 2.0.0"]
    for parts in ([line], [line[i : i + 1] for i in range(length)], [line[:-1], line[-1:]]):
        client = Client(smtp_bare_newline=newlines).hello()
        assert codes(client.send(*parts, b"NOOP\r\n")) == expected


def test_stopping_ends_idle_sessions_now_and_others_after_their_transaction():
    idle = Client().hello()
    assert codes(idle.session.stop()) == ["421 4.3.2"]
    busy = Client().hello()
    busy.send(ENVELOPE)
    assert busy.session.stop() == b""
    assert codes(busy.send(b"DATA\r\n", b".\r\nNOOP\r\n")) == ["354 End", "250 2.0.0", "421 4.3.2"]
    assert busy.session.closing


def test_a_session_that_was_closed_while_waiting_says_nothing_more():
    session = Client().hello().session
    session.feed(ENVELOPE + b"DATA\r\n.\r\n")
    question = session.question
    assert question is not None
    assert codes(session.close(replies.STOPPING)) == ["421 4.3.2"]
    assert session.answer(question, QUEUED) == b""


def test_input_is_kept_while_waiting():
    session = Client().hello().session
    session.feed(ENVELOPE + b"DATA\r\n.\r\nNO")
    assert session.feed(b"OP\r\n") == b""
    assert session.backlog == len(b"NOOP\r\n")
    assert codes(session.answer(session.question, QUEUED)) == ["250 2.0.0", "250 2.0.0"]
    assert session.backlog == 0


def test_the_clients_time_begins_anew_with_commands_not_with_octets():
    session = Client().hello().session
    seen = [session.progress]

    def fed(data):
        session.feed(data)
        seen.append(session.progress)
        return seen[-1] != seen[-2]

    assert fed(b"N")
    assert not fed(b"O")
    assert not fed(b"O")
    assert fed(b"P\r\n")
    assert fed(ENVELOPE + b"DATA\r\n")
    assert not fed(b"some")
    assert not fed(b" content")
    assert (session.in_content, session.received) == (True, len(b"some content"))
    assert fed(b"\r\n.\r\n")


AUTH = {"smtp_username": "me", "smtp_password": "x", "smtp_insecure_auth": True}
PLAIN = b64encode(b"\0me\0pass word")


def offered(out):
    return {line[4:] for line in out.decode().splitlines()}


def test_auth_and_starttls_are_offered_where_they_can_be_used():
    assert not offered(Client().send(HELLO)) & {"STARTTLS", "AUTH PLAIN LOGIN"}
    assert "AUTH PLAIN LOGIN" in offered(Client(**AUTH).send(HELLO))
    secret = Client(**AUTH | {"smtp_insecure_auth": False}, smtp_certificate=("c",))
    assert offered(secret.send(HELLO)) & {"STARTTLS", "AUTH PLAIN LOGIN"} == {"STARTTLS"}
    assert codes(secret.send(b"AUTH PLAIN " + PLAIN + b"\r\n")) == ["538 5.7.11"]
    secret.session.peer.secure = True
    assert offered(secret.send(HELLO)) & {"STARTTLS", "AUTH PLAIN LOGIN"} == {"AUTH PLAIN LOGIN"}


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        ([b"AUTH PLAIN " + PLAIN], b""),
        ([b"auth plain", PLAIN], b"334 \r\n"),
        ([b"AUTH LOGIN", b64encode(b"me"), b64encode(b"pass word")],
         b"334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n"),
        ([b"AUTH LOGIN " + b64encode(b"me"), b64encode(b"pass word")], b"334 UGFzc3dvcmQ6\r\n"),
        ([b"AUTH PLAIN " + b64encode(b"me\0me\0pass word")], b""),
    ],
)  # fmt: skip
def test_credentials_are_asked_for_and_checked_by_the_caller(lines, asked):
    for parts in (lines, [b"\r\n".join(lines)]):
        client = Client(**AUTH).hello()
        assert client.send(*(part + b"\r\n" for part in parts), b"NOOP\r\n") == asked
        session = client.session
        credentials = session.question
        assert (credentials.user, credentials.password) == ("me", b"pass word")
        assert codes(session.answer(credentials, replies.AUTHENTICATED)) == [
            "235 2.7.0",
            "250 2.0.0",
        ]
        assert session.question is None
        assert session.peer.user == "me"
        assert codes(client.send(b"AUTH PLAIN\r\nMAIL FROM:<a@b>\r\n")) == [
            "503 5.5.1",
            "250 2.1.0",
        ]


def test_wrong_credentials_let_nobody_in():
    client = Client(**AUTH).hello()
    assert codes(client.send(b"MAIL FROM:<a@b>\r\n")) == ["530 5.7.0"]
    client.send(b"AUTH PLAIN " + PLAIN + b"\r\n")
    assert codes(client.session.answer(client.session.question, replies.BAD_CREDENTIALS)) == [
        "535 5.7.8"
    ]
    assert codes(client.send(b"MAIL FROM:<a@b>\r\n")) == ["530 5.7.0"]


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        (b"AUTH", "501 5.5.4"), (b"AUTH PLAIN a b", "501 5.5.4"), (b"AUTH CRAM-MD5", "504 5.5.4"),
        (b"AUTH PLAIN !", "501 5.5.2"), (b"AUTH PLAIN =", "501 5.5.2"),
        (b"AUTH PLAIN " + b64encode(b"me\0pass"), "501 5.5.2"),
        (b"AUTH PLAIN " + b64encode(b"you\0me\0pass"), "535 5.7.8"),
        (b"AUTH PLAIN " + b64encode(b"\0me\x1b\0pass"), "535 5.7.8"),
        (b"AUTH PLAIN " + b64encode(b"\0\xff\0pass"), "535 5.7.8"),
        (b"AUTH PLAIN " + b64encode(b"\0\0pass"), "535 5.7.8"),
        (b"AUTH LOGIN =\r\n" + PLAIN, "535 5.7.8"), (b"AUTH PLAIN\r\n*", "501 5.7.0"),
        (b"AUTH PLAIN\r\nQ\0", "500 5.5.2"), (b"AUTH LOGIN\r\n" + b"x" * 12287, "500 5.5.2"),
        (b"AUTH LOGIN\r\n" + b"x" * 12285, "501 5.5.2"),
    ],
)  # fmt: skip
def test_what_is_no_credentials_is_refused_and_the_session_goes_on(lines, reply):
    whole = lines + b"\r\nNOOP\r\n"
    for parts in ([whole], [bytes([octet]) for octet in whole]):
        client = Client(**AUTH).hello()
        said = [code for code in codes(client.send(*parts)) if not code.startswith("334")]
        assert said == [reply, "250 2.0.0"]
        assert client.session.question is None


@pytest.mark.parametrize("good", [b"bWU=", b"bQ==", b"bWUx", b"bWVtZQ==", b"bWVtZW1l", b"++//"])
def test_base64_has_the_padding_that_it_needs_and_no_more(good):
    """RFC 4954 §4 leaves nothing else; Python 3.11 and 3.12 take `bWUx=`."""
    bare = good.rstrip(b"=")
    tried = [bare + b"=" * count for count in range(6)]
    tried += [good + b"bWU=", bare + b"=A==", bare[:2] + b"=" + bare[2:], good + b"!", b"-_" + good]
    for line in tried:
        for lines in (b"AUTH LOGIN " + line, b"AUTH LOGIN\r\n" + line):
            said = Client(**AUTH).hello().send(lines + b"\r\n").split(b"\r\n")[-2]
            right = line == good or (line == good + b"bWU=" and bare == good)
            assert said[:9] == (b"334 UGFzc" if right else b"501 5.5.2"), lines


def test_starttls_forgets_what_was_said():
    client = Client(smtp_certificate=("c",), **AUTH).hello()
    client.send(b"AUTH PLAIN " + PLAIN + b"\r\n")
    client.session.answer(client.session.question, replies.AUTHENTICATED)
    client.send(ENVELOPE)
    assert codes(client.send(b"STARTTLS\r\n")) == ["220 2.0.0"]
    assert client.session.starting_tls
    client.session.peer.secure = True
    client.session.secured()
    assert (client.session.peer.helo, client.session.peer.user) == ("", "")
    assert codes(client.send(b"MAIL FROM:<a@b>\r\n", HELLO, b"STARTTLS\r\n"))[::2] == [
        "503 5.5.1",
        "503 5.5.1",
    ]


REQUIRED = {"smtp_certificate": ("c",), "smtp_require_tls": True}


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"EHLO x", "250"), (b"HELO x", "250"), (b"NOOP", "250"), (b"QUIT", "221"),
        (b"STARTTLS", "220"), (b"STARTTLS x", "501"), (b"RSET", "530"), (b"MAIL FROM:<a@b>", "530"),
        (b"RCPT TO:<a@b>", "530"), (b"DATA", "530"), (b"VRFY x", "530"), (b"EXPN x", "530"),
        (b"HELP", "530"), (b"AUTH PLAIN " + PLAIN, "530"), (b"XCLIENT ADDR=1.2.3.4", "530"),
        (b"FOO", "530"), (b"BDAT 0", "530"), (b"BDAT 0 LAST", "530"), (b"BDAT x", "501"),
        (b"x" * 5000, "500"), (b"NO\rOP", "500"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("hello", [b"", HELLO])
def test_without_tls_five_commands_are_answered_where_it_is_required(hello, line, reply):
    client = Client(**REQUIRED, **AUTH)
    client.send(hello)
    assert client.send(line + b"\r\n")[:3].decode() == reply
    secure = Client(**REQUIRED, **AUTH)
    secure.session.peer.secure = True
    secure.send(hello)
    assert not secure.send(line + b"\r\n").startswith(b"530 5.7.0 Must")


def test_where_tls_is_required_its_lack_is_a_fault_and_nothing_else_is_offered():
    client = Client(**REQUIRED, **AUTH, smtp_maxerrors=3).hello()
    assert offered(client.send(HELLO)) & {"STARTTLS", "AUTH PLAIN LOGIN"} == {"STARTTLS"}
    said = client.send(b"BDAT 5\r\nQUIT\nMAIL FROM:<a@b>\r\nRSET\r\nNOOP\r\n")
    assert codes(said) == ["530 5.7.0"] * 3 + ["421 4.7.0"]
    assert codes(Client(**REQUIRED).send(b"GET / HTTP/1.1\r\n")) == ["554 5.5.0"]
    assert codes(Client(**REQUIRED).hello().send(b"DATA\r\nHi\r\n.\r\n")) == ["554 5.5.0"]


def introduced(client, *parts, outcome=replies.OK):
    """Say XCLIENT and more, and answer its question with `outcome`."""
    client.session.peer.xclient_ip = "127.0.0.1"
    out = client.send(*parts)
    question = client.session.question
    if isinstance(question, Introduction):
        return question.said, out + client.session.answer(question, outcome)
    return None, out


def test_xclient_begins_the_session_anew():
    client = Client(smtp_maxerrors=3).hello()
    client.send(b"FOO\r\nFOO\r\n")
    said, out = introduced(client, b"xclient addr=IPV6:::1 Login=a+40b helo=h\r\nNOOP\r\n")
    assert said == {"ADDR": "::1", "LOGIN": "a@b", "HELO": "h"}
    assert out == b"220 mx.example.com ESMTP fastsmtp\r\n250 2.0.0 Ok\r\n"
    peer = client.session.peer
    assert (peer.user, peer.helo) == ("a@b", "h")
    assert codes(client.send(b"MAIL FROM:<a@b>\r\nFOO\r\n")) == ["503 5.5.1", "500 5.5.2"]
    _, out = introduced(client, b"XCLIENT NAME=x\r\n")
    assert (peer.user, peer.helo) == ("", "")
    assert codes(client.send(b"GET / HTTP/1.1\r\n")) == ["554 5.5.0"]  # its first command


@pytest.mark.parametrize(
    ("outcome", "then"),
    [(replies.ACCESS_DENIED, "503 5.5.1"), (replies.TOO_MANY_FROM_ADDRESS, None)],
)
def test_whoever_xclient_names_may_be_refused(outcome, then):
    client = Client().hello()
    _, out = introduced(client, b"XCLIENT ADDR=192.0.2.1\r\n", outcome=outcome)
    assert out == outcome.wire
    assert [refusal.reply for refusal in client.refusals] == [outcome]
    assert client.session.closing == (then is None)
    assert codes(client.send(HELLO)) == ([then] if then else [])


def test_the_gate_is_asked_after_xclient_too():
    availability = Availability(1000)
    client = Client(availability=availability).hello()
    availability.greeting = replies.UNAVAILABLE
    _, out = introduced(client, b"XCLIENT ADDR=192.0.2.1\r\n")
    assert out == replies.UNAVAILABLE.wire
    assert client.session.closing


def test_xclient_has_its_order_and_its_peers():
    client = Client().hello()
    assert codes(client.send(b"XCLIENT ADDR=192.0.2.1\r\n")) == ["550 5.7.0"]
    assert introduced(client, b"XCLIENT\r\n") == (None, replies.BAD_ARGUMENT.wire)
    client.send(b"MAIL FROM:<a@b>\r\n")
    assert introduced(client, b"XCLIENT ADDR=192.0.2.1\r\n") == (None, replies.WRONG_ORDER.wire)


def test_octets_behind_starttls_never_run():
    client = Client(smtp_certificate=("c",)).hello()
    assert codes(client.send(b"STARTTLS\r\nEHLO evil\r\n")) == ["554 5.5.0"]
    assert client.session.closing
    late = Client(smtp_certificate=("c",)).hello()
    assert codes(late.send(b"STARTTLS\r\n", b"EHLO evil\r\n")) == ["220 2.0.0", "554 5.5.0"]


def test_a_refused_client_may_only_quit():
    client = Client()
    assert codes(client.session.refuse()) == ["554 5.7.1"]
    assert client.session.refused
    said = client.send(HELLO + ENVELOPE + b"FOO\r\nGET / HTTP/1.1\r\nQUIT\r\n")
    assert codes(said) == ["503 5.5.1"] * 5 + ["221 2.0.0"]
    assert client.session.closing


def test_mail_of_an_unknown_client_is_refused():
    client = Client().hello()
    client.session.peer.known = False
    assert codes(client.send(b"MAIL FROM:<a@b>\r\n")) == ["550 5.7.1"]


LONG_SESSION = b"".join(
    [
        HELLO,
        b"NOOP\r\nRSET\r\nVRFY x\r\nHELP\r\nFOO\r\nEXPN a\r\nNOOP " + b"y" * 5000 + b"\r\n",
        *(
            b"MAIL FROM:<s%d@example.com> SIZE=30\r\nRCPT TO:<r@example.org>\r\n"
            b"RCPT TO:bad\r\nDATA\r\n%b\r\n.\r\n" % (i, content)
            for i, content in enumerate(
                [b"", b"..\r\n..a", b"\n.\n", b"a\r.\r\r", b"x" * 2000, b"X-MQ-Tag: 1\r\n\r\n\0"]
            )
        ),
        *(
            b"MAIL FROM:<c%d@example.com>\r\nRCPT TO:<r@example.org>\r\nNOOP\r\n"
            b"BDAT 4\r\n\r\n.\rBDAT 3\r\n\n\r\nBDAT 0 LAST\r\nBDAT 2\r\nzz" % i
            for i in range(4)
        ),
        b"BDAT 8 LAST\r\nNOOP\r\n\r\nAUTH x\r\nMAIL FROM:<>\r\nRSET\r\nHELO y\r\n",
        b"MAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\nRCPT TO:<>\r\nEHLO z\r\nNOOP\r\nNOOP\r\nQUIT\r\n",
    ]
)


def spoken(parts, newlines):
    client = Client(maxsize=3000, smtp_bare_newline=newlines, smtp_maxerrors=1000)
    client.send(*parts)
    return client.out, client.messages, client.session.closing


@pytest.mark.parametrize("newlines", ["normalize", "keep", "reject"])
def test_a_long_session_is_the_same_byte_by_byte(newlines):
    whole = spoken([LONG_SESSION], newlines)
    assert LONG_SESSION.count(b"\r\n") > 50
    assert whole[2]
    assert len(whole[1]) == {"normalize": 10, "keep": 10, "reject": 8}[newlines]
    assert spoken([bytes([octet]) for octet in LONG_SESSION], newlines) == whole


@given(
    st.lists(st.integers(0, len(LONG_SESSION)), max_size=60),
    st.sampled_from(["normalize", "keep", "reject"]),
)
def test_a_long_session_is_the_same_at_any_split(cuts, newlines):
    edges = [0, *sorted(cuts), len(LONG_SESSION)]
    parts = [LONG_SESSION[a:b] for a, b in itertools.pairwise(edges)]
    assert spoken(parts, newlines) == spoken([LONG_SESSION], newlines)


PIECES = [
    HELLO, ENVELOPE, b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<a@b>\r\n", b"BDAT 3\r\n",
    b"BDAT 2 LAST\r\n", b"abc", b"\r\n", b"\n", b"\r", b".", b".\r\n", b"\r\n.\r\n",
    b"RSET\r\n", b"NOOP\r\n", b"\0", b"x" * 3000, b"EHLO", b"AUTH ", b"STARTTLS\r\n",
]  # fmt: skip


@given(st.data(), st.lists(st.sampled_from(PIECES), max_size=25))
def test_hostile_input_is_the_same_at_any_split(data, pieces):
    """Without DATA, whose early-talker check looks at what arrived together."""
    wire = HELLO + b"".join(pieces)
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8))
    parts = [wire[a:b] for a, b in itertools.pairwise([0, *sorted(cuts), len(wire)])]
    assert spoken(parts, "normalize") == spoken([wire], "normalize")


def test_every_refusal_is_reported_once_unless_somebody_else_has_decided_on_it():
    client = Client(maxsize=3000, smtp_bare_newline="reject", smtp_maxerrors=1000)
    client.outcome = replies.NOT_STORED  # the intake reports it
    client.send(LONG_SESSION)
    said = [line for line in client.out.splitlines(keepends=True) if line[:1] in b"45"]
    assert {replies.BARE_NEWLINE.wire, replies.NOT_STORED.wire} <= {*said}
    told = [refusal.reply.wire for refusal in client.refusals]
    assert sorted(told) == sorted(line for line in said if line != replies.NOT_STORED.wire)


@pytest.mark.parametrize(
    ("lines", "sender", "recipient", "reply"),
    [
        (b"MAIL FROM:<a@b> SIZE=9999\r\n", "a@b", None, replies.TOO_LARGE),
        (b"MAIL FROM:<a@@b> SIZE=1\r\n", "a@@b", None, replies.BAD_SENDER),
        (b"MAIL FROM: a@\xffb X=1\r\n", "a@\ufffdb", None, replies.UNKNOWN_PARAMETER),
        (
            ENVELOPE + b"RCPT TO:<c@@d> NOTIFY=NEVER\r\n",
            "a@example.com",
            "c@@d",
            replies.BAD_RECIPIENT,
        ),
        (ENVELOPE + b"RCPT TO:<c@d>\r\n", "a@example.com", "c@d", replies.TOO_MANY_RECIPIENTS),
        (ENVELOPE + b"RCPT TO\r\n", "a@example.com", "", replies.TOO_MANY_RECIPIENTS),
        (ENVELOPE + b"FOO\r\n", "a@example.com", None, replies.UNKNOWN_COMMAND),
        (b"FOO\r\n", None, None, replies.UNKNOWN_COMMAND),
    ],
)
def test_a_refusal_names_the_envelope_as_far_as_it_is_known(lines, sender, recipient, reply):
    client = Client(smtp_maxrecipients=2 if b"@@d" in lines else 1).hello()
    client.send(lines)
    (refusal,) = client.refusals
    assert refusal.reply is reply
    assert (refusal.envelope and refusal.envelope.sender) == sender
    assert refusal.recipient == recipient
    assert refusal.peer is client.session.peer


def test_who_is_told_to_come_back_while_idle_is_not_refused():
    idle = Client().hello()
    assert codes(idle.session.stop()) == ["421 4.3.2"]
    busy = Client().hello()
    busy.send(ENVELOPE)
    busy.session.stop()
    assert codes(busy.send(b"RSET\r\n")) == ["250 2.0.0", "421 4.3.2"]
    late = Client()
    assert codes(late.session.close(replies.STOPPING)) == ["421 4.3.2"]
    assert [len(client.refusals) for client in (idle, busy, late)] == [0, 0, 1]
