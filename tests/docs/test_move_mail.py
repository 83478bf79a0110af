"""examples/move_mail.py, as docs/consuming.md shows it, with a real broker: it loses nothing."""

import asyncio
import base64
import gzip
import json
import random
import re
import smtplib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from tests.support.daemon import ROOT, Daemon
from tests.support.rabbitmq import Broker, free_ports

EXAMPLE = ROOT / "examples" / "move_mail.py"
PREFETCH = 100


class Queues:
    """An inbox and an outbox of the test's own, and the program between them."""

    def __init__(self, url: str, name: str, folder: Path) -> None:
        self.url = url
        self.inbox, self.outbox = f"{name}-inbox", f"{name}-outbox"
        self.stderr = folder / "stderr.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        with self.stderr.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, str(EXAMPLE), self.url, self.inbox, self.outbox], stderr=stderr
            )
        return self.process

    def stop(self) -> None:
        """SIGTERM: it must end with 0."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(30) == 0, self.errors

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @property
    def errors(self) -> str:
        """All that it wrote to standard error."""
        return self.stderr.read_text()

    def count(self, name: str) -> int:
        """Messages of a queue that nobody has taken; 0 where it is not there."""
        return asyncio.run(self._count(name))

    async def _count(self, name: str) -> int:
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            try:
                queue = await channel.declare_queue(name, passive=True)
            except aio_pika.exceptions.ChannelNotFoundEntity:
                return 0
            return queue.declaration_result.message_count or 0

    async def fill(self, bodies: list[bytes], outbox: dict[str, Any] | None = None) -> None:
        """Declare both queues, the outbox with these arguments, and put `bodies` into the inbox."""
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            await channel.declare_queue(self.outbox, durable=True, arguments=outbox)
            queue = await channel.declare_queue(self.inbox, durable=True)
            for number in range(0, len(bodies), 200):
                await asyncio.gather(
                    *(
                        channel.default_exchange.publish(
                            aio_pika.Message(body, message_id=f"M{number + n}", delivery_mode=2),
                            queue.name,
                        )
                        for n, body in enumerate(bodies[number : number + 200])
                    )
                )

    async def drain(self, name: str) -> list[aio_pika.abc.AbstractIncomingMessage]:
        found: list[aio_pika.abc.AbstractIncomingMessage] = []
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(name, passive=True)
            if ready := queue.declaration_result.message_count:
                async with queue.iterator(no_ack=True) as messages:
                    async for message in messages:
                        found.append(message)
                        if len(found) == ready:
                            break
        return found

    def wait_until(self, done: Callable[[], bool], seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline
            assert self.process is not None
            assert self.process.poll() is None, self.errors
            time.sleep(0.05)  # looks again


@pytest.fixture
def queues(broker: Broker, queue: str, tmp_path: Path) -> Iterator[Queues]:
    made = Queues(broker.url, queue, tmp_path)
    yield made
    made.close()


def content_of(message: aio_pika.abc.AbstractIncomingMessage) -> bytes:
    body = json.loads(message.body)
    assert message.headers.get("mime-encoding") == body.get("mime-encoding")
    mime = body["mime"]
    return base64.b64decode(mime) if body.get("mime-encoding") else mime.encode()


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_accepted_mail_arrives_changed_and_whole(
    queues: Queues, start_daemon: Callable[..., Daemon], encoding: str
) -> None:
    asyncio.run(queues.fill([]))
    daemon = start_daemon(
        rabbitmq_address=queues.url, rabbitmq_inbox=queues.inbox, rabbitmq_encoding=encoding
    )
    contents = [b"X-MQ-Priority: 7\r\nX-MQ-Tag: a\r\n\r\nplain\r\n", b"\r\n\xff\xfe\r\n"]
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=30) as client:
        for content in contents:
            client.sendmail("a@example.com", ["b@example.org"], content)
    queues.start()
    queues.wait_until(lambda: queues.count(queues.outbox) == 2)
    moved = sorted(asyncio.run(queues.drain(queues.outbox)), key=lambda one: one.priority or 0)
    assert [content_of(one) for one in moved] == [
        b"X-Inbox: seen\r\n\r\n\xff\xfe\r\n",
        b"X-Inbox: seen\r\n\r\nplain\r\n",
    ]
    bodies = [json.loads(one.body) for one in moved]
    assert [one["tags"] for one in bodies] == [["seen"], ["a", "seen"]]
    assert [one.message_id for one in moved] == [one["message-id"] for one in bodies]
    assert {(one["envelope"], one["recipient"]) for one in bodies} == {
        ("a@example.com", "b@example.org")
    }
    assert [one.priority or 0 for one in moved] == [0, 7]
    assert {one.delivery_mode for one in moved} == {aio_pika.DeliveryMode.PERSISTENT}


def mail(count: int) -> list[bytes]:
    """Bodies as fastsmtp publishes them; every third one's content is not UTF-8."""
    bodies = []
    for number in range(count):
        body: dict[str, Any] = {"message-id": f"M{number}"}
        content = f"\r\ntoken {number}\r\n".encode() + b"x" * 2000
        if number % 3:
            body["mime"] = content.decode()
        else:
            body |= {"mime-encoding": "base64", "mime": base64.b64encode(content).decode()}
        bodies.append(json.dumps(body).encode())
    return bodies


