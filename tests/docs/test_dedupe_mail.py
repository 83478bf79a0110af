"""examples/dedupe_mail.py with a real broker: moves no resend twice, drops no different message."""

import asyncio
import random
import smtplib
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from tests.docs.test_move_mail import Queues
from tests.support.daemon import ROOT, Daemon
from tests.support.rabbitmq import Broker, declare, drain

EXAMPLE = ROOT / "examples" / "dedupe_mail.py"
BATCH = 100
WINDOW = 3600


class Dedupe(Queues):
    """The program between an inbox and an outbox, with its memory."""

    def __init__(self, url: str, name: str, folder: Path) -> None:
        super().__init__(url, name, folder)
        self.file = folder / "seen.db"
        self.options = ["--fingerprint", "--window", str(WINDOW)]

    def start(self) -> subprocess.Popen[bytes]:
        arguments = [self.url, self.inbox, self.outbox, str(self.file), *self.options]
        self.wait_until_nobody_reads()
        with self.stderr.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, str(EXAMPLE), *arguments], stderr=stderr
            )
        return self.process

    def wait_until_nobody_reads(self) -> None:
        """A program that has ended is a consumer until the broker has noticed."""
        deadline = time.monotonic() + 30
        while asyncio.run(self.consumers()):
            assert time.monotonic() < deadline
            time.sleep(0.05)  # looks again

    async def consumers(self) -> int:
        async with await aio_pika.connect(self.url) as connection:
            queue = await (await connection.channel()).declare_queue(self.inbox, passive=True)
            return queue.declaration_result.consumer_count or 0

    def finish(self) -> list[AbstractIncomingMessage]:
        """Let it take all that is there, and end it: what is in the outbox."""
        left = -1
        while left:  # what it had not begun when it ended goes back
            self.start()
            self.wait_until(lambda: self.count(self.inbox) == 0)
            self.stop()
            self.wait_until_nobody_reads()
            left = self.count(self.inbox)
        assert self.errors == ""
        return asyncio.run(drain(self.url, self.outbox))


@pytest.fixture
def dedupe(broker: Broker, queue: str, tmp_path: Path) -> Iterator[Dedupe]:
    made = Dedupe(broker.url, queue, tmp_path)
    for name in (made.inbox, made.outbox):
        asyncio.run(declare(broker.url, name))
    yield made
    made.close()


class Mail(NamedTuple):
    """One message in the inbox."""

    id: str
    fingerprint: str  # "": none
    published: int  # seconds since 1970
    body: str


async def put(url: str, queue: str, mails: Sequence[Mail]) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for mail in mails:
            message = aio_pika.Message(
                mail.body.encode(),
                headers={"fingerprint": mail.fingerprint} if mail.fingerprint else None,
                message_id=mail.id,
                timestamp=datetime.fromtimestamp(mail.published, UTC),
                delivery_mode=2,
            )
            await channel.default_exchange.publish(message, queue)


def send(
    daemon: Daemon, content: bytes, recipients: Sequence[str], address: str = "127.0.0.1"
) -> None:
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=30, source_address=(address, 0)) as client:
        client.sendmail("a@example.com", recipients, content)


@pytest.mark.parametrize("by_fingerprint", [True, False])
def test_a_resend_over_smtp_is_moved_once(
    dedupe: Dedupe, start_daemon: Callable[..., Daemon], by_fingerprint: bool
) -> None:
    daemon = start_daemon(
        rabbitmq_address=dedupe.url, rabbitmq_inbox=dedupe.inbox, rabbitmq_fingerprint=True
    )
    marked = b"Message-ID: <%d@example.com>\r\nDate: Mon, 23 Nov 2026 00:12:13 +0000\r\n\r\n"
    both = ["b@example.org", "c@example.org"]
    for content, recipients, address in [
        (marked % 1, both, "127.0.0.1"),
        (marked % 1, both[::-1], "127.0.0.1"),  # the resend
        (marked % 1, both[:1], "127.0.0.1"),  # another one, to those that it was not sure of
        (marked % 1, both[:1], "127.0.0.2"),  # of another client
        (marked % 2, both[:1], "127.0.0.1"),
        (marked % 3 + b"x" * 300_000, both[:1], "127.0.0.1"),  # composed in steps
        (marked % 3 + b"x" * 300_000, both[:1], "127.0.0.1"),
        (b"Subject: no Message-ID\r\n\r\n", both[:1], "127.0.0.1"),
        (b"Subject: no Message-ID\r\n\r\n", both[:1], "127.0.0.1"),
    ]:
        send(daemon, content, recipients, address)
    came = asyncio.run(drain(dedupe.url, dedupe.inbox))
    prints = Counter(one.headers.get("fingerprint") for one in came)
    assert sorted(prints.values()) == [1, 1, 2, 2, 2, 3]
    assert prints[None] == 2
    assert len({one.message_id for one in came}) == len(came) == 11
    asyncio.run(again(dedupe.url, dedupe.inbox, [*came, *came[:3]]))
    if not by_fingerprint:
        dedupe.options = []
    moved = dedupe.finish()
    if by_fingerprint:
        assert Counter(one.headers.get("fingerprint") for one in moved) == {
            fingerprint: 1 if fingerprint else 2 for fingerprint in prints
        }
    else:
        assert [one.message_id for one in moved] == [one.message_id for one in came]
    before = {one.message_id: unchanging(one) for one in came}
    assert all(unchanging(one) == before[one.message_id] for one in moved)


