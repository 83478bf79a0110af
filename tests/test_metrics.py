"""metrics and _durations: what is counted is what happened."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastsmtp import replies
from fastsmtp._durations import BOUNDS, Durations, now
from fastsmtp._session import Rules, Session
from fastsmtp._sizes import BOUNDS as SIZE_BOUNDS
from fastsmtp._sizes import Sizes
from fastsmtp.availability import Availability
from fastsmtp.metrics import Metrics
from fastsmtp.peer import Peer
from fastsmtp.refusals import Refusals
from fastsmtp.replies import Reply
from fastsmtp.settings import Settings

PEER = Peer("127.0.0.1", 25, "127.0.0.1", 4000)


def bucket_of(seconds):
    """Where a duration was counted."""
    durations = Durations()
    durations.since(now() - seconds)
    counted = durations.snapshot()
    assert counted["sum"] == pytest.approx(seconds, abs=0.1)
    (bucket,) = [bound for bound, number in counted["buckets"].items() if number]
    return bucket


def test_a_duration_is_counted_at_the_first_bound_that_holds_it():
    assert bucket_of(0) == "0.0005"
    for bound, following in zip(BOUNDS[3:], (*BOUNDS[4:], "+Inf"), strict=True):
        assert bucket_of(bound * 0.7) == str(bound)  # a machine may sleep for a moment
        assert bucket_of(bound + 0.0001) == str(following)


def test_durations_add_up():
    durations = Durations()
    for _ in range(1000):
        durations.since(now() - 0.3)
    counted = durations.snapshot()
    assert sum(counted["buckets"].values()) == counted["buckets"]["0.5"] == 1000
    assert counted["sum"] == pytest.approx(300, rel=0.1)


def test_a_size_is_counted_at_the_first_bound_that_holds_it():
    for size, bucket in (
        *[(0, "1024"), (1024, "1024"), (1025, "4096"), (1 << 20, "1048576")],
        *[(1 << 28, "268435456"), ((1 << 28) + 1, "+Inf"), (1 << 40, "+Inf")],
    ):
        sizes = Sizes()
        sizes.add(size)
        counted = sizes.snapshot()
        assert counted["sum"] == size
        assert [bound for bound, number in counted["buckets"].items() if number] == [bucket]
    assert [str(bound) for bound in SIZE_BOUNDS] == [*counted["buckets"]][:-1]


def test_a_snapshot_is_fit_for_json():
    snapshot = Metrics().snapshot(Availability(1))
    assert json.loads(json.dumps(snapshot)) == snapshot


def test_a_closed_gate_takes_no_mail():
    availability = Availability(1)
    assert Metrics().snapshot(availability)["accepting"] == 1
    availability.refusal = replies.NOT_STORED
    assert Metrics().snapshot(availability)["accepting"] == 0
    availability.refusal, availability.greeting = None, replies.UNAVAILABLE
    assert Metrics().snapshot(availability)["accepting"] == 0


COMMANDS = [
    b"EHLO me\r\n",
    b"MAIL FROM:<a@example.com>\r\n",
    b"MAIL FROM:<a@example.com> SIZE=999999\r\n",
    b"RCPT TO:<b@example.org>\r\n",
    b"RCPT TO:<>\r\n",
    b"NOOP\r\n",
    b"RSET\r\n",
    b"WHAT\r\n",
    b"DATA\r\n",
    b"Hi\r\n.\r\n",
    b"BDAT 4 LAST\r\nHi\r\n",
    b"BDAT 2000 LAST\r\n" + 1000 * b"\r\n",
    b"QUIT\r\n",
]


@given(st.lists(st.sampled_from(COMMANDS)))
@example(COMMANDS)
@example([*COMMANDS[:2], COMMANDS[3], b"DATA\r\n", b"Hi\r\n.\r\n"])
def test_replies_are_counted_as_they_are_said(commands):
    metrics = Metrics()
    rules = Rules(Settings(smtp_hostname="mx.example.com"))
    session = Session(rules, Availability(1000), metrics, Refusals(), PEER)
    out = []
    for command in commands:
        out.append(session.feed(command))
        if session.question:
            stored = replies.queued([("01", "b@example.org")])
            out.append(session.answer(session.question, stored))
    said = [line[:3].decode() for line in b"".join(out).split(b"\r\n") if line[3:4] == b" "]
    hellos = b"".join(out).count(b"LIMITS RCPTMAX")
    counted = {kind: number for kind, number in metrics.replies.items() if number}
    assert sum(counted.values()) == len(said) - hellos
    for code in set(said) - {"250"}:
        assert sum(n for kind, n in counted.items() if kind[:3] == code) == said.count(code)


def test_every_constant_has_a_kind_of_its_own():
    constants = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}
    kinds = {name: reply.kind for name, reply in constants.items()}
    assert len(set(kinds.values())) == len(kinds)
    assert kinds["NOT_STORED"] == "451 4.3.0 not_stored"
    assert kinds["GO_AHEAD"] == "354  go_ahead"
    assert {*kinds.values(), replies.QUEUED} == set(replies.KINDS)


def test_replies_made_on_the_way_share_a_few_kinds():
    assert replies.queued([("1", "a@b")]).kind == replies.queued([("2", "c@d")]).kind
    assert Reply(550, "5.7.1", "for you only").kind == "550 5.7.1 other"