def moved(queues: Queues) -> Counter[str]:
    """How often each message is in the outbox; each must be whole."""
    found: Counter[str] = Counter()
    for message in asyncio.run(queues.drain(queues.outbox)):
        token = message.message_id.removeprefix("M")
        wanted = f"X-Inbox: seen\r\n\r\ntoken {token}\r\n".encode() + b"x" * 2000
        assert content_of(message) == wanted
        found[message.message_id] += 1
    return found


def test_killed_in_the_middle_it_loses_nothing(queues: Queues) -> None:
    count, kills = 1500, 0
    asyncio.run(queues.fill(mail(count)))
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    while kills < 5:
        process = queues.start()
        before = queues.count(queues.outbox)
        queues.wait_until(lambda before=before: queues.count(queues.outbox) > before)
        time.sleep(chance.uniform(0, 0.05))  # at any moment
        process.kill()
        process.wait()
        kills += 1
    assert queues.count(queues.outbox) < count, "every kill came too late"
    queues.start()
    queues.wait_until(lambda: queues.count(queues.inbox) == 0)
    queues.stop()
    found = moved(queues)
    assert sorted(found) == sorted(f"M{n}" for n in range(count)), f"seed {seed}"
    assert found.total() - count <= kills * PREFETCH


def test_sigterm_ends_it_in_order(queues: Queues) -> None:
    count = 1000
    asyncio.run(queues.fill(mail(count)))
    queues.start()
    queues.wait_until(lambda: queues.count(queues.outbox) > 0)
    queues.stop()
    assert queues.errors == ""
    left = queues.count(queues.inbox)
    assert 0 < left < count
    found = moved(queues)
    assert set(found.values()) == {1}
    assert len(found) == count - left


def test_what_it_cannot_read_is_put_aside(queues: Queues) -> None:
    packed = gzip.compress(b"{}")
    asyncio.run(queues.fill([b"no JSON", packed, *mail(1)]))
    queues.start()
    queues.wait_until(lambda: queues.count(queues.outbox) == 1)
    queues.wait_until(lambda: queues.count(f"{queues.outbox}-failed") == 2)
    failed = asyncio.run(queues.drain(f"{queues.outbox}-failed"))
    assert {(one.message_id, one.body) for one in failed} == {
        ("M0", b"no JSON"),
        ("M1", packed),
    }


def test_mail_that_the_outbox_refuses_stays_in_the_inbox(queues: Queues) -> None:
    asyncio.run(queues.fill(mail(300), {"x-max-length": 10, "x-overflow": "reject-publish"}))
    assert queues.start().wait(30) == 1
    assert "DeliveryError" in queues.errors
    left = {one.message_id for one in asyncio.run(queues.drain(queues.inbox))}
    assert left | set(moved(queues)) == {f"M{n}" for n in range(300)}


@pytest.mark.parametrize("missing", ["broker", "inbox", "outbox"])
def test_what_is_missing_is_an_error(broker: Broker, queues: Queues, missing: str) -> None:
    asyncio.run(queues.fill([]))
    if missing == "inbox":
        queues.inbox += "-other"
    if missing == "broker":
        queues.url = f"amqp://guest:guest@127.0.0.1:{free_ports(1)[0]}/"
    if missing == "outbox":
        queues.outbox += "-other"
    assert queues.start().wait(30) == 1
    assert "Traceback" not in queues.errors
    said = queues.errors.splitlines()[-2:]
    if missing == "broker":
        assert said[0].startswith("cannot connect to RabbitMQ: ")
        assert "Is it running?" in said[1]
    else:
        name = queues.inbox if missing == "inbox" else queues.outbox
        assert said[0] == f"NOT_FOUND - no queue '{name}' in vhost '/'"
        assert said[1].startswith("Both queues must exist. ")


def test_without_arguments_it_shows_how_to_call_it() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "python move_mail.py amqp://guest:guest@localhost/ inbox outbox" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broker_that_is_killed_ends_it_and_loses_nothing(
    killable: Broker, tmp_path: Path
) -> None:
    queues = Queues(killable.url, "queue", tmp_path)
    try:
        asyncio.run(queues.fill(mail(600)))
        process = queues.start()
        queues.wait_until(lambda: queues.count(queues.outbox) > 100)
        killable.kill()
        assert process.wait(30) == 1
        killable.start()
        queues.start()
        queues.wait_until(lambda: queues.count(queues.inbox) == 0)
        queues.stop()
        assert set(moved(queues)) == {f"M{n}" for n in range(600)}
    finally:
        queues.close()


def test_the_page_shows_these_very_programs() -> None:
    page = Path(ROOT, "docs", "consuming.md").read_text("utf-8")
    assert re.findall(r"```python\n(.*?)```", page, re.DOTALL) == [
        (EXAMPLE.parent / name).read_text("utf-8") for name in ("move_mail.py", "dedupe_mail.py")
    ]
