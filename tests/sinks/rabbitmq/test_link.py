"""The connection to the broker: lost, stuck, away, back. Real brokers, tortured."""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from fastsmtp import replies
from fastsmtp.availability import Availability
from fastsmtp.payload import Outgoing
from fastsmtp.replies import Reply
from fastsmtp.settings import Settings
from fastsmtp.sinks.rabbitmq import presence
from fastsmtp.sinks.rabbitmq.cluster import Cluster
from fastsmtp.sinks.rabbitmq.counters import BrokerCounters
from fastsmtp.sinks.rabbitmq.delivery import Delivery
from fastsmtp.sinks.rabbitmq.limit import BodyLimit
from fastsmtp.sinks.rabbitmq.publisher import Publisher
from fastsmtp.sinks.rabbitmq.unstored import Unstored
from tests.support.between import Between
from tests.support.fake_broker import FakeBroker
from tests.support.rabbitmq import Broker, drain, free_ports
from tests.support.sink import Opened, eventually, on_uvloop, opened

MIB = 1024 * 1024
MakeBroker = Callable[..., Broker]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, debug aside."""
    return [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG]


@on_uvloop
async def test_no_answer_while_stopped_and_a_refusal_after_the_timeout(
    paused: Broker, queue: str
) -> None:
    async with opened(paused.url, queue, rabbitmq_timeout=1) as rabbit:
        assert await rabbit.put(b"before") is None
        paused.pause()
        answers = [rabbit.put(b"into silence") for _ in range(5)]
        large = rabbit.put(bytes(10 * MIB))
        await asyncio.sleep(0.7)  # of the second that rabbitmq-timeout is
        assert not any(answer.done() for answer in [*answers, large])
        found = await asyncio.wait_for(asyncio.gather(*answers, large), 3)
        assert set(found) == {replies.NOT_STORED}
        assert rabbit.availability.refusal is replies.NOT_STORED
        assert await rabbit.put(b"away") is replies.NOT_STORED
        paused.resume()
        await eventually(lambda: rabbit.availability.refusal is None, 30)
        assert await rabbit.put(b"after") is None
    found = [message.body for message in await drain(paused.url, queue)]
    assert found[0] == b"before"
    assert found[-1] == b"after"
    assert b"away" not in found


@on_uvloop
async def test_a_late_confirm_is_not_taken_for_other_mail(paused: Broker, queue: str) -> None:
    async with opened(paused.url, queue, rabbitmq_timeout=1) as rabbit:
        for _ in range(3):
            paused.pause()
            late = rabbit.put(b"late")
            assert await asyncio.wait_for(late, 3) is replies.NOT_STORED
            paused.resume()
            await eventually(lambda: rabbit.availability.refusal is None, 30)
            found = await asyncio.gather(*[rabbit.put(b"x") for _ in range(50)])
            assert found == [None] * 50
    found = [message.body for message in await drain(paused.url, queue)]
    assert found.count(b"x") == 150


@on_uvloop
async def test_down_at_start_up_later(
    make_broker: MakeBroker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    broker = make_broker()
    async with opened(broker.url.replace("guest:guest", "guest:gu%65st"), queue) as rabbit:
        assert rabbit.availability.refusal is replies.NOT_STORED
        assert rabbit.availability.greeting is None
        assert await rabbit.put(b"too early") is replies.NOT_STORED
        await asyncio.sleep(1)  # more attempts, which are no line each
        (line,) = lines(caplog)
        assert f"tried amqp://guest@127.0.0.1:{broker.port}/ " in line
        assert "rabbitmq-address: none" in line
        await asyncio.to_thread(broker.start)
        await eventually(lambda: rabbit.availability.refusal is None, 30)
        assert await rabbit.put(b"in time") is None
    assert [line.partition(":")[0] for line in lines(caplog)] == [
        "RabbitMQ cannot be reached",
        "RabbitMQ is back",
    ]
    assert "guest:" not in caplog.text
    assert "gu%65st" not in caplog.text
    assert len(await drain(broker.url, queue)) == 1


@on_uvloop
async def test_the_first_address_dead(broker: Broker, queue: str) -> None:
    (dead,) = free_ports(1)
    url = f"amqp://guest:guest@127.0.0.1:{dead}/,{broker.url}"
    async with opened(url, queue) as rabbit:
        assert rabbit.availability.refusal is None
        assert await rabbit.put(b"x") is None


@on_uvloop
async def test_goes_to_the_other_node(
    broker: Broker, killable: Broker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with opened(f"{killable.url},{broker.url}", queue) as rabbit:
        assert await rabbit.put(b"x") is None
        killable.kill()
        await eventually(lambda: rabbit.metrics.broker_connects == 3, 30)
        assert rabbit.availability.refusal is None
        assert await rabbit.put(b"y") is None
    assert [message.body for message in await drain(broker.url, queue)] == [b"y"]
    assert len(lines(caplog)) == 3  # connected, went away, back


@on_uvloop
async def test_wrong_password_is_told_without_it(
    broker: Broker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(broker.url.replace("guest:guest", "guest:hunter2"), queue) as rabbit:
        assert await rabbit.put(b"x") is replies.NOT_STORED
    assert "RabbitMQ refused the connection" in caplog.text
    assert "(ACCESS_REFUSED - Login was refused" in caplog.text
    assert "cannot be reached" not in caplog.text
    assert "hunter2" not in caplog.text


@on_uvloop
async def test_a_wrong_vhost_is_told(
    broker: Broker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(broker.url + "nowhere", queue) as rabbit:
        assert await rabbit.put(b"x") is replies.NOT_STORED
        assert "vhost nowhere not found" in rabbit.availability.trouble
    assert "RabbitMQ refused the connection" in caplog.text
    assert "(NOT_ALLOWED - vhost nowhere not found)" in caplog.text
    assert "cannot be reached" not in caplog.text


@on_uvloop
async def test_a_user_without_the_vhost_is_told(
    broker: Broker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker.ctl("add_user", queue, "hunter2")
    async with opened(broker.url.replace("guest:guest", f"{queue}:hunter2"), queue):
        pass
    assert "RabbitMQ refused the connection" in caplog.text
    assert f"(NOT_ALLOWED - access to vhost '/' refused for user '{queue}')" in caplog.text
    assert "hunter2" not in caplog.text


@on_uvloop
async def test_a_broker_that_came_up_and_refuses_is_news(
    make_broker: MakeBroker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = make_broker()
    async with opened(broker.url + "nowhere", queue) as rabbit:
        assert "cannot be reached" in caplog.text
        await asyncio.to_thread(broker.start)
        await eventually(lambda: "vhost nowhere not found" in rabbit.availability.trouble, 30)
    found = [line for line in lines(caplog) if line.startswith("RabbitMQ")]
    assert [line.partition(":")[0] for line in found] == [
        "RabbitMQ cannot be reached",
        "RabbitMQ refused the connection",
    ]


@on_uvloop
async def test_the_start_says_in_one_line_what_mail_meets(
    broker: Broker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with opened(broker.url, queue, rabbitmq_declare=False) as rabbit:
        size = rabbit.availability.maxsize
    (line,) = lines(caplog)
    assert f"RabbitMQ is connected: {broker.url.replace(':guest@', '@')}, version " in line
    assert f"queue '{queue}' is missing: mail is answered 451 4.3.5 until it exists" in line
    assert f"EHLO says SIZE {size}" in line


@on_uvloop
async def test_a_port_without_tls_is_told(
    broker: Broker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(broker.url.replace("amqp:", "amqps:"), queue) as rabbit:
        assert await rabbit.put(b"x") is replies.NOT_STORED
    assert "the port answers without TLS: use amqp://" in caplog.text


@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 \r\n\r\n", b"AMQP\0\1\0\0"]
)
@on_uvloop
async def test_a_port_of_another_service_is_told_at_once(
    greeting: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()  # as long as the client stays
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with opened(f"amqp://127.0.0.1:{port}/", "inbox"):
            pass
    assert "RabbitMQ cannot be reached" in caplog.text
    assert "(the port answers, but not with AMQP 0-9-1: " in caplog.text


@on_uvloop
async def test_greeting_after_a_long_absence(
    killable: Broker, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "LONG_AWAY", 3.0)
    async with opened(killable.url, queue) as rabbit:
        killable.kill()
        await eventually(lambda: rabbit.availability.refusal is replies.NOT_STORED, 30)
        assert rabbit.availability.greeting is None
        await eventually(lambda: rabbit.availability.greeting is replies.UNAVAILABLE, 3 * 3.0)
        killable.launch()
        await asyncio.to_thread(killable.wait)
        await eventually(lambda: rabbit.availability.refusal is None, 30)
        assert rabbit.availability.greeting is None


@on_uvloop
async def test_a_connection_that_an_operator_closes_comes_back(broker: Broker, queue: str) -> None:
    async with opened(broker.url, queue) as rabbit:
        broker.ctl("close_all_connections", "test")
        await eventually(lambda: rabbit.metrics.broker_connects == 4, 30)
        assert await rabbit.put(b"x") is None
        assert await rabbit.put(bytes(2 * MIB)) is None


@on_uvloop
async def test_cancelled_tasks_answer_and_come_back(
    broker: Broker, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever cancels everything in the loop must not leave mail without an answer."""
    monkeypatch.setattr("fastsmtp.sinks.rabbitmq.link.LAST_DELAY", 0.1)
    async with opened(broker.url, queue) as rabbit:
        answers = [rabbit.put(b"x") for _ in range(100)]
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        found = await asyncio.wait_for(asyncio.gather(*answers), 30)
        assert set(found) <= {None, replies.NOT_STORED}
        await eventually(lambda: rabbit.availability.refusal is None, 30)
        await eventually(lambda: rabbit.metrics.broker_connects >= 4, 30)
        assert await rabbit.put(b"y") is None


