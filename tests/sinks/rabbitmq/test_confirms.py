"""What the broker says of publishes: vectors, every split, a slow model."""

import itertools
import tracemalloc

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from fastsmtp.sinks.rabbitmq._confirms import Confirms
from tests.oracle import confirms as oracle
from tests.oracle.confirms import Told

OURS = 258  # both octets of the number count

HEARTBEAT = Heartbeat().marshal()


def frame(value: object, channel: int = OURS) -> bytes:
    return pamqp.frame.marshal(value, channel)


def ack(tag: int, multiple: bool = False, channel: int = OURS) -> bytes:
    return frame(commands.Basic.Ack(tag, multiple), channel)


def nack(tag: int, multiple: bool = False, requeue: bool = False) -> bytes:
    return frame(commands.Basic.Nack(tag, multiple, requeue))


def header(name: str = "id", size: int = 0, channel: int = OURS) -> bytes:
    properties = commands.Basic.Properties(message_id=name)
    return frame(ContentHeader(body_size=size, properties=properties), channel)


def returned(name: str, *bodies: bytes, channel: int = OURS) -> bytes:
    """The whole content that comes back."""
    method = commands.Basic.Return(312, "NO_ROUTE", "exchange", "key")
    size = sum(map(len, bodies))
    parts = [frame(ContentBody(body), channel) for body in bodies]
    return frame(method, channel) + header(name, size, channel) + b"".join(parts)


def read(*parts: bytes) -> oracle.Heard:
    """What is made of octets that come in these parts."""
    told, others, broken = Told(), b"", False
    confirms = Confirms()
    confirms.watch(OURS, told)
    try:
        for part in parts:
            others += confirms.take(part)
    except ValueError:
        broken = True
    return oracle.Heard(told, others, broken)


CLOSE = commands.Channel.Close(406, "PRECONDITION_FAILED", 60, 40)
CONNECTION_CLOSE = commands.Connection.Close(320, "CONNECTION_FORCED", 0, 0)
OTHERS = [
    HEARTBEAT,
    frame(commands.Connection.Blocked("memory"), 0),
    frame(commands.Connection.Unblocked(), 0),
    frame(commands.Channel.CloseOk()),
    frame(CLOSE, 3),
    frame(commands.Confirm.SelectOk()),
    ack(7, channel=0),
    ack(7, channel=2),
    ack(7, channel=256),
    returned("id", b"body", channel=3),
    b"\x08\x01\x02\0\0\0\0\xce",  # not on our channel, AMQP says; not ours to judge
    b"\x01\x01\x02\0\0\0\0\xce",  # no method at all
]
"""Octets that go on to others, whole frames."""

WORDS = [
    *[(octets, [], octets) for octets in OTHERS],
    (ack(1), [("acked", 1, False)], b""),
    (ack(2**63 - 1), [("acked", 2**63 - 1, False)], b""),
    (ack(1)[:11] + b"\xff" * 8 + b"\0\xce", [("acked", 2**64 - 1, False)], b""),
    (ack(5, multiple=True), [("acked", 5, True)], b""),
    (nack(1), [("nacked", 1, False)], b""),
    (nack(5, multiple=True), [("nacked", 5, True)], b""),
    (nack(5, requeue=True), [("nacked", 5, False)], b""),
    (nack(5, multiple=True, requeue=True), [("nacked", 5, True)], b""),
    (returned("a"), [("returned", header("a"), "312 NO_ROUTE")], b""),
    (
        returned("a", b"\xce" * 70_000),
        [("returned", header("a", 70_000), "312 NO_ROUTE")],
        b"",
    ),
    (returned("a", b"x", b"yz"), [("returned", header("a", 3), "312 NO_ROUTE")], b""),
    (
        b"\x01\x01\x02\0\0\x03\x06\0\x3c\0\x32\0\x02"
        + (b"\xff" + b"x" * 255) * 3
        + b"\xce"
        + header("a"),
        [("returned", header("a"), f"2 {'x' * 255}")],
        b"",
    ),
]


@pytest.mark.parametrize(("octets", "told", "others"), WORDS)
def test_what_is_told_and_what_goes_on(octets, told, others) -> None:
    assert read(octets) == (told, others, False)
    assert read(ack(9) + octets + ack(10)) == (
        [("acked", 9, False), *told, ("acked", 10, False)],
        others,
        False,
    )


def test_before_watch_everything_goes_on_and_a_frame_that_has_begun_does_so_to_its_end() -> None:
    told, confirms = Told(), Confirms()
    stream = b"".join(octets for octets, _, _ in WORDS)
    assert confirms.take(stream + ack(1)[:10]) == stream + ack(1)[:10]
    assert confirms.channel == 0
    confirms.watch(OURS, told)
    assert confirms.channel == OURS
    assert confirms.take(ack(1)[10:] + ack(2)) == ack(1)[10:]
    assert told == [("acked", 2, False)]


def test_who_is_not_to_be_told_hears_nothing_and_others_do_not_either() -> None:
    told, confirms = Told(), Confirms()
    confirms.watch(OURS, told)
    assert confirms.take(ack(1) + ack(2)[:10]) == b""
    confirms.watch(OURS, None)
    assert confirms.take(ack(2)[10:] + returned("a", b"x") + HEARTBEAT) == HEARTBEAT
    assert told == [("acked", 1, False)]


def test_every_split_is_the_same() -> None:
    stream = b"".join(octets for octets, _, _ in WORDS if len(octets) < 1000)
    whole = read(stream)
    assert len(whole.told) == 11
    assert not whole.broken
    for at in range(len(stream) + 1):
        assert read(stream[:at], stream[at:]) == whole, at
    assert read(*[stream[at : at + 1] for at in range(len(stream))]) == whole


