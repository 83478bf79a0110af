"""Large mail of some and small mail of others: who waits for whom."""

import contextlib
import threading
import time
from functools import partial

from tests.hostile.arena import Arena, Attack, counted, outcome
from tests.hostile.expansion import TEXT, lines
from tests.support.resident import MB
from tests.support.wire import Wire, stuffed

MAIL = "MAIL FROM:<a@example.com>"
RCPT = "RCPT TO:<b@example.org>"


def silent(arena: Arena, count: int = 6) -> str:
    """Each sends nearly all of a large content and then nothing."""
    part = lines(TEXT, 55 * arena.unit)

    def one(number: int) -> str:
        client = arena.client(f"127.0.3.{number + 1}")
        replies = [client.command(line) for line in (MAIL, RCPT, "DATA")]
        reply = replies[-1]
        if reply.code == 354:
            client.socket.settimeout(5)
            with contextlib.suppress(TimeoutError):  # it is not read
                client.send(part)
        return str(reply.code)

    heard = arena.crowd(count, one)
    time.sleep(arena.seconds)  # the attack goes on meanwhile
    return f"DATA {heard}"


def silent_small(arena: Arena, count: int = 1500) -> str:
    """One client has very many connections with 200 KB of content each, and says nothing more."""
    clients = []
    for _ in range(arena.scaled(count)):
        client = arena.client("127.0.3.1")
        replies = [client.command(line) for line in (MAIL, RCPT, "DATA")]
        if replies[-1].code == 354:
            client.socket.settimeout(0.2)
            with contextlib.suppress(TimeoutError):  # it is not read
                client.send(lines(TEXT, 200 * 1024))
        clients.append(f"DATA {replies[-1].code}")
    time.sleep(arena.seconds)  # the attack goes on meanwhile
    return counted(clients)


def trickle(client: Wire, data: bytes, rate: float, end: float) -> bool:
    """Send at `rate` bytes per second until `end`; whether all of it left."""
    began, at = time.monotonic(), 0
    client.socket.settimeout(1)
    while at < len(data):
        time.sleep(0.1)  # the rate of the sender
        now = time.monotonic()
        if now > end:
            return False
        allowed = min(len(data), int((now - began) * rate))
        try:
            while at < allowed:
                at += client.socket.send(data[at : min(allowed, at + 65536)])
        except TimeoutError:
            began = now - at / rate  # it goes on at its rate, and makes up for nothing
    return True


def slow(arena: Arena, count: int = 50) -> str:
    """Large content that comes slowly from many clients, for `seconds`: 1 MB per second each."""
    content, rate = lines(TEXT, 50 * arena.unit), float(arena.unit)
    end = time.monotonic() + arena.seconds

    def one(number: int) -> str:
        client = arena.client(f"127.0.3.{number + 1}")
        while (reply := client.command(MAIL)).code != 250:
            if reply.code != 452 or time.monotonic() > end:
                return f"MAIL {reply.code}"
            time.sleep(1)  # tries again
        client.command(RCPT)
        reply = client.command("DATA")
        if reply.code != 354:
            return f"DATA {reply.code}"
        if not trickle(client, content + b".\r\n", rate, end):
            return "under way"
        client.socket.settimeout(max(1, end - time.monotonic()))
        return outcome(client.reply)

    return arena.crowd(count, one)


def full_speed(
    arena: Arena, hosts: int, connections: int, size: int, declared: bool = False
) -> str:
    """`connections` from each of `hosts` addresses, one message after the other, for `seconds`."""
    content = stuffed(lines(TEXT, size))
    mail = f"{MAIL} SIZE={len(content)}" if declared else MAIL
    began = time.monotonic()
    end = began + arena.seconds
    heard: list[str] = []

    def message(client: Wire) -> str:
        for command, good in ((mail, 250), (RCPT, 250), ("DATA", 354)):
            if (code := client.command(command).code) != good:
                client.command("RSET")
                time.sleep(0.2)  # tries again
                return f"{command[:4]} {code}"
        client.send(content)
        return str(client.reply().code)

    def one(number: int) -> str:
        while time.monotonic() < end:
            client = arena.client(f"127.0.3.{number % hosts + 1}")
            while time.monotonic() < end:
                heard.append(outcome(partial(message, client)))
                if heard[-1] in ("hung up", "no reply", "421"):
                    break
        return ""

    arena.crowd(hosts * connections, one)
    seconds = time.monotonic() - began
    done = heard.count("250")
    return f"{done / seconds * 60:.0f} per minute ({done * size / seconds / MB:.0f} MB/s); " + (
        counted(heard)
    )


def mixed(arena: Arena) -> str:
    """Silent, slow and fast at once."""
    said: dict[str, str] = {}
    kinds = {
        "silent": lambda: silent(arena, 6),
        "slow": lambda: slow(arena, 25),
        "fast": lambda: full_speed(arena, 10, 1, 50 * arena.unit),
    }

    def run(name: str) -> None:
        said[name] = kinds[name]()

    threads = [threading.Thread(target=run, args=[name]) for name in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return "; ".join(f"{name}: {what}" for name, what in said.items())


ATTACKS = [
    Attack(
        "2: six silent senders of 55 MB",
        silent,
        "565 of 577 other mails fail",
        broker="well",
    ),
    Attack(
        "2: 50 slow senders of 50 MB",
        slow,
        "a small mail waited 59 s; 3 of 50 came through in 90 s",
        broker="well",
    ),
    Attack(
        "2: 20 hosts at full speed, 50 MB",
        lambda arena: full_speed(arena, 20, 1, 50 * arena.unit),
        broker="well",
    ),
    Attack(
        "2: 20 hosts at full speed, 50 MB, SIZE= said",
        lambda arena: full_speed(arena, 20, 1, 50 * arena.unit, declared=True),
        broker="well",
    ),
    Attack("2: one silent host with 1,500 x 200 KB", silent_small, broker="well"),
    Attack(
        "2: silent, slow and fast senders at once",
        mixed,
        broker="well",
    ),
    Attack(
        "2: baseline: one host at full speed, 50 MB, 20 connections",
        lambda arena: full_speed(arena, 1, 20, 50 * arena.unit),
        broker="well",
    ),
    Attack(
        "2: baseline: one host at full speed, 50 MB, 2 connections",
        lambda arena: full_speed(arena, 1, 2, 50 * arena.unit),
        broker="well",
    ),
    Attack(
        "2: baseline: one host at full speed, 2 KB, 20 connections",
        lambda arena: full_speed(arena, 1, 20, 2048),
        broker="well",
    ),
]