class Load:
    """Keeps messages in flight until it is stopped; knows what was acknowledged."""

    def __init__(self, rabbit: Opened, flight: int) -> None:
        self.rabbit = rabbit
        self.flight = flight
        self.running = True
        self.acknowledged: set[bytes] = set()
        self.refused = 0
        self.put = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for lane in range(self.flight):
                group.create_task(self.lane(lane))

    async def lane(self, lane: int) -> None:
        number = 0
        while self.running:
            number += 1
            body = b"%d/%d" % (lane, number)
            padding = b" " * (300_000 if lane == 0 else 500)
            self.put += 1
            answer = await self.rabbit.put(padding, prefix=body)
            if answer is None:
                self.acknowledged.add(body)
            else:
                assert answer is replies.NOT_STORED
                self.refused += 1
                await asyncio.sleep(0.02)  # the rate of the client


@on_uvloop
async def test_a_cancellation_that_the_library_swallows_keeps_nobody_waiting(
    broker: Broker, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = Cluster.open

    async def swallow(self: Cluster, address: str) -> Any:
        try:
            await asyncio.sleep(60)  # until it is cancelled
        except asyncio.CancelledError:
            return await really(self, address)

    monkeypatch.setattr(Cluster, "open", swallow)
    monkeypatch.setattr("fastsmtp.sinks.rabbitmq.sink.START_TIMEOUT", 0.2)
    async with opened(broker.url, queue) as rabbit:
        closing = asyncio.create_task(rabbit.sink.close())
        await asyncio.wait_for(closing, 15)


@on_uvloop
async def test_kill_9_under_load_loses_nothing(killable: Broker, queue: str) -> None:
    async with opened(killable.url, queue, rabbitmq_publishers=2) as rabbit:
        load = Load(rabbit, 200)
        running = asyncio.create_task(load.run())
        for _ in range(2):
            before = len(load.acknowledged)
            await eventually(lambda: len(load.acknowledged) > before + 500, 30)  # noqa: B023
            killable.kill()
            await eventually(lambda: rabbit.availability.refusal is not None, 30)
            killable.launch()
            await asyncio.to_thread(killable.wait)
            # Ten seconds are promised.
            await eventually(lambda: rabbit.availability.refusal is None, 30)
        load.running = False
        await asyncio.wait_for(running, 30)
        assert load.put == len(load.acknowledged) + load.refused
    found = {message.body.strip() for message in await drain(killable.url, queue)}
    assert load.acknowledged - found == set()
    assert load.refused > 0


ACK = re.compile(rb"(\x01..\0\0\0\x0d\0\x3c\0\x50.{9})\xce", re.DOTALL)


def spoilt(octets: bytes) -> bytes:
    """Acks have no end octet."""
    return ACK.sub(rb"\1\0", octets)


def strange(octets: bytes) -> bytes:
    """What comes back has another message-id: it is not known whose ack must not count."""
    return re.sub(rb"x(?=\d)", b"y", octets)


@pytest.mark.parametrize(("change", "exists"), [(spoilt, True), (strange, False)])
@on_uvloop
async def test_a_broker_that_makes_no_sense_has_stored_nothing(
    broker: Broker, queue: str, change: Callable[[bytes], bytes], exists: bool
) -> None:
    async with (
        Between(broker) as between,
        opened(between.url, queue, rabbitmq_declare=exists) as rabbit,
    ):
        between.change = change
        answers = [rabbit.put(b"body") for _ in range(10)]
        found = await asyncio.wait_for(asyncio.gather(*answers), 30)
        assert set(found) == {replies.NOT_STORED}
        between.change = bytes
        await eventually(lambda: rabbit.availability.refusal is None, 30)
        assert await rabbit.put(b"body") is (None if exists else replies.UNROUTABLE)


@on_uvloop
async def test_what_is_said_of_an_old_channel_confirms_nothing_on_the_new_one(
    broker: Broker, queue: str
) -> None:
    """Both have a delivery tag 1."""
    settings, availability = Settings(rabbitmq_inbox=queue), Availability(MIB)
    metrics = BrokerCounters()
    limit = BodyLimit(None, availability)
    cluster = Cluster(settings, limit)
    unstored = Unstored(settings, metrics)
    publisher = Publisher(10, limit, metrics, unstored, cluster.encoder)

    def put() -> "asyncio.Future[Reply | None]":
        answer: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        outgoing = Outgoing("id", None, "", b"", b"body")
        publisher.put(
            (outgoing,), Delivery(1, lambda outcomes: answer.set_result(outcomes[0]), lambda: None)
        )
        return answer

    async with Between(broker) as before, Between(broker) as after:
        opened = [await cluster.open(between.url) for between in (before, after)]
        before.keep()
        after.keep()
        publisher.attach(opened[0][1], opened[0][0].abort)
        first = put()
        await eventually(lambda: bool(ACK.search(before.kept)), 30)
        publisher.detach(TimeoutError("from a test"))
        assert await first is replies.NOT_STORED
        publisher.attach(opened[1][1], opened[1][0].abort)
        second = put()
        await eventually(lambda: bool(ACK.search(after.kept)), 30)
        before.release()
        await opened[0][0].channel()  # the broker's answer comes behind what was kept
        assert not second.done()
        after.release()
        assert await asyncio.wait_for(second, 30) is None
        for connection, _ in opened:
            await connection.hang_up()


@pytest.mark.parametrize("others", ["ack", "nack"])
@on_uvloop
async def test_each_message_waits_for_rabbitmq_timeout_whatever_becomes_of_others(
    others: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeBroker() as broker, opened(broker.url, "inbox", rabbitmq_timeout=1) as rabbit:
        broker.publishes = lambda body: "silent" if body == b"mute" else others
        begun = time.monotonic()
        mute = [rabbit.put(b"mute")]
        while not all(each.done() for each in mute):
            await rabbit.put(b"x")
            if time.monotonic() - begun < 0.5:
                mute.append(rabbit.put(b"mute"))
            await asyncio.sleep(0.05)  # the rate of the client
            assert time.monotonic() - begun < 3, "rabbitmq-timeout is 1 second"
        assert {each.result() for each in mute} == {replies.NOT_STORED}
        assert time.monotonic() - begun < 2.5
        # Where all others are nacked, one more to the same address is tried.
        assert rabbit.metrics.broker_connects == (2 if others == "ack" else 3)
        assert rabbit.metrics.broker_state == "up"
        assert any(line.startswith("late: ") for line in lines(caplog))
        broker.publishes = "ack"
        assert await rabbit.put(b"y") is None


@on_uvloop
async def test_what_waits_for_the_window_is_answered_in_time_too() -> None:
    async with (
        FakeBroker() as broker,
        opened(broker.url, "inbox", rabbitmq_timeout=1, rabbitmq_throttle=1) as rabbit,
    ):
        broker.publishes = "silent"
        begun = time.monotonic()
        answers = [rabbit.put(b"x") for _ in range(5)]
        assert set(await asyncio.gather(*answers)) == {replies.NOT_STORED}
        assert time.monotonic() - begun < 2.5
        assert rabbit.metrics.broker_published == 1
