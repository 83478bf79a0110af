"""With a spill mail is accepted whatever the broker does, and comes to its queue all the same."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from glob import glob
from pathlib import Path
from typing import Any

import pytest

from fastsmtp import replies
from fastsmtp.sinks.file_lock import OWNER, FileLock
from fastsmtp.sinks.hedge import Hedge
from fastsmtp.sinks.spill_drain import POLL_INTERVAL, SpillDrain
from fastsmtp.sinks.spill_file import LIMIT, SpillFile
from tests.support.daemon import Daemon
from tests.support.damage import overwrite
from tests.support.fake_broker import FakeBroker
from tests.support.inbox import RabbitmqInbox
from tests.support.patience import until
from tests.support.rabbitmq import Broker
from tests.support.sink import Opened, eventually, on_uvloop, opened
from tests.support.wire import Wire

AFTER = 0.2
"""rabbitmq-spill-after in seconds."""

SUBJECT = b"Subject: %d\r\n\r\nHello\r\n"


@pytest.fixture
def spill(tmp_path: Path) -> str:
    return str(tmp_path / "spill.db")


def rows(spill: str) -> int:
    """How many messages are in the file."""
    file = SpillFile(spill)
    try:
        return file.count()
    finally:
        file.close()


def fact(spill: str) -> int | None:
    """The broker's limit as the file has it."""
    file = SpillFile(spill)
    try:
        return file.fact(LIMIT)
    finally:
        file.close()


def zero_header(spill: str) -> None:
    with open(spill, "r+b") as file:
        file.write(bytes(100))


def subjects(inbox: RabbitmqInbox, daemon: Daemon) -> list[str]:
    return sorted(message["mime"].split("\r\n")[0] for message in inbox.messages(daemon))


@asynccontextmanager
async def spilling(spill: str, **settings: Any) -> AsyncIterator[tuple[Opened, FakeBroker]]:
    async with FakeBroker() as broker:
        more = {"rabbitmq_spill": spill, "rabbitmq_spill_after": AFTER} | settings
        async with opened(broker.url, "inbox", **more) as sink:
            yield sink, broker


@on_uvloop
async def test_while_the_broker_is_well_nothing_is_written(spill: str) -> None:
    async with spilling(spill) as (sink, broker):
        await eventually(lambda: fact(spill) is not None, 10)  # the one thing that is written
        before = os.stat(f"{spill}-wal").st_mtime_ns
        assert {await sink.put(b"x") for _ in range(50)} == {None}
        assert os.stat(f"{spill}-wal").st_mtime_ns == before
        assert len(broker.ids) == 50
        assert sink.metrics.spill_stored == 0


@on_uvloop
async def test_what_is_confirmed_late_is_deleted_unsent(spill: str) -> None:
    async with spilling(spill) as (sink, broker):
        broker.publishes = "silent"
        begun = time.monotonic()
        assert await sink.put(b"x") is None
        assert AFTER <= time.monotonic() - begun < 3 * (AFTER + 1)
        assert rows(spill) == 1
        broker.confirm_all()
        await eventually(lambda: rows(spill) == 0, 10)
        broker.publishes = "ack"
        assert await sink.put(b"y") is None
        assert len(broker.ids) == 2, "the row was published as well"
        assert sink.metrics.spill_unsent == 1


@on_uvloop
async def test_while_it_is_late_one_message_at_a_time_tries_it(spill: str) -> None:
    async with spilling(spill) as (sink, broker):
        broker.publishes = "silent"
        assert await sink.put(b"x") is None
        before = len(broker.ids)
        answers = [sink.put(b"y") for _ in range(30)]
        assert {await answer for answer in answers} == {None}
        assert len(broker.ids) == before + 1
        broker.publishes = "ack"
        broker.confirm_all()  # too late for the one that tried
        assert await sink.put(b"z") is None  # in time
        await eventually(lambda: rows(spill) == 0, 10)
        stored = sink.metrics.spill_stored
        assert {await sink.put(b"z") for _ in range(10)} == {None}
        assert sink.metrics.spill_stored == stored
    assert len(set(broker.ids)) == len(broker.ids)


@on_uvloop
async def test_what_was_unanswered_when_the_channel_ended_is_published_again(spill: str) -> None:
    async with spilling(spill) as (sink, broker):
        broker.publishes = "silent"
        late = sink.outgoing(b"x")
        assert await sink.send(late) == [None]
        unanswered = sink.outgoing(b"y")
        sink.client.sink.put([unanswered], lambda _: None)
        assert broker.ids.count(late.id) == 1
        broker.publishes = "ack"
        broker.hang_up()
        await eventually(lambda: broker.ids.count(late.id) == 2, 10)
        await eventually(lambda: rows(spill) == 0, 10)
        assert broker.ids.count(unanswered.id) in (1, 2)
        assert sink.metrics.spill_repeated >= 1


