from collections.abc import Iterator
from datetime import UTC, datetime

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from fastsmtp._tail import Reader, Tail
from fastsmtp.route import Route
from fastsmtp.sinks.rabbitmq._amqp import Encoder

FRAME = 4096
ROOM = FRAME - 8
NAME = st.text(st.characters(codec="utf-8"), max_size=60).filter(
    lambda name: len(name.encode()) < 120
)
EXCHANGE = st.text("abcXYZ019-_.:", max_size=100)
ID = st.text("abcXYZ019", min_size=1, max_size=100)
OCTETS = st.one_of(
    st.binary(max_size=200),
    st.integers(0, 3 * ROOM).map(lambda size: bytes(range(256)) * (size // 256 + 1)),
    st.sampled_from([ROOM - 1, ROOM, ROOM + 1, 2 * ROOM]).map(bytes),
)
MESSAGE = st.tuples(
    ID,
    st.none() | st.integers(0, 255),
    st.sampled_from(["", "base64"]),
    OCTETS,
    st.one_of(OCTETS, OCTETS.map(bytearray)),
    st.integers(1, 2**33),
    st.none() | st.builds(Route.of, EXCHANGE, NAME),
    st.just("") | st.text("0123456789abcdef", min_size=64, max_size=64),
)


def pieces(octets: bytes) -> Iterator[bytes]:
    for start in range(0, len(octets), ROOM):
        yield octets[start : start + ROOM]


def expected(
    channel: int, exchange: str, key: str, persistent: bool, gzip: str, message, apart=False
) -> bytes:
    """The same publish through pamqp."""
    id, priority, encoding, prefix, tail, timestamp, route, fingerprint = message
    headers = {"mime-encoding": encoding, "fingerprint": fingerprint}
    if route is not None:
        exchange, key = route.exchange, route.routing_key
    body = prefix + tail
    properties = commands.Basic.Properties(
        content_type="application/json",
        content_encoding=gzip or None,
        headers={name: value for name, value in headers.items() if value} or None,
        delivery_mode=2 if persistent else 1,
        priority=priority,
        message_id=id,
        timestamp=datetime.fromtimestamp(timestamp, UTC),
        app_id="fastsmtp",
    )
    frames = [
        commands.Basic.Publish(exchange=exchange, routing_key=key, mandatory=True),
        ContentHeader(body_size=len(body), properties=properties),
    ]
    whole = len(body) <= ROOM
    parts = [body] if whole else [*pieces(prefix), *pieces(tail)]
    frames += [ContentBody(bytes(part)) for part in parts if part]
    return b"".join(pamqp.frame.marshal(frame, channel) for frame in frames)


@given(
    st.integers(1, 65535),
    EXCHANGE,
    NAME,
    st.booleans(),
    st.sampled_from(["", "gzip"]),
    st.lists(MESSAGE, max_size=5),
)
def test_frames_are_what_pamqp_makes(channel, exchange, key, persistent, gzip, messages) -> None:
    encoder = Encoder(channel, exchange, key, FRAME, persistent, gzip)
    for message in messages:
        id, priority, encoding, prefix, tail, *more = message
        before = encoder.size
        shared = Tail.of(tail)
        whole = encoder.publish(id, priority, encoding, prefix, shared, *more)
        assert whole == (len(prefix) + len(tail) <= ROOM)
        written = encoder.size - before
        frames = bytes(encoder.take())
        assert len(frames) == before + written
        if not whole:
            # Any cut at a multiple of the frame's room gives the same frames.
            rest = Reader(shared)
            frames += encoder.slice(rest, len(tail) // ROOM // 2 * ROOM)
            frames += encoder.slice(rest, len(tail))
            assert encoder.slice(rest, 1) == b""
        assert frames == expected(channel, exchange, key, persistent, gzip, message)


@given(st.lists(MESSAGE.filter(lambda message: len(message[3]) + len(message[4]) <= ROOM)))
def test_a_batch_is_its_messages_one_behind_the_other(messages) -> None:
    batch, alone = (Encoder(1, "", "outbox", FRAME, True, "") for _ in range(2))
    frames = bytearray()
    for message in messages:
        for encoder in (batch, alone):
            encoder.publish(*message[:4], Tail.of(message[4]), *message[5:])
        frames += alone.take()
    assert batch.take() == frames
    assert batch.take() == b""


def test_method_frames_of_many_routes_are_made_anew() -> None:
    encoder = Encoder(1, "", "outbox", FRAME, True, "")
    for number in [*range(5000), *range(5000)]:
        message = ("id", None, "", b"", b"x", 1, Route.of("", f"queue {number}"), "")
        encoder.publish(*message[:4], Tail.of(message[4]), *message[5:])
        assert encoder.take() == expected(1, "", "outbox", True, "", message)


def test_what_cannot_be_encoded_is_refused_and_leaves_nothing() -> None:
    encoder = Encoder(1, "", "outbox", FRAME, True, "")
    for id, priority in (("x" * 256, None), ("x", 256), ("x", -1)):
        with pytest.raises(ValueError, match=r"message-id|priority"):
            encoder.publish(id, priority, "", b"", Tail.of(b""), 0)
    for fingerprint in ("x" * 256, "ü" * 128):
        with pytest.raises(ValueError, match="the header fingerprint is longer"):
            encoder.publish("x", None, "", b"", Tail.of(b""), 0, None, fingerprint)
    assert encoder.take() == b""


@pytest.mark.parametrize(
    "arguments",
    [
        (0, "", "q", FRAME, True, ""),
        (65536, "", "q", FRAME, True, ""),
        (1, "x" * 256, "q", FRAME, True, ""),
        (1, "", "ü" * 128, FRAME, True, ""),
        (1, "", "q", 4095, True, ""),
    ],
)
def test_a_channel_that_cannot_be_is_refused(arguments) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        Encoder(*arguments)
