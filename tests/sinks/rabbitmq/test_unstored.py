"""Publishes that the broker does not store are named in the log, and `/ready` knows of them."""

import asyncio
import logging
import shutil
import time
from collections.abc import Callable

import pytest

from fastsmtp import replies
from fastsmtp.counters import IN_A_ROW
from fastsmtp.process import health
from fastsmtp.process.health import trouble
from fastsmtp.process.totals import total
from fastsmtp.sinks.rabbitmq import unstored
from tests.support.fake_broker import FakeBroker
from tests.support.rabbitmq import MAJOR, Broker, declare, drain
from tests.support.sink import Opened, eventually, on_uvloop, opened


def warnings(caplog: pytest.LogCaptureFixture, beginning: str) -> list[str]:
    """Lines of level warning that begin so."""
    found = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    return [line for line in found if line.startswith(beginning)]


def ready(*rabbits: Opened) -> str:
    """What `/ready` says of the workers that have these sinks; "" where it is 200."""
    return trouble(total([rabbit.snapshot() for rabbit in rabbits]))


@on_uvloop
async def test_unroutable_is_one_line_with_queue_and_reason_and_then_a_count(
    broker: Broker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(broker.url, queue, rabbitmq_declare=False) as rabbit:
        for _ in range(20):
            assert await rabbit.put(b"x") is replies.UNROUTABLE
        (line,) = warnings(caplog, "unroutable")
        assert f"queue '{queue}' is missing (312 NO_ROUTE)" in line
        assert "451 4.3.5" in line
        assert "create the queue" in line
        assert "reload" not in line  # nobody would declare it
    # What was counted is written when it ends, or after a minute.
    _, count = warnings(caplog, "unroutable")
    assert "(19 like this in " in count


@on_uvloop
async def test_unroutable_through_an_exchange_names_both(
    broker: Broker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"rabbitmq_exchange": "amq.direct", "rabbitmq_declare": False}
    async with opened(broker.url, queue, **settings) as rabbit:
        assert await rabbit.put(b"x") is replies.UNROUTABLE
        (line,) = warnings(caplog, "unroutable")
        assert f"exchange 'amq.direct' has no queue bound with routing key '{queue}'" in line
        assert not rabbit.metrics.failures[-1][1].endswith("is missing")


@on_uvloop
async def test_a_nack_is_named_with_what_usually_causes_it(
    broker: Broker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    await declare(broker.url, queue, x_max_length=1, x_overflow="reject-publish")
    async with opened(broker.url, queue) as rabbit:
        answers = await asyncio.gather(*[rabbit.put(b"x") for _ in range(30)])
        assert replies.NACKED in answers
        (line,) = warnings(caplog, "nacked")
        assert f"a publish to queue '{queue}'" in line
        assert "reject-publish" in line


@on_uvloop
async def test_a_quorum_queue_without_a_leader_is_named_after_the_first_timeout(
    make_broker: Callable[..., Broker], queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As where its broker was killed while it was being made: the member's files are not there."""
    broker = make_broker()
    await asyncio.to_thread(broker.start)
    await declare(broker.url, queue, x_queue_type="quorum")
    await asyncio.to_thread(broker.stop)
    for folder in (broker.folder / "data").glob("*/quorum"):
        shutil.rmtree(folder)
    await asyncio.to_thread(broker.start)
    settings = {"rabbitmq_queue_type": "quorum", "rabbitmq_timeout": 1}
    async with opened(broker.url, queue, **settings) as rabbit:
        assert rabbit.availability.refusal is None
        assert await asyncio.wait_for(rabbit.put(b"x"), 10) is replies.NOT_STORED
        await eventually(lambda: bool(warnings(caplog, "timed out")), 10)
        (line,) = warnings(caplog, "timed out")
        for part in (
            f"amqp://guest@127.0.0.1:{broker.port}/",
            f"queue '{queue}' for 1 seconds; publishes whose mail is answered 451 4.3.0: 1. ",
            "quorum queue has no leader",
            f"rabbitmq-queues quorum_status {queue}",
        ):
            assert part in line


@pytest.mark.parametrize(
    ("declares", "finding"),
    [("ok", "RabbitMQ answers, but stores nothing"), ("silent", "does not answer anything else")],
)
@on_uvloop
async def test_a_timeout_says_whether_the_broker_answers_otherwise(
    declares: str,
    finding: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastsmtp.sinks.rabbitmq.topology.LOOK_TIMEOUT", 0.3)
    async with FakeBroker() as broker, opened(broker.url, "inbox", rabbitmq_timeout=0.3) as rabbit:
        broker.publishes = "silent"
        answer = rabbit.put(b"x")
        broker.declares = declares
        assert await asyncio.wait_for(answer, 10) is replies.NOT_STORED
        await eventually(lambda: bool(warnings(caplog, "timed out")), 10)
        assert finding in warnings(caplog, "timed out")[0]


@on_uvloop
async def test_not_ready_after_three_failures_in_a_row_and_ready_when_mail_is_stored() -> None:
    async with FakeBroker() as broker, opened(broker.url, "inbox") as rabbit:
        for _ in range(3):
            broker.publishes = "nack"
            for _ in range(IN_A_ROW - 1):
                assert await rabbit.put(b"x") is replies.NACKED
            assert ready(rabbit) == ""
            broker.publishes = "ack"
            assert await rabbit.put(b"x") is None
        broker.publishes = "nack"
        for _ in range(IN_A_ROW):
            await rabbit.put(b"x")
        assert ready(rabbit) == "mail is not stored: " + rabbit.metrics.failures[-1][1]
        assert "nacked" in ready(rabbit)
        broker.publishes = "ack"
        assert await rabbit.put(b"x") is None
        assert ready(rabbit) == ""


@on_uvloop
async def test_failures_of_several_workers_are_in_a_row_too() -> None:
    async with (
        FakeBroker() as broker,
        opened(broker.url, "inbox") as first,
        opened(broker.url, "inbox") as second,
    ):
        broker.publishes = "return"
        await first.put(b"x")
        await second.put(b"x")
        assert ready(first, second) == ""
        await first.put(b"x")
        assert "unroutable: queue 'inbox' is missing (312 NO_ROUTE)" in ready(first, second)
        broker.publishes = "ack"
        await second.put(b"x")
        assert ready(first, second) == ""


@on_uvloop
async def test_not_ready_for_thirty_seconds_after_the_last_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with FakeBroker() as broker, opened(broker.url, "inbox") as rabbit:
        broker.publishes = "nack"
        for _ in range(10):
            await rabbit.put(b"x")
        begun = time.monotonic()
        monkeypatch.setattr(health.time, "monotonic", lambda: begun + 29)
        assert ready(rabbit) != ""
        monkeypatch.setattr(health.time, "monotonic", lambda: begun + 30)
        assert ready(rabbit) == ""


@on_uvloop
async def test_a_queue_that_is_back_is_found_without_mail(
    broker: Broker, queue: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(unstored, "RECHECK", 0.5)
    caplog.set_level(logging.INFO)
    async with opened(broker.url, queue, rabbitmq_declare=False) as rabbit:
        for _ in range(3):
            await rabbit.put(b"x")
        assert "is missing" in ready(rabbit)
        await asyncio.sleep(1.2)  # looks in vain
        assert "is missing" in ready(rabbit)
        await declare(broker.url, queue)
        await eventually(lambda: not ready(rabbit), 3)
        assert f"RabbitMQ has the queue '{queue}'" in caplog.text
        assert await rabbit.put(b"y") is None
        assert rabbit.metrics.broker_connects == 2  # over the connections that there were
    assert len(await drain(broker.url, queue)) == 1


@on_uvloop
async def test_nobody_looks_for_a_queue_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unstored, "RECHECK", 0.1)
    async with FakeBroker() as broker, opened(broker.url, "inbox") as rabbit:
        broker.publishes = "nack"
        assert await rabbit.put(b"x") is replies.NACKED
        broker.publishes = "ack"
        assert await rabbit.put(b"x") is None
        declared = broker.seen.count("Queue.Declare")
        await asyncio.sleep(1)  # when it would have looked ten times
        assert broker.seen.count("Queue.Declare") == declared
        assert not rabbit.metrics.failures[-1][1].startswith("unroutable")


@on_uvloop
async def test_a_publish_that_is_not_allowed_is_one_line_and_not_ready_though_the_login_works(
    broker: Broker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The channel closes over each, and the next one opens: the broker was never away."""
    caplog.set_level(logging.INFO)
    await asyncio.to_thread(broker.ctl, "add_user", queue, "hunter2")
    await asyncio.to_thread(broker.ctl, "set_permissions", queue, ".*", "^$", ".*")
    url = broker.url.replace("guest:guest", f"{queue}:hunter2")
    async with opened(url, queue) as rabbit:
        for _ in range(IN_A_ROW):
            await eventually(lambda: rabbit.availability.refusal is None, 10)
            assert await rabbit.put(b"x") is replies.NOT_STORED
        await eventually(lambda: rabbit.availability.refusal is None, 10)
        assert "refused" in ready(rabbit)
        assert "ACCESS_REFUSED" in ready(rabbit)
        (line,) = warnings(caplog, "")
        assert line.startswith(f"refused: RabbitMQ refused a publish to queue '{queue}' ")
        access = "write access" if MAJOR >= 4 else "access"
        assert f"ACCESS_REFUSED - {access} to exchange 'amq.default'" in line
        assert "permissions" in line
        assert caplog.text.count("RabbitMQ is connected") == 1
        assert "RabbitMQ is back" not in caplog.text
        await asyncio.to_thread(broker.ctl, "set_permissions", queue, ".*", ".*", ".*")
        await eventually(lambda: rabbit.availability.refusal is None, 10)
        assert await rabbit.put(b"y") is None
        assert ready(rabbit) == ""
    await asyncio.to_thread(broker.ctl, "delete_user", queue)