async def publishes_of_a_late_message(spill: str) -> int:
    """While the connection lives on which it has no answer; others confirm at once."""
    async with spilling(spill) as (sink, broker):
        first = broker.clients[0]
        broker.publishes = lambda _: "silent" if broker.publisher is first else "ack"
        late = sink.outgoing(b"x")
        assert await sink.send(late) == [None]
        file = SpillFile(spill)
        file.add([sink.outgoing(b"y")])  # of an earlier run
        file.adopt()
        file.close()
        await eventually(lambda: rows(spill) <= 1, 20)  # the drain is at work
        await asyncio.sleep(2 * POLL_INTERVAL)  # when it would be published
        count = broker.ids.count(late.id)
        broker.confirm_all()
        await eventually(lambda: rows(spill) == 0, 10)
        return count


@on_uvloop
async def test_what_is_held_is_published_by_nobody_else(spill: str) -> None:
    assert await publishes_of_a_late_message(spill) == 1


@on_uvloop
async def test_a_row_that_is_released_early_is_seen(
    spill: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = Hedge._stored

    def release(self: Hedge, position: int) -> None:
        _, id = self._states[position]
        stored(self, position)
        self._place.release(id)

    monkeypatch.setattr(Hedge, "_stored", release)
    assert await publishes_of_a_late_message(spill) == 2


@on_uvloop
async def test_only_the_recipients_that_are_not_confirmed_are_stored(spill: str) -> None:
    async with spilling(spill) as (sink, broker):
        broker.publishes = lambda body: "silent" if body.startswith(b"late") else "ack"
        message = [sink.outgoing(b"tail", prefix) for prefix in (b"a", b"late", b"b", b"late")]
        assert await sink.send(*message) == [None] * 4
        assert rows(spill) == 2
        broker.confirm_all()
        await eventually(lambda: rows(spill) == 0, 10)


def harm(spill: str, damage: str) -> None:
    """Zero 100 bytes of the header, or of a message."""
    file = SpillFile(spill)
    file.checkpoint()
    file.close()
    octets = Path(spill).read_bytes()
    overwrite(spill, 0 if damage == "header" else octets.index(b"x" * 3000) + 200, bytes(100))


@pytest.mark.parametrize("damage", ["header", "message"])
@on_uvloop
async def test_what_is_whole_in_a_damaged_spill_is_published(spill: str, damage: str) -> None:
    """Damage to the header meets the next commit, damage to a message the drain."""
    async with spilling(spill) as (sink, broker):
        broker.hang_up()
        broker.publishes = "nack"
        assert {await sink.put(b"x" * 3000 + b"%d" % n) for n in range(20)} == {None}
        harm(spill, damage)
        assert {await sink.put(b"y" * 3000 + b"%d" % n) for n in range(20)} == {None}
        broker.publishes = "ack"
        lost = int(damage == "message")
        await eventually(lambda: glob(f"{spill}.damaged-*.recovered") != [], 20)
        await eventually(lambda: rows(spill) == 0, 20)
        assert len(set(broker.ids)) >= 40 - lost


@on_uvloop
async def test_without_a_broker_mail_is_taken_at_once(spill: str) -> None:
    async with FakeBroker() as broker:
        url = broker.url
    settings = {"rabbitmq_spill": spill, "rabbitmq_spill_after": AFTER}
    async with opened(url, "inbox", **settings) as sink:
        assert sink.availability.refusal is None
        assert {await sink.put(b"x") for _ in range(10)} == {None}
        assert rows(spill) == 10
    assert rows(spill) == 10


@pytest.mark.parametrize("fault", ["blocked", "refused"])
@on_uvloop
async def test_a_broker_that_stores_nothing(spill: str, fault: str) -> None:
    async with spilling(spill) as (sink, broker):
        if fault == "blocked":
            broker.is_blocked = True
        else:
            broker.refusal = (403, "ACCESS_REFUSED")
            broker.hang_up()
        assert {await sink.put(b"x") for _ in range(20)} == {None}
        assert sink.availability.refusal is None
        assert rows(spill) == 20


@pytest.mark.parametrize(("kind", "setting"), [("return", "unroutable"), ("nack", "nacked")])
@on_uvloop
async def test_what_the_broker_does_not_want_is_stored_where_the_settings_say_so(
    spill: str, kind: str, setting: str
) -> None:
    async with spilling(spill) as (sink, broker):
        broker.publishes = kind
        refusal = replies.UNROUTABLE if kind == "return" else replies.NACKED
        broker.messages = 1
        assert await sink.put(b"x") is refusal
        assert rows(spill) == 0
    async with spilling(spill, **{f"rabbitmq_spill_{setting}": True}) as (sink, broker):
        broker.publishes = kind
        assert await sink.put(b"x") is None
        assert rows(spill) == 1


@on_uvloop
async def test_a_nack_that_a_new_connection_does_not_give_is_the_channels(spill: str) -> None:
    async with spilling(spill) as (sink, broker):
        first = broker.clients[0]
        broker.messages = 1
        broker.publishes = lambda _: "nack" if broker.publisher is first else "ack"
        answers = [sink.put(b"x") for _ in range(10)]
        assert {await answer for answer in answers} == {None}
        await eventually(lambda: rows(spill) == 0, 20)


@on_uvloop
async def test_a_queue_that_cannot_be_asked_is_no_full_one(spill: str) -> None:
    """As a quorum queue without a majority: it nacks, and says that it is empty."""
    async with spilling(spill) as (sink, broker):
        broker.publishes = "nack"
        assert await sink.put(b"x") is None
        assert rows(spill) == 1


@on_uvloop
async def test_a_row_that_is_not_taken_blocks_no_other(spill: str) -> None:
    async with FakeBroker() as broker:
        url = broker.url
    settings = {"rabbitmq_spill": spill, "rabbitmq_spill_after": AFTER}
    async with opened(url, "inbox", **settings) as sink:
        for body in (b"bad", b"good", b"bad", b"good"):
            assert await sink.put(body) is None
    async with spilling(spill) as (sink, broker):
        broker.publishes = lambda body: "nack" if body == b"bad" else "ack"
        await eventually(lambda: rows(spill) == 2, 10)
        file = SpillFile(spill)
        assert file.stuck() == 2
        file.close()
        assert sink.metrics.spill_published == 2


async def rows_before_the_ack(spill: str) -> int:
    """How many rows are left of ten that were published, and not confirmed."""
    async with FakeBroker() as broker:
        url = broker.url
    settings = {"rabbitmq_spill": spill, "rabbitmq_spill_after": AFTER}
    async with opened(url, "inbox", **settings) as sink:
        assert {await sink.put(b"x") for _ in range(10)} == {None}
    async with spilling(spill) as (sink, broker):
        broker.publishes = "silent"
        await eventually(lambda: len(broker.ids) >= 10, 20)
        await asyncio.sleep(2 * POLL_INTERVAL)  # when they would be deleted
        return rows(spill)


@on_uvloop
async def test_a_row_stays_until_its_ack(spill: str) -> None:
    assert await rows_before_the_ack(spill) == 10


@on_uvloop
async def test_a_drain_that_deletes_before_the_ack_is_seen(
    spill: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = SpillDrain._publish

    async def published(self: SpillDrain, file: SpillFile, seqs: list[int]) -> None:
        await publish(self, file, seqs)
        self._published += self.in_flight

    monkeypatch.setattr(SpillDrain, "_publish", published)
    assert await rows_before_the_ack(spill) == 0


@on_uvloop
async def test_rows_keep_their_order_priority_time_and_fingerprint(spill: str) -> None:
    async with FakeBroker() as broker:
        url = broker.url
    settings = {"rabbitmq_spill": spill, "rabbitmq_spill_after": AFTER}
    async with opened(url, "inbox", **settings) as sink:
        message = [
            sink.outgoing(b"x", priority=n % 10, fingerprint=f"{n:064x}") for n in range(300)
        ]
        begun = int(time.time())
        for each in message:
            assert await sink.send(each) == [None]
        ended = int(time.time())
        await asyncio.sleep(1.1)  # the timestamp counts seconds
    async with spilling(spill) as (sink, broker):
        await eventually(lambda: rows(spill) == 0, 20)
        assert broker.ids == [each.id for each in message]
        properties = [each.properties for each in broker.properties]
        assert [each.priority for each in properties] == [n % 10 for n in range(300)]
        assert [each.headers for each in properties] == [
            {"fingerprint": f"{n:064x}"} for n in range(300)
        ]
        times = {each.timestamp.timestamp() for each in properties}
        assert all(begun <= each <= ended for each in times)


@on_uvloop
async def test_a_file_without_room_leaves_mail_to_the_broker(spill: str) -> None:
    async with spilling(spill, queue_maxsize=1 << 20) as (sink, broker):
        broker.publishes = "silent"
        outcomes = {await sink.put(bytes(100_000)) for _ in range(4)}
        assert outcomes == {None}
        last = [sink.put(bytes(100_000)) for _ in range(10)]
        await eventually(lambda: sum(each.done() for each in last) >= 8, 20)
        assert {each.result() for each in last if each.done()} <= {None, replies.NO_SPACE}
        assert replies.NO_SPACE in {each.result() for each in last if each.done()}
        broker.publishes = "ack"
        broker.confirm_all()
        await eventually(lambda: all(each.done() for each in last), 20)
        await eventually(lambda: rows(spill) == 0, 20)
        assert await sink.put(b"x") is None


@on_uvloop
async def test_a_damaged_spill_is_set_aside_and_what_is_whole_in_it_is_published(
    spill: str,
) -> None:
    async with FakeBroker() as broker:
        url = broker.url
    settings = {"rabbitmq_spill": spill, "rabbitmq_spill_after": AFTER}
    message = []
    async with opened(url, "inbox", **settings) as sink:
        message += [sink.outgoing(bytes(1000)) for _ in range(100)]
        assert {(await sink.send(each))[0] for each in message} == {None}
    lock = FileLock(spill)
    assert lock.take(OWNER), "as its supervisor has it"
    async with spilling(spill) as (sink, broker):
        await eventually(lambda: rows(spill) == 0, 20)
        broker.publishes = "silent"
        message += [sink.outgoing(bytes(1000)) for _ in range(20)]
        assert {(await sink.send(each))[0] for each in message[100:]} == {None}
        zero_header(spill)
        message += [sink.outgoing(bytes(1000)) for _ in range(20)]
        assert {(await sink.send(each))[0] for each in message[120:]} == {None}
        broker.publishes = "ack"
        broker.hang_up()
        await eventually(lambda: {*broker.ids} == {each.id for each in message}, 30)
        await eventually(lambda: rows(spill) == 0, 20)


def test_a_broker_that_is_silent(
    paused: Broker, start_daemon: Callable[..., Daemon], spill: str
) -> None:
    inbox = RabbitmqInbox(paused)
    daemon = start_daemon(**inbox.settings, rabbitmq_spill=spill, rabbitmq_spill_after="300ms")
    with Wire(daemon.port) as client:
        client.ehlo()
        assert client.mail(SUBJECT % 0).code == 250
        assert rows(spill) == 0, "the broker is well"
        paused.pause()
        begun = time.monotonic()
        assert client.mail(SUBJECT % 1).code == 250
        took = time.monotonic() - begun
        assert 0.3 <= took < 3 * 1.3
        assert rows(spill) == 1
        for n in range(2, 20):
            assert client.mail(SUBJECT % n).code == 250
        assert rows(spill) == 19
        paused.resume()
        until(lambda: rows(spill) == 0, 20)
    assert subjects(inbox, daemon) == sorted(f"Subject: {n}" for n in range(20))


def test_a_stop_publishes_what_is_left(
    paused: Broker, start_daemon: Callable[..., Daemon], spill: str
) -> None:
    inbox = RabbitmqInbox(paused)
    daemon = start_daemon(**inbox.settings, rabbitmq_spill=spill, rabbitmq_spill_after="200ms")
    with Wire(daemon.port) as client:
        client.ehlo()
        assert client.mail(SUBJECT % 0).code == 250
        paused.pause()
        for n in range(1, 30):
            assert client.mail(SUBJECT % n).code == 250
    assert rows(spill) == 29
    paused.resume()
    daemon.stop()
    assert rows(spill) == 0
    assert subjects(inbox, daemon) == sorted(f"Subject: {n}" for n in range(30))


def test_a_worker_that_died_leaves_its_rows_to_the_next_one(
    paused: Broker, start_daemon: Callable[..., Daemon], spill: str
) -> None:
    inbox = RabbitmqInbox(paused)
    daemon = start_daemon(**inbox.settings, rabbitmq_spill=spill, rabbitmq_spill_after="200ms")
    with Wire(daemon.port) as client:
        client.ehlo()
        assert client.mail(SUBJECT % 0).code == 250
        paused.pause()
        for n in range(1, 5):
            assert client.mail(SUBJECT % n).code == 250
        os.kill(daemon.workers[0], signal.SIGKILL)
    paused.resume()
    until(lambda: rows(spill) == 0, 30)
    daemon.stop()
    found = subjects(inbox, daemon)
    assert {*found} == {f"Subject: {n}" for n in range(5)}