MALFORMED = {
    "an ack too short": b"\x01\x01\x02\0\0\0\x0c" + ack(1)[7:18] + b"\0\xce",
    "an ack too long": b"\x01\x01\x02\0\0\0\x0e" + ack(1)[7:20] + b"\0\xce",
    "an ack of 4 GB": b"\x01\x01\x02\xff\xff\xff\xff" + ack(1)[7:20],
    "a nack of no size": b"\x01\x01\x02\0\0\0\x04" + nack(1)[7:11] + b"\xce",
    "an ack without its end": ack(1)[:-1] + b"\0",
    "a nack without its end": nack(1)[:-1] + b"\x01",
    "a header without its end": header()[:-1] + b"\0",
    "a return too large": b"\x01\x01\x02\0\0\x03\x07\0\x3c\0\x32",
    "a return of 4 GB": b"\x01\x01\x02\xff\xff\xff\xff\0\x3c\0\x32",
    "a return without a reason": b"\x01\x01\x02\0\0\0\x06\0\x3c\0\x32\x01\x38\xce",
    "a return whose reason ends too late": b"\x01\x01\x02\0\0\0\x09\0\x3c\0\x32\x01\x38\x03ab\xce",
    "a header too large": b"\x02\x01\x02\0\x01\0\x01",
    "a frame larger than 128 KiB": b"\x03\x01\x02\0\x01\xff\xf9",
    "a frame of 2 GB on another channel": b"\x02\0\x01\x7f\xff\xff\xff",
    "a method of 2 GB on channel 0": b"\x01\0\0\x7f\xff\xff\xff",
    "an ack behind the channel's close": frame(CLOSE) + ack(2),
    "a nack behind the connection's close": frame(CONNECTION_CLOSE, 0) + nack(2),
    "a return behind the channel's close": frame(CLOSE) + HEARTBEAT + returned("a"),
}


@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED)
def test_malformed_is_an_error_and_what_came_before_counts(octets: bytes) -> None:
    for parts in ([ack(1) + octets + ack(2)], [ack(1), *(bytes([o]) for o in octets), ack(2)]):
        heard = read(*parts)
        assert heard.broken
        assert heard.told == [("acked", 1, False)]


def test_what_the_listener_raises_is_raised() -> None:
    class Fails(Told):
        def acked(self, tag: int, multiple: bool) -> None:
            raise KeyError(tag)

    confirms = Confirms()
    confirms.watch(OURS, Fails())
    with pytest.raises(KeyError):
        confirms.take(ack(1))


def test_the_body_of_a_large_frame_is_not_kept() -> None:
    confirms = Confirms()
    confirms.frame_max = 2**32 + 7
    confirms.watch(OURS, Told())
    part = ack(1) * 3000
    tracemalloc.start()
    try:
        assert confirms.take(b"\x03\x01\x02\xff\xff\xff\xff") == b""
        for _ in range(1000):
            assert confirms.take(part) == b""
        assert tracemalloc.get_traced_memory()[1] < 4 * len(part)
    finally:
        tracemalloc.stop()


def test_a_large_frame_that_others_would_keep_is_an_error_whatever_was_negotiated() -> None:
    confirms = Confirms()
    confirms.frame_max = 2**32 + 7
    confirms.watch(OURS, Told())
    with pytest.raises(ValueError, match="no body"):
        confirms.take(b"\x03\0\x01\xff\xff\xff\xff")


def test_what_goes_on_before_the_close_is_told() -> None:
    heard = read(ack(1) + frame(CLOSE) + HEARTBEAT)
    assert heard == ([("acked", 1, False)], frame(CLOSE) + HEARTBEAT, False)


def test_of_a_frame_that_is_ours_no_more_than_a_header_is_kept() -> None:
    confirms = Confirms()
    confirms.watch(OURS, Told())
    tracemalloc.start()
    try:
        confirms.take(b"\x02\x01\x02\0\x01\0\0")
        for _ in range(60):
            assert confirms.take(bytes(1000)) == b""
        assert tracemalloc.get_traced_memory()[0] < 70_000
        with pytest.raises(ValueError, match="end octet"):
            confirms.take(bytes(10_000))
    finally:
        tracemalloc.stop()


TAG = st.integers(0, 2**63 - 1)
CHANNEL = st.sampled_from([OURS, OURS, OURS, 0, 1, 2, 256, 257, 514])
NAME = st.text("abc", max_size=20)
FRAME = st.one_of(
    st.builds(ack, TAG, st.booleans(), CHANNEL),
    st.builds(nack, TAG, st.booleans(), st.booleans()),
    st.builds(lambda name, body, channel: returned(name, *body, channel=channel), NAME,
              st.lists(st.binary(min_size=1, max_size=40), max_size=3), CHANNEL),
    st.sampled_from([*OTHERS, frame(CLOSE), frame(CONNECTION_CLOSE, 0)]),
    st.builds(lambda octets, at, value: octets[:at] + bytes([value]) + octets[at + 1:],
              st.sampled_from([ack(1), nack(2), header(), returned("x", b"yz")]),
              st.integers(0, 30), st.integers(0, 255)),
)  # fmt: skip


@given(st.lists(FRAME, max_size=12), st.data())
def test_the_same_as_the_model_however_it_comes(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frames)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8).map(sorted))
    parts = [stream[a:b] for a, b in itertools.pairwise([0, *cuts, len(stream)])]
    expected, found = oracle.read(OURS, stream), read(*parts)
    assert found.told == expected.told
    assert found.broken == expected.broken
    if not found.broken:
        assert found.others == expected.others
