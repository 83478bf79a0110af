"""`fastsmtp queue publish` and the drain in it: what is in RabbitMQ, what is left in the queue."""

import asyncio
import gzip
import os
import pty
import re
import signal
import smtplib
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from fastsmtp import replies
from fastsmtp._tail import Tail
from fastsmtp.availability import Availability
from fastsmtp.payload import Outgoing
from fastsmtp.sinks import drain as drains
from fastsmtp.sinks.base import Settle
from fastsmtp.sinks.drain import Drain
from fastsmtp.sinks.store import Store
from tests.support.daemon import COMMAND, ROOT, Daemon
from tests.support.damage import overwrite
from tests.support.rabbitmq import MISSING, Broker, declare, free_ports

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("FASTSMTP_")} | {
    "PYTHONPATH": str(ROOT)
}
KIB = 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture(scope="module")
def own_broker() -> Iterator[Broker]:
    """One that a test may kill and start again; takes bodies of 200,000 octets at most."""
    if MISSING:
        pytest.skip(MISSING)
    made = Broker(max_message_size="200000")
    try:
        made.start()
        yield made
    finally:
        made.close()


def row(number: int, size: int = 200, **more: object) -> Outgoing:
    id = f"ID{number:06}"
    tail = (b"%d/" % number * (size // 2 + 1))[:size]
    return Outgoing(id, more.get("priority"), more.get("encoding", ""), b"{%b " % id.encode(), tail)


def fill(path: Path, rows: Sequence[Outgoing]) -> None:
    store = Store(str(path), create=True)
    for first in range(0, len(rows), 500):
        store.add(rows[first : first + 500])
    store.close()


def left(path: Path) -> list[str]:
    """The ids that are in the queue, in their order."""
    store = Store(str(path))
    ids = [entry.id for entry in store.entries(limit=1_000_000)]
    store.close()
    return ids


def arguments(path: Path, url: str, queue: str, **settings: object) -> list[str]:
    given = {"queue_file": path, "rabbitmq_address": url, "rabbitmq_inbox": queue} | settings
    options = [word for k, v in given.items() for word in (f"--{k.replace('_', '-')}", str(v))]
    return [*COMMAND, "queue", "publish", *options]


def publish(*command: object, **settings: object) -> tuple[int, str, str]:
    """Run it to its end: exit status, standard output, standard error."""
    done = subprocess.run(
        arguments(*command, **settings),
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=100,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


class Running:
    """One that works in the background."""

    def __init__(self, path: Path, url: str, queue: str, **settings: object) -> None:
        self.store = Store(str(path))
        self.process = subprocess.Popen(
            arguments(path, url, queue, **settings),
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_deleted(self, rows: int) -> None:
        """Until `rows` more are gone; it must not end before."""
        goal = self.store.count() - rows
        deadline = time.monotonic() + 60
        while self.store.count() > goal:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)  # looks again

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        self.store.close()
        return self.process.returncode, out, err


async def taken(url: str, queue: str) -> list[AbstractIncomingMessage]:
    """Everything that a queue has, in order; empties it."""
    found: list[AbstractIncomingMessage] = []
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        while ready := (await channel.declare_queue(queue, passive=True)).declaration_result:
            if not (more := ready.message_count):
                break
            source = await channel.get_queue(queue, ensure=False)
            async with source.iterator(no_ack=True) as messages:
                async for message in messages:
                    found.append(message)
                    if not (more := more - 1):
                        break
    return found


def messages(broker: Broker, queue: str) -> list[AbstractIncomingMessage]:
    return asyncio.run(taken(broker.url, queue))


def bodies(broker: Broker, queue: str) -> list[bytes]:
    return [message.body for message in messages(broker, queue)]


def ids(found: Sequence[bytes]) -> list[str]:
    return [body[1:9].decode() for body in found]


def body(one: Outgoing) -> bytes:
    return bytes(one)


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_rows_of_all_sizes_arrive_whole_and_in_order(
    broker: Broker, queue: str, path: Path, encoding: str
) -> None:
    large = {5: 70, 6: 300, 500: 3000, 501: 100, 1000: 64, 1500: 1500, 1999: 5000}
    rows = [row(n, large.get(n, 0) * KIB or n % 5000, priority=n % 7 or None) for n in range(2000)]
    for one in rows[::9]:
        one.encoding = "base64"
    fill(path, rows)
    settings = {"rabbitmq_publishers": 4, "rabbitmq_encoding": encoding}
    status, out, err = publish(path, broker.url, queue, **settings)
    assert (status, err) == (0, "")
    assert re.fullmatch(
        rf"2000 messages published to RabbitMQ at amqp://guest@127.0.0.1:{broker.port}/\n", out
    )
    found = messages(broker, queue)
    assert [one.message_id for one in found] == [one.id for one in rows]
    unpack = gzip.decompress if encoding else bytes
    assert [unpack(one.body) for one in found] == [body(one) for one in rows]
    assert [one.priority or None for one in found] == [one.priority for one in rows]
    assert [one.headers.get("mime-encoding", "") for one in found] == [r.encoding for r in rows]
    assert {one.delivery_mode for one in found} == {2}
    assert left(path) == []
    assert publish(path, broker.url, queue) == (0, f"The queue {path} is empty.\n", "")


def test_kill_9_in_the_middle_loses_nothing(
    broker: Broker, queue: str, path: Path, record_property: Callable[[str, object], None]
) -> None:
    rows = [row(n) for n in range(8000)]
    fill(path, rows)
    for _ in range(3):
        running = Running(path, broker.url, queue, rabbitmq_throttle=50)
        running.wait_until_deleted(500)
        assert running.end(signal.SIGKILL) == (-9, "", "")
        assert left(path) != []
    assert publish(path, broker.url, queue)[0] == 0
    assert left(path) == []
    found = Counter(bodies(broker, queue))
    missing = {body(one) for one in rows} - found.keys()
    duplicates = found.total() - len(found)
    record_property("ledger", f"3 kills, lost {len(missing)}, duplicates {duplicates}")
    assert found.keys() == {body(one) for one in rows}
    assert duplicates <= 3 * 2 * drains.WINDOW_ROWS  # in flight, or waiting to be deleted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_finishes_what_is_in_flight_and_can_go_on(
    broker: Broker, queue: str, path: Path, number: signal.Signals
) -> None:
    rows = [row(n) for n in range(5000)]
    fill(path, rows)
    running = Running(path, broker.url, queue, rabbitmq_throttle=50)
    running.wait_until_deleted(500)
    begun = time.monotonic()
    status, out, err = running.end(number)
    assert time.monotonic() - begun < 3 * drains.GRACE
    assert (status, err) == (1, "fastsmtp: interrupted: run it again for what is left\n")
    told = re.fullmatch(r"(\d+) messages published to .*; (\d+) are in the queue\n", out)
    assert told, out
    stay = left(path)
    assert (int(told[1]), int(told[2])) == (5000 - len(stay), len(stay))
    assert stay
    status, out, err = publish(path, broker.url, queue)
    assert (status, err) == (0, "")
    assert out.startswith(f"{len(stay)} messages published")
    assert bodies(broker, queue) == [body(one) for one in rows]  # each once, in order


def test_a_broker_that_hangs_ends_nothing_but_the_patience(
    paused: Broker, queue: str, path: Path
) -> None:
    rows = [row(n) for n in range(5000)]
    fill(path, rows)
    running = Running(path, paused.url, queue, rabbitmq_throttle=50)
    running.wait_until_deleted(500)
    paused.pause()
    status, out, err = publish(path, paused.url, queue)  # a second one, meanwhile
    assert (status, out) == (1, "")
    assert err == f"fastsmtp: a fastsmtp queue publish is at work on {path} already\n"
    begun = time.monotonic()
    status, out, err = running.end(signal.SIGINT)
    assert time.monotonic() - begun < 3 * (drains.GRACE + 4)
    assert status == 1
    assert re.search(r"^fastsmtp: \d+ of unknown fate stay in the queue; RabbitMQ may", err, re.M)
    paused.resume()
    assert publish(path, paused.url, queue)[0] == 0
    assert Counter(bodies(paused, queue)).keys() == {body(one) for one in rows}


def test_unroutable_rows_stay_and_are_told(broker: Broker, queue: str, path: Path) -> None:
    rows = [row(n) for n in range(25)]
    fill(path, rows)
    status, out, err = publish(path, broker.url, queue, rabbitmq_declare=False)
    assert status == 1
    assert err.splitlines() == [
        *(
            f"fastsmtp: {one.id} stays in the queue: no queue takes it (unroutable)"
            for one in rows[:20]
        ),
        "fastsmtp: and 5 more that RabbitMQ did not take",
    ]
    assert out.startswith("0 messages published to RabbitMQ")
    assert out.endswith("; 25 are in the queue\n")
    assert left(path) == [one.id for one in rows]


def test_nacked_rows_stay_and_are_told(broker: Broker, queue: str, path: Path) -> None:
    arguments = {"x_max_length": 10, "x_overflow": "reject-publish"}
    asyncio.run(declare(broker.url, queue, **arguments))
    fill(path, [row(n) for n in range(200)])
    status, out, err = publish(path, broker.url, queue, rabbitmq_declare=False)
    assert status == 1
    stay = left(path)
    assert 100 < len(stay) <= 190  # the broker notices a full queue a little late
    assert err.splitlines()[0] == (
        f"fastsmtp: {stay[0]} stays in the queue: RabbitMQ refused it (nack)"
    )
    assert f"fastsmtp: and {len(stay) - 20} more that RabbitMQ did not take\n" in err
    assert out.endswith(f"; {len(stay)} are in the queue\n")
    assert sorted(ids(bodies(broker, queue)) + stay) == [row(n).id for n in range(200)]


def test_rows_that_are_too_large_stay_and_the_others_go_on(
    own_broker: Broker, queue: str, path: Path
) -> None:
    broker = own_broker
    rows = [row(n, 300_000 if n in (3, 40) else 100_000 if n == 7 else 500) for n in range(3000)]
    fill(path, rows)
    status, out, err = publish(path, broker.url, queue)  # 406: it learns the maximum
    assert (status, left(path)) == (1, ["ID000003", "ID000040"])
    assert out.endswith("; 2 are in the queue\n")
    words = "larger than RabbitMQ takes (rabbitmq-maxsize, max_message_size)"
    assert err.splitlines() == [
        f"fastsmtp: ID0000{n} stays in the queue: {words}" for n in ("03", "40")
    ]
    assert ids(bodies(broker, queue)) == [r.id for r in rows if r.id not in left(path)]
    fill(path, [row(5000)])
    status, out, err = publish(path, broker.url, queue, rabbitmq_maxsize="200KB")
    assert (status, left(path)) == (1, ["ID000003", "ID000040"])
    assert ids(bodies(broker, queue)) == ["ID005000"]


def test_a_broker_that_dies_in_the_middle(own_broker: Broker, queue: str, path: Path) -> None:
    broker = own_broker
    rows = [row(n) for n in range(5000)]
    fill(path, rows)
    running = Running(path, broker.url, queue, rabbitmq_throttle=50)
    running.wait_until_deleted(500)
    broker.kill()
    out, err = running.process.communicate(timeout=60)
    running.store.close()
    assert running.process.returncode == 1
    why, unknown = err.splitlines()
    assert why.startswith("fastsmtp: RabbitMQ ")
    assert f"amqp://guest@127.0.0.1:{broker.port}/" in why
    assert re.fullmatch(r"fastsmtp: \d+ of unknown fate stay in the queue; .*", unknown)
    assert out.endswith(f"; {len(left(path))} are in the queue\n")
    broker.start()
    assert publish(path, broker.url, queue)[0] == 0
    assert Counter(bodies(broker, queue)).keys() == {body(one) for one in rows}


def test_a_damaged_file_is_set_aside_and_goes_on_after_it_was_recovered(
    broker: Broker, queue: str, path: Path
) -> None:
    fill(path, [row(n) for n in range(20)])
    octets = path.read_bytes()
    overwrite(str(path), octets.index(b"{ID000007 ") + 20, bytes(50))
    status, _, err = publish(path, broker.url, queue)
    assert status == 1
    found = re.search(r'message ID000007 .*damaged; it is set aside as (\S+?):.*recover \1"', err)
    assert found, err
    recover = [*COMMAND, "queue", "recover", found[1], "--queue-file", str(path)]
    subprocess.run(recover, env=ENVIRONMENT, check=True, timeout=60, stdout=subprocess.DEVNULL)
    assert publish(path, broker.url, queue)[0] == 0
    ids = [message.message_id for message in asyncio.run(taken(broker.url, queue))]
    assert ids == [row(n).id for n in range(20) if n != 7]
    assert left(path) == []


def test_a_broker_that_is_away_changes_nothing(path: Path, queue: str) -> None:
    fill(path, [row(1)])
    one, other = free_ports(2)
    url = f"amqp://guest:hunter2@127.0.0.1:{one}/,amqp://guest:hunter2@127.0.0.1:{other}/"
    status, out, err = publish(path, url, queue)
    assert (status, out) == (1, "")
    assert err.startswith("fastsmtp: RabbitMQ cannot be reached: tried amqp://guest@127.0.0.1:")
    assert f":{one}/ (" in err
    assert f":{other}/ (" in err
    assert err.endswith("; nothing was published\n")
    assert "hunter2" not in err
    assert left(path) == ["ID000001"]


def test_without_an_address_it_says_what_to_set(path: Path, queue: str) -> None:
    fill(path, [row(1)])
    status, out, err = publish(path, "none", queue)
    assert (status, out) == (2, "")
    assert "rabbitmq-address is none" in err
    assert "--rabbitmq-address amqp://" in err


def test_help_says_at_least_once_and_how_to_give_the_address() -> None:
    out = subprocess.check_output(
        [*COMMAND, "queue", "publish", "--help"], env=ENVIRONMENT, text=True
    )
    assert re.search(r"at\s+least once", out)
    assert "--rabbitmq-address amqp://" in out


def test_a_terminal_sees_how_far_it_is(broker: Broker, queue: str, path: Path) -> None:
    fill(path, [row(n) for n in range(4000)])
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        arguments(path, broker.url, queue, rabbitmq_throttle=10),
        env=ENVIRONMENT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 1000)
        except OSError:  # Linux says so when the other end is closed
            break
    os.close(ours)
    assert process.wait(60) == 0
    assert re.search(rb"\r\[[# ]{30}\] \d+ of 4000 messages, \d+/s", seen)
    assert seen.rpartition(b"\r\x1b[K")[2].startswith(b"4000 messages published to RabbitMQ at ")


def test_the_daemon_writes_meanwhile(
    broker: Broker, queue: str, start_daemon: Callable[..., Daemon]
) -> None:
    daemon = start_daemon()
    path = Path(str(daemon.settings["queue_file"]))
    accepted: list[str] = []
    over = threading.Event()

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", daemon.port) as client:
            client.ehlo("client.example.com")
            while not over.is_set():
                client.mail("a@example.com")
                client.rcpt("b@example.org")
                code, text = client.data(b"Subject: hi\r\n\r\n" + b"x" * 3000)
                assert code == 250
                accepted.append(text.decode().splitlines()[-1].split()[1])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        while len(accepted) < 50 and sender.is_alive():
            time.sleep(0.01)  # looks again
        for _ in range(3):
            before = len(accepted)
            status, out, err = publish(path, broker.url, queue)
            assert (status, err) == (0, "")
            assert not out.startswith("0 ")
            assert len(accepted) > before
    finally:
        over.set()
        sender.join()
    status, _, err = publish(path, broker.url, queue)
    assert (status, err) == (0, "")
    found = messages(broker, queue)
    assert [one.message_id for one in found] == accepted
    assert left(path) == []


def test_a_fingerprint_is_the_one_that_the_broker_would_have_got(
    broker: Broker, queue: str, start_daemon: Callable[..., Daemon]
) -> None:
    """Sent to the broker and again to the queue file, whose mail is published later."""
    content = b"Message-ID: <1@example.com>\r\nDate: x\r\n\r\n\xff\r\n"
    for address in (broker.url, "none"):
        daemon = start_daemon(
            rabbitmq_address=address, rabbitmq_inbox=queue, rabbitmq_fingerprint=True
        )
        with smtplib.SMTP("127.0.0.1", daemon.port, timeout=30) as client:
            client.sendmail("a@example.com", ["b@example.org", "c@example.org"], content)
    path = Path(str(daemon.settings["queue_file"]))
    assert publish(path, broker.url, queue)[0] == 0
    found = [(one.message_id, one.headers) for one in messages(broker, queue)]
    assert len({id for id, _ in found}) == 4
    headers = [each for _, each in found]
    assert headers[:2] == headers[2:]
    assert len({each["fingerprint"] for each in headers}) == 2
    assert {each["mime-encoding"] for each in headers} == {"base64"}


# The drain itself, with a sink whose answers the test gives.


class Slow:
    """A `Sink` that keeps what is put until told to answer it."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Outgoing, Settle]] = []
        self.most_rows = self.most_octets = 0

    def put(self, message: Sequence[Outgoing], settle: Settle) -> None:
        (one,) = message
        self.waiting.append((one, settle))
        self.most_rows = max(self.most_rows, len(self.waiting))
        self.most_octets = max(self.most_octets, sum(each.size for each, _ in self.waiting))

    def answer(self, number: int, reply: replies.Reply | None = None) -> list[str]:
        some, self.waiting = self.waiting[:number], self.waiting[number:]
        for _, settle in some:
            asyncio.get_running_loop().call_soon(settle, [reply])
        return [one.id for one, _ in some]


async def until(condition: Callable[[], object], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # looks again


def test_the_window_is_bounded_in_rows_and_octets(path: Path) -> None:
    small = [row(n, 10) for n in range(2 * drains.WINDOW_ROWS)]
    large = [row(10_000 + n, 5 << 20) for n in range(30)]
    fill(path, [*small, *large])

    async def main() -> None:
        store, sink = Store(str(path)), Slow()
        running = asyncio.create_task(Drain(store, sink, Availability(1 << 30)).run())
        await until(lambda: sink.most_rows == drains.WINDOW_ROWS, 20)
        order = []
        while not running.done():
            order += sink.answer(700)
            await asyncio.sleep(0.01)  # the rate of the sink
        await running
        store.close()
        assert order == [one.id for one in (*small, *large)]
        assert sink.most_rows <= drains.WINDOW_ROWS
        assert 20 << 20 < sink.most_octets <= drains.WINDOW_OCTETS + large[0].size

    asyncio.run(main())


def test_a_tail_that_rows_share_counts_once_in_the_window(path: Path) -> None:
    half = drains.WINDOW_ROWS // 2
    tail = Tail.of(bytes(10 << 20))
    shared = [Outgoing(f"A{n:04}", None, "", b"{", tail) for n in range(2 * half + 10)]
    large = [row(n, 10 << 20) for n in range(4)]
    whole = Store(str(path), create=True)
    whole.add(shared)
    whole.add(large)
    whole.close()

    async def main() -> None:
        store, sink = Store(str(path)), Slow()
        running = asyncio.create_task(Drain(store, sink, Availability(1 << 30)).run())
        await until(lambda: len(sink.waiting) == 2 * half, 20)
        order = sink.answer(half)
        await until(lambda: len(sink.waiting) == half + 10 + 1, 20)  # two tails of 10 MiB, or three
        assert len({id(one.tail) for one, _ in sink.waiting}) <= 3
        while not running.done():
            order += sink.answer(100)
            await asyncio.sleep(0.01)  # the rate of the sink
        await running
        store.close()
        assert order == [one.id for one in (*shared, *large)]

    asyncio.run(main())


def test_a_row_is_deleted_after_its_answer_and_soon(path: Path) -> None:
    fill(path, [row(n) for n in range(10)])

    async def main() -> None:
        store, sink, look = Store(str(path)), Slow(), Store(str(path))
        availability = Availability(1 << 30)
        drain = Drain(store, sink, availability)
        running = asyncio.create_task(drain.run())
        await until(lambda: len(sink.waiting) == 10, 5)
        await asyncio.sleep(3 * drains.DELETE_DELAY)  # when it deletes what is answered
        assert look.count() == 10
        sink.answer(3)
        await until(lambda: look.count() == 7, 3 * 0.5)
        sink.answer(2, replies.UNROUTABLE)
        await until(lambda: drain.refused == 2, 5)
        availability.refusal = replies.NOT_STORED  # the sink goes away with what it has
        sink.answer(4, replies.NOT_STORED)
        sink.answer(1)
        await asyncio.wait_for(running, 30)
        assert (drain.stored, drain.deleted, drain.lost, drain.in_flight) == (4, 4, 4, 0)
        assert drain.reasons == [(row(n).id, replies.UNROUTABLE) for n in (3, 4)]
        store.close()
        look.close()

    asyncio.run(main())
    assert left(path) == [row(n).id for n in range(3, 9)]


def test_stopped_it_waits_for_answers_no_longer_than_its_grace(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drains, "GRACE", 0.5)
    fill(path, [row(n) for n in range(drains.WINDOW_ROWS + 10)])

    async def main() -> None:
        store, sink = Store(str(path)), Slow()
        drain = Drain(store, sink, Availability(1 << 30))
        running = asyncio.create_task(drain.run())
        await until(lambda: len(sink.waiting) == drains.WINDOW_ROWS, 10)
        drain.stop()
        sink.answer(drains.WINDOW_ROWS - 5)
        await asyncio.wait_for(running, 3 * 0.5)
        assert (drain.deleted, drain.in_flight) == (drains.WINDOW_ROWS - 5, 5)
        store.close()

    asyncio.run(main())
    assert len(left(path)) == 15
