"""What becomes of mail that is put into the RabbitMQ sink, with a real broker."""

import asyncio
import gzip
import resource
import time
from collections.abc import Iterator

import aio_pika
import pytest

from fastsmtp import replies
from fastsmtp._tail import Tail
from fastsmtp.payload import Outgoing
from fastsmtp.route import Route
from tests.support.rabbitmq import MAJOR, MISSING, Broker, declare, drain, running
from tests.support.sink import eventually, on_uvloop, opened

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def limited(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A broker that takes bodies of so many octets."""
    if MISSING:
        pytest.skip(MISSING)
    with running(max_message_size=str(request.param)) as made:
        yield made


def bodies(messages: list) -> list[bytes]:
    return [message.body for message in messages]


@on_uvloop
async def test_an_answer_means_that_the_queue_has_it(broker: Broker, queue: str) -> None:
    async with opened(broker.url, queue) as rabbit:
        assert rabbit.availability.refusal is None
        answers = [rabbit.put(b"%d" % number, prefix=b"{") for number in range(3000)]
        assert set(await asyncio.gather(*answers)) == {None}
    assert bodies(await drain(broker.url, queue)) == [b"{%d" % n for n in range(3000)]


@on_uvloop
async def test_properties(broker: Broker, queue: str) -> None:
    begun = int(time.time())
    async with opened(broker.url, queue) as rabbit:
        plain = rabbit.outgoing(b"tail", prefix=b"prefix")
        urgent = rabbit.outgoing(b"x", priority=9, encoding="base64")
        await rabbit.send(plain)
        await rabbit.send(urgent)
    first, second = await drain(broker.url, queue)
    assert first.body == b"prefixtail"
    assert first.content_type == "application/json"
    assert first.content_encoding is None
    assert first.delivery_mode == 2
    assert first.message_id == plain.id
    assert begun <= first.timestamp.timestamp() <= time.time()
    assert first.app_id == "fastsmtp"
    assert not first.priority
    assert first.headers == {}
    assert (second.priority, second.headers) == (9, {"mime-encoding": "base64"})


@pytest.mark.parametrize("size", [1, 131064, 3 * MIB])
@pytest.mark.parametrize("encoding", ["", "gzip"])
@on_uvloop
async def test_a_fingerprint_is_a_header_beside_all_else(
    broker: Broker, queue: str, size: int, encoding: str
) -> None:
    other = f"{queue}-other"
    await declare(broker.url, other)
    async with opened(
        broker.url, queue, rabbitmq_encoding=encoding, rabbitmq_persistent=False
    ) as rabbit:
        for fingerprint in ("", "0f" * 32):
            one = rabbit.outgoing(b"x" * size, b"{", 9, "base64", Route.of("", other), fingerprint)
            assert await rabbit.send(one) == [None]
    first, second = await drain(broker.url, other)
    assert first.headers == {"mime-encoding": "base64"}
    assert second.headers == {"mime-encoding": "base64", "fingerprint": "0f" * 32}
    for found in (first, second):
        assert (found.priority, found.delivery_mode) == (9, 1)
        assert found.content_encoding == (encoding or None)
        body = gzip.decompress(found.body) if encoding else found.body
        assert body == b"{" + b"x" * size


@on_uvloop
async def test_transient_where_it_is_not_to_be_persistent(broker: Broker, queue: str) -> None:
    async with opened(broker.url, queue, rabbitmq_persistent=False) as rabbit:
        assert await rabbit.put(b"x") is None
    assert (await drain(broker.url, queue))[0].delivery_mode == 1


@pytest.mark.parametrize("size", [0, 1, 131063, 131064, 131065, MIB, MIB + 1, 3 * MIB + 7])
@on_uvloop
async def test_bodies_of_every_size_arrive_whole(broker: Broker, queue: str, size: int) -> None:
    tail = (bytes(range(256)) * (size // 256 + 1))[:size]
    async with opened(broker.url, queue) as rabbit:
        assert await rabbit.put(tail) is None
        assert await rabbit.put(bytearray(tail), prefix=b"prefix") is None
        assert await rabbit.put(b"", prefix=tail) is None
    assert bodies(await drain(broker.url, queue)) == [tail, b"prefix" + tail, tail]


@pytest.mark.parametrize("size", [10, 20_000, 200_000, 2 * MIB])
@on_uvloop
async def test_recipients_share_a_tail_and_are_settled_together(
    broker: Broker, queue: str, size: int
) -> None:
    tail = b"t" * size
    shared = Tail.of(tail)
    async with opened(broker.url, queue) as rabbit:
        message = [rabbit.outgoing(shared, prefix=b"recipient %d " % n) for n in range(20)]
        assert await rabbit.send(*message) == [None] * 20
    found = await drain(broker.url, queue)
    assert bodies(found) == [b"recipient %d %b" % (n, tail) for n in range(20)]
    assert len({message.message_id for message in found}) == 20


@on_uvloop
async def test_unroutable_is_told_and_others_are_not_touched(broker: Broker, queue: str) -> None:
    await declare(broker.url, queue)
    async with opened(broker.url, queue, rabbitmq_declare=False) as rabbit:
        async with opened(broker.url, "nowhere-" + queue, rabbitmq_declare=False) as lost:
            for _ in range(3):
                answers = [sink.put(b"x" * 5000) for _ in range(50) for sink in (rabbit, lost)]
                found = await asyncio.gather(*answers)
                assert found[::2] == [None] * 50
                assert found[1::2] == [replies.UNROUTABLE] * 50
        assert lost.metrics.broker_returned == 150
    assert len(await drain(broker.url, queue)) == 150


@on_uvloop
async def test_the_same_message_twice_is_unroutable_twice(broker: Broker, queue: str) -> None:
    """As when a stored message is sent again while its first publish is unconfirmed."""
    async with opened(broker.url, queue, rabbitmq_declare=False) as rabbit:
        outgoing = rabbit.outgoing(b"x")
        found = await asyncio.gather(rabbit.send(outgoing), rabbit.send(outgoing))
        assert found == [[replies.UNROUTABLE]] * 2


@on_uvloop
async def test_a_queue_deleted_under_way_is_unroutable_until_somebody_makes_it(
    broker: Broker, queue: str
) -> None:
    await declare(broker.url, queue)
    async with opened(broker.url, queue, rabbitmq_declare=False) as rabbit:
        assert await rabbit.put(b"x") is None
        assert len(await drain(broker.url, queue)) == 1
        broker.ctl("delete_queue", queue)
        assert await rabbit.put(b"x") is replies.UNROUTABLE
        await declare(broker.url, queue)
        assert await rabbit.put(b"y") is None
    assert bodies(await drain(broker.url, queue)) == [b"y"]


@on_uvloop
async def test_a_nack_is_not_stored(broker: Broker, queue: str) -> None:
    await declare(broker.url, queue, x_max_length=10, x_overflow="reject-publish")
    async with opened(broker.url, queue) as rabbit:
        found = await asyncio.gather(*[rabbit.put(b"%d" % number) for number in range(30)])
        stored = [number for number, answer in enumerate(found) if answer is None]
        assert 10 <= len(stored) < 30
        assert set(found) == {None, replies.NACKED}
        assert rabbit.metrics.broker_nacked == 30 - len(stored)


@on_uvloop
async def test_each_recipient_has_the_outcome_of_its_own_publish(
    broker: Broker, queue: str
) -> None:
    await declare(broker.url, queue, x_max_length=10, x_overflow="reject-publish")
    async with opened(broker.url, queue) as rabbit:
        message = [rabbit.outgoing(b"%d" % number) for number in range(30)]
        outcomes = await rabbit.send(*message)
        assert set(outcomes) == {None, replies.NACKED}
    stored = [message[n].id for n, outcome in enumerate(outcomes) if outcome is None]
    assert [each.message_id for each in await drain(broker.url, queue)] == stored


@on_uvloop
async def test_a_route_is_taken_per_recipient_and_none_is_the_settings(
    broker: Broker, queue: str
) -> None:
    """Small bodies and ones that need several frames; the default exchange and another one."""
    queues = [f"{queue}-{name}" for name in ("a", "b", "c")]
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(f"{queue}-x", "direct", durable=True)
        for name in queues:
            made = await channel.declare_queue(name, durable=True)
            await made.bind(exchange, f"key {name}")
    a, b = Route.of("", queues[0]), Route.of("", queues[1])
    c = Route.of(f"{queue}-x", f"key {queues[2]}")
    lost = Route.of("", f"{queue}-nowhere")
    tail = b"t" * 300_000
    async with opened(broker.url, queue, rabbitmq_encoding="gzip") as rabbit:
        assert await rabbit.put(b"compressed", route=a) is None
    async with opened(broker.url, queue) as rabbit:
        for body in (b"x", tail):
            message = [rabbit.outgoing(body, route=each) for each in (a, None, b, lost, c, a)]
            assert await rabbit.send(*message) == [None, None, None, replies.UNROUTABLE, None, None]
    found = [bodies(await drain(broker.url, name)) for name in (queue, *queues)]
    found[1][0] = gzip.decompress(found[1][0])
    assert found == [[b"x", tail], [b"compressed", b"x", b"x", tail, tail], *[[b"x", tail]] * 2]


@on_uvloop
async def test_an_unroutable_route_is_named_and_the_settings_queue_is_not(
    broker: Broker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(broker.url, queue) as rabbit:
        route = Route.of("", f"{queue}-of-a-user")
        assert await rabbit.put(b"x", route=route) is replies.UNROUTABLE
        assert f"queue '{queue}-of-a-user' is missing" in caplog.text
        assert "fastsmtp reload" not in caplog.text  # which would not declare it
        assert await rabbit.put(b"x") is None


@on_uvloop
async def test_quorum_queue(broker: Broker, queue: str) -> None:
    async with opened(broker.url, queue, rabbitmq_queue_type="quorum") as rabbit:
        found = await asyncio.gather(*[rabbit.put(b"%d" % number) for number in range(500)])
        assert set(found) == {None}
    assert len(await drain(broker.url, queue)) == 500


@on_uvloop
async def test_several_publishers_share_the_work(broker: Broker, queue: str) -> None:
    async with opened(broker.url, queue, rabbitmq_publishers=3, rabbitmq_throttle=5) as rabbit:
        assert rabbit.metrics.broker_connects == 4  # one is for large bodies
        found = await asyncio.gather(*[rabbit.put(b"%d" % number) for number in range(500)])
        assert set(found) == {None}
    assert sorted(bodies(await drain(broker.url, queue))) == sorted(b"%d" % n for n in range(500))


@on_uvloop
async def test_the_window_is_kept(broker: Broker, queue: str) -> None:
    async with opened(broker.url, queue, rabbitmq_throttle=7) as rabbit:
        answers = [rabbit.put(b"%d" % number) for number in range(100)]
        metrics = rabbit.metrics
        while not all(answer.done() for answer in answers):
            assert metrics.broker_published - metrics.broker_confirmed <= 7
            await asyncio.sleep(0)
    assert bodies(await drain(broker.url, queue)) == [b"%d" % n for n in range(100)]


@on_uvloop
async def test_gzip(broker: Broker, queue: str) -> None:
    tails = [b"short", b"long" * MIB]
    async with opened(broker.url, queue, rabbitmq_encoding="gzip") as rabbit:
        for tail in tails:
            assert await rabbit.put(tail, prefix=b"prefix ") is None
    found = await drain(broker.url, queue)
    assert [gzip.decompress(message.body) for message in found] == [b"prefix " + t for t in tails]
    assert {message.content_encoding for message in found} == {"gzip"}
    assert len(found[1].body) < 100_000


@pytest.mark.parametrize("limited", [128 * MIB], indirect=True)
@on_uvloop
async def test_large_bodies_stop_nobody(limited: Broker, queue: str) -> None:
    """100 MB: no copy of the whole, no step of the loop of 50 ms (three times that here)."""
    tail = bytearray(100_000_000)
    longest = 0.0
    async with opened(limited.url, queue, rabbitmq_maxsize=128 * MIB) as rabbit:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = rabbit.put(tail, prefix=b"{")
        small = 0
        last = time.perf_counter()
        while not answer.done():
            assert await rabbit.put(b"small") is None
            small += 1
            now = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - now)
        assert answer.result() is None
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert small > 5
        assert last
        assert longest < 0.15
        assert after - before < 30_000  # KiB
    found = await drain(limited.url, queue)
    assert [len(message.body) for message in found if message.body != b"small"] == [100_000_001]
    assert len(found) == small + 1


@on_uvloop
async def test_too_large_is_refused_without_asking(broker: Broker, queue: str) -> None:
    async with opened(broker.url, queue, rabbitmq_maxsize=2 * MIB) as rabbit:
        assert rabbit.availability.maxsize == (2 * MIB - 65536) * 3 // 4
        assert await rabbit.put(bytes(2 * MIB)) is None
        assert await rabbit.put(bytes(2 * MIB + 1)) is replies.TOO_LARGE
        assert await rabbit.put(bytes(2 * MIB), prefix=b"x") is replies.TOO_LARGE
        assert rabbit.metrics.broker_published == 1


@on_uvloop
async def test_the_brokers_default_is_known_by_its_version(broker: Broker, queue: str) -> None:
    """What is larger is refused before it is sent; RabbitMQ 4 takes 16 MiB, 3 took 128."""
    maximum = 16 * MIB if MAJOR >= 4 else 128 * MIB
    async with opened(broker.url, queue) as rabbit:
        assert rabbit.availability.maxsize == (maximum - 65536) * 3 // 4
        assert await rabbit.put(bytes(16 * MIB)) is None
        assert await rabbit.put(bytes(maximum + 1)) is replies.TOO_LARGE
        assert rabbit.metrics.broker_published == 1


@on_uvloop
async def test_rabbitmq_4_takes_16_mib(broker: Broker, queue: str) -> None:
    """Told that it takes more, we hear 406 from it, and lose nothing else."""
    larger = replies.TOO_LARGE if MAJOR >= 4 else None
    async with opened(broker.url, queue, rabbitmq_maxsize=64 * MIB) as rabbit:
        answers = [rabbit.put(bytes(size)) for size in (10, 16 * MIB, 16 * MIB + 1, 10)]
        assert await asyncio.gather(*answers) == [None, None, larger, None]


@pytest.mark.parametrize("limited", [2 * MIB], indirect=True)
@on_uvloop
async def test_too_high_a_maxsize_harms_no_other_mail(limited: Broker, queue: str) -> None:
    """The broker closes the channel (406) with all that is on it."""
    async with opened(limited.url, queue, rabbitmq_maxsize=64 * MIB) as rabbit:
        assert rabbit.availability.maxsize == (64 * MIB - 65536) * 3 // 4
        sizes = [2 * MIB, 10, 3 * MIB, 100_000, 2 * MIB, 5 * MIB, 10, MIB, 2 * MIB + 1, 10]
        for _ in range(2):
            answers = await asyncio.gather(*[rabbit.put(bytes(size)) for size in sizes])
            for size, answer in zip(sizes, answers, strict=True):
                assert answer is (replies.TOO_LARGE if size > 2 * MIB else None), size
        assert rabbit.availability.maxsize == (2 * MIB - 65536) * 3 // 4
        assert rabbit.metrics.broker_connects == 3  # one 406 taught it
    found = sorted(len(message.body) for message in await drain(limited.url, queue))
    assert found == sorted([size for size in sizes if size <= 2 * MIB] * 2)


@pytest.mark.parametrize("limited", [2 * MIB], indirect=True)
@on_uvloop
async def test_an_unproven_size_travels_alone(limited: Broker, queue: str) -> None:
    """Proven sizes are in flight on the same connection when one comes that is too large."""
    async with opened(limited.url, queue, rabbitmq_maxsize=64 * MIB) as rabbit:
        assert await rabbit.put(bytes(2 * MIB)) is None
        proven = [rabbit.put(bytes(2 * MIB)) for _ in range(10)]
        large = rabbit.put(bytes(2 * MIB + 1))
        proven += [rabbit.put(bytes(2 * MIB)) for _ in range(10)]
        assert await asyncio.gather(*proven) == [None] * 20
        assert await large is replies.TOO_LARGE


@pytest.mark.parametrize("limited", [100_000], indirect=True)
@on_uvloop
async def test_a_small_maximum_harms_no_other_mail(limited: Broker, queue: str) -> None:
    async with opened(limited.url, queue) as rabbit:
        sizes = [10, 200_000, 90_000, 500, 150_000, 100_000] * 5
        answers = await asyncio.gather(*[rabbit.put(bytes(size)) for size in sizes])
        for size, answer in zip(sizes, answers, strict=True):
            assert answer is (replies.TOO_LARGE if size > 100_000 else None), size


@on_uvloop
async def test_an_error_in_an_answer_stops_nobody(broker: Broker, queue: str) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("from a test")

    async with opened(broker.url, queue) as rabbit:
        for _ in range(5):
            rabbit.sink.put((rabbit.outgoing(b"x"),), fail)
            assert await rabbit.put(b"y") is None
        assert rabbit.metrics.broker_connects == 2


@on_uvloop
async def test_mail_put_by_an_answer_is_taken(broker: Broker, queue: str) -> None:
    """A pipelining client: the next message comes from inside the answer to the last."""
    async with opened(broker.url, queue, rabbitmq_throttle=2) as rabbit:
        finished = asyncio.Event()
        left = 50

        def again(outcomes: object) -> None:
            nonlocal left
            assert outcomes == [None]
            left -= 1
            if left:
                rabbit.sink.put((rabbit.outgoing(b"x"),), again)
            else:
                finished.set()

        rabbit.sink.put((rabbit.outgoing(b"x"),), again)
        async with asyncio.timeout(20):
            await finished.wait()


@on_uvloop
async def test_close_waits_for_answers_and_refuses_what_comes_later(
    broker: Broker, queue: str
) -> None:
    async with opened(broker.url, queue) as rabbit:
        answers = [rabbit.put(b"x") for _ in range(200)]
        await rabbit.sink.close()
        assert [answer.result() for answer in answers] == [None] * 200
        assert await rabbit.put(b"x") is replies.NOT_STORED
    assert len(await drain(broker.url, queue)) == 200


@on_uvloop
async def test_a_close_that_is_cancelled_answers_everything(paused: Broker, queue: str) -> None:
    async with opened(paused.url, queue, rabbitmq_throttle=5) as rabbit:
        paused.pause()
        answers = [rabbit.put(b"x") for _ in range(20)]
        answers.append(rabbit.put(bytes(10 * MIB)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await rabbit.sink.close()
        assert {answer.result() for answer in answers} == {replies.NOT_STORED}


@on_uvloop
async def test_memory_alarm_refuses_and_clears(broker: Broker, queue: str) -> None:
    async with opened(broker.url, queue, rabbitmq_timeout=1) as rabbit:
        assert await rabbit.put(b"before") is None
        try:
            broker.ctl("set_vm_memory_high_watermark", "0.00001")
            # The broker tells it only to who publishes.
            assert await asyncio.wait_for(rabbit.put(b"sent into it"), 6) is replies.NO_SPACE
            assert rabbit.availability.refusal is replies.NO_SPACE
            assert rabbit.metrics.broker_state == "blocked"
            assert await rabbit.put(b"later") is replies.NO_SPACE
            assert rabbit.availability.greeting is None
            await asyncio.sleep(1.5)  # longer than rabbitmq-timeout
            assert rabbit.availability.refusal is replies.NO_SPACE
        finally:
            broker.ctl("set_vm_memory_high_watermark", "0.8")
        await eventually(lambda: rabbit.availability.refusal is None, 30)
        assert rabbit.metrics.broker_state == "up"
        assert await rabbit.put(b"after") is None
        assert rabbit.metrics.broker_connects == 2
    assert {b"before", b"after"} <= set(bodies(await drain(broker.url, queue)))


@on_uvloop
async def test_a_failure_of_ours_is_answered_logged_and_survived(
    broker: Broker, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(broker.url, queue) as rabbit:
        impossible = Outgoing("x" * 300, None, "", b"", b"x")
        answers = [rabbit.put(b"x"), rabbit.client.send(impossible), rabbit.put(b"y")]
        found = await asyncio.wait_for(asyncio.gather(*answers), 30)
        assert found[1] == [replies.NOT_STORED]
        assert "error while publishing" in caplog.text
        await eventually(lambda: rabbit.availability.refusal is None, 30)
        assert await rabbit.put(b"z") is None