async def again(url: str, queue: str, messages: Sequence[AbstractIncomingMessage]) -> None:
    """Put back what was taken."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for message in messages:
            await channel.default_exchange.publish(message, queue)


def unchanging(one: AbstractIncomingMessage) -> tuple[object, ...]:
    """All that must not change on the way."""
    return (
        *(one.body, one.headers, one.timestamp, one.priority, one.delivery_mode, one.app_id),
        *(one.content_type, one.content_encoding),
    )


def mails(chance: random.Random, count: int, begun: int) -> list[Mail]:
    """Mail of a week, with copies near and far in time: by us, and by senders."""
    made: list[Mail] = []
    for number in range(count):
        at = begun + number * 7 * 86400 // count
        fingerprint = chance.choice((f"{number:064x}", f"{number:064x}", ""))
        first = Mail(f"M{number}", fingerprint, at, f"mail {number}")
        made.append(first)
        for copy in range(chance.choice((0, 0, 1, 2))):
            later = at + chance.choice((0, 5, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW))
            if chance.random() < 0.5:
                made.append(first._replace(published=later))
            else:
                made.append(first._replace(id=f"M{number}C{copy}", published=later))
    return sorted(made, key=lambda mail: mail.published)


def expected(mails: Sequence[Mail]) -> list[Mail]:
    """Those that are to be moved, slowly and obviously."""
    moved: list[Mail] = []
    for mail in mails:
        if not any(
            abs(mail.published - other.published) <= WINDOW
            and (mail.id == other.id or mail.fingerprint == other.fingerprint != "")
            for other in moved
        ):
            moved.append(mail)
    return moved


def test_what_is_moved_is_what_the_model_moves(dedupe: Dedupe) -> None:
    chance = random.Random(1)
    given = mails(chance, 300, int(time.time()) - 8 * 86400)
    wanted = expected(given)
    assert len(given) - 100 > len(wanted) > 300  # some copies are too late
    asyncio.run(put(dedupe.url, dedupe.inbox, given))
    found = dedupe.finish()
    assert [(one.message_id, one.body.decode()) for one in found] == [
        (mail.id, mail.body) for mail in wanted
    ]
    with closing(sqlite3.connect(dedupe.file)) as db:
        (oldest, kept) = db.execute("SELECT min(published), count(*) FROM seen").fetchone()
    assert oldest >= wanted[-1].published - WINDOW
    assert 0 < kept < 50


def test_killed_in_the_middle_it_loses_nothing_and_moves_few_twice(dedupe: Dedupe) -> None:
    now = int(time.time())
    originals = [Mail(f"M{n}", f"{n:064x}", now, f"mail {n}") for n in range(1000)]
    given = [*originals, *(mail._replace(id=f"{mail.id}C") for mail in originals)]
    asyncio.run(put(dedupe.url, dedupe.inbox, given))
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    kills = 3
    for _ in range(kills):
        process = dedupe.start()
        before = dedupe.count(dedupe.outbox)
        dedupe.wait_until(lambda before=before: dedupe.count(dedupe.outbox) > before)
        time.sleep(chance.uniform(0, 0.02))  # at any moment
        process.kill()
        process.wait()
    assert dedupe.count(dedupe.outbox) < len(originals), "every kill came too late"
    found = Counter(one.body.decode() for one in dedupe.finish())
    assert set(found) == {mail.body for mail in originals}, f"seed {seed}"
    assert found.total() - len(originals) <= kills * BATCH


def test_what_the_outbox_refuses_is_not_taken_for_moved(dedupe: Dedupe, queue: str) -> None:
    full = f"{queue}-full"
    asyncio.run(declare(dedupe.url, full, x_max_length=10, x_overflow="reject-publish"))
    now = int(time.time())
    given = [Mail(f"M{n}", f"{n // 2:064x}", now, f"mail {n // 2}") for n in range(60)]
    asyncio.run(put(dedupe.url, dedupe.inbox, given))
    outbox, dedupe.outbox = dedupe.outbox, full
    assert dedupe.start().wait(30) == 1
    assert "DeliveryError" in dedupe.errors
    first = asyncio.run(drain(dedupe.url, full))
    assert first
    dedupe.stderr.unlink()
    dedupe.outbox = outbox
    found = [one.body for one in (*first, *dedupe.finish())]
    assert sorted(found) == sorted(b"mail %d" % n for n in range(30))


def test_a_second_one_beside_it_is_refused(dedupe: Dedupe) -> None:
    asyncio.run(put(dedupe.url, dedupe.inbox, [Mail("M", "", int(time.time()), "mail")]))
    dedupe.start()
    dedupe.wait_until(lambda: dedupe.count(dedupe.outbox) == 1)
    arguments = [dedupe.url, dedupe.inbox, dedupe.outbox, str(dedupe.file)]
    second = subprocess.run(
        [sys.executable, str(EXAMPLE), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert "nobody else may read the inbox" in second.stderr
    assert "Traceback" not in second.stderr
    dedupe.stop()
