"""A broker that says what it may not say: its connection is closed, and nothing of it is stored."""

import asyncio
import logging
import resource

import pytest

from fastsmtp import replies
from tests.support.fake_broker import FakeBroker
from tests.support.sink import eventually, on_uvloop, opened

REASONS = {
    "too many": "publish 1010 is confirmed, and 10 have begun",
    "closed": "behind the close of its channel",
    "huge": "a frame of 2147483640 bytes, and 131072 were negotiated",
}


@pytest.mark.parametrize("lie", REASONS)
@on_uvloop
async def test_a_lie_is_no_250_and_ends_the_connection(
    lie: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeBroker() as broker, opened(broker.url, "inbox") as rabbit:
        left = 10

        def policy(_: bytes) -> str:
            nonlocal left
            left -= 1
            return "silent" if left else lie

        broker.publishes = policy
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answers = [rabbit.put(b"x") for _ in range(10)]
        found = await asyncio.wait_for(asyncio.gather(*answers), 10)
        assert set(found) == {replies.NOT_STORED}
        said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        (line,) = [each for each in said if each.startswith("violation: ")]
        assert REASONS[lie] in line
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert after - before < 20_000  # KiB
        broker.publishes = "ack"
        await eventually(lambda: rabbit.availability.refusal is None, 30)
        assert await rabbit.put(b"y") is None


@on_uvloop
async def test_a_body_that_is_still_on_its_way_is_not_confirmed() -> None:
    async with FakeBroker() as broker, opened(broker.url, "inbox") as rabbit:
        broker.acks_early = True
        answer = rabbit.put(bytes(30_000_000))
        assert await asyncio.wait_for(answer, 20) is replies.NOT_STORED


@on_uvloop
async def test_a_frame_of_2_gib_before_the_login_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def boast(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x01\0\0\x7f\xff\xff\xff\0\x0a\0\x0a")
        await reader.read()  # as long as the client stays
        writer.close()

    async with await asyncio.start_server(boast, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with opened(f"amqp://127.0.0.1:{port}/", "inbox"):
            pass
    assert "RabbitMQ does not speak AMQP 0-9-1: a frame of 2147483655 bytes" in caplog.text
