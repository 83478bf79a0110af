"""What is held without any content: long envelopes, replies and input that nobody reads."""

import contextlib
import socket
import time

from tests.hostile.arena import Arena, Attack, counted, outcome
from tests.support.wire import Wire

KB = 1024


def long_envelopes(arena: Arena, connections: int = 120) -> str:
    """Recipients of 4 KB, and no content ever; then somebody else says MAIL.

    One character beyond the Basic Multilingual Plane makes Python take 4 bytes for each.
    """
    local = "\N{ENVELOPE WITH LIGHTNING}\N{GRINNING FACE}".encode() + b"o" * 4000
    lines = [b"RCPT TO:<%b%d@example.org>\r\n" % (local, n) for n in range(1000)]

    def one(number: int) -> str:
        client = arena.client(f"127.0.{3 + number // 200}.{number % 200 + 1}")
        codes = [client.command("MAIL FROM:<a@example.com> SMTPUTF8").code]
        for first in range(0, len(lines), 50):
            part = lines[first : first + 50]
            client.send(b"".join(part))
            codes += [reply.code for reply in client.replies(len(part))]
        return f"to {'250' if set(codes) == {250} else max(codes)}"

    heard = arena.crowd(arena.scaled(connections), one)
    late = outcome(lambda: arena.client("127.0.9.9").command("MAIL FROM:<b@example.com>"))
    return f"envelopes {heard}, then MAIL {late}"


def greedy(arena: Arena, number: int) -> Wire:
    """A client whose kernel keeps little for it."""
    client = arena.client(f"127.0.{3 + number // 200}.{number % 200 + 1}")
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client.socket.settimeout(0.05)
    return client


def fill(clients: list[Wire], data: bytes, patience: float = 3.0) -> int:
    """Send `data` again and again to all until the server reads no more; all bytes sent."""
    total = 0
    for client in clients:
        client.socket.setblocking(False)
    progress = time.monotonic()
    while time.monotonic() - progress < patience:
        before = total
        for client in clients:
            with contextlib.suppress(OSError):
                total += client.socket.send(data)
        if total > before:
            progress = time.monotonic()
        time.sleep(0.05)  # looks again
    return total


def unread_replies(arena: Arena, connections: int = 1000) -> str:
    """Commands whose replies are long, pipelined by clients that read none of them."""
    clients = [greedy(arena, number) for number in range(arena.scaled(connections))]
    for client in clients:
        client.envelope("a@example.com", ["b@example.org"])  # or 1,000 commands are the last
    sent = fill(clients, b"HELP\r\n" * 2000)
    return f"{len(clients)} clients sent {sent >> 20} MB"


def unread_input(arena: Arena, connections: int = 800) -> str:
    """A mail of each waits for the broker; what follows it is kept until the answer."""
    clients = [greedy(arena, number) for number in range(arena.scaled(connections))]
    arena.trouble()
    for client in clients:
        client.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
    for client in clients:
        outcome(lambda client=client: str(client.replies(3)))
    for client in clients:
        client.send(b"Hello\r\n.\r\n")
    sent = fill(clients, b"NOOP\r\n" * 20_000)
    return f"{len(clients)} clients sent {sent >> 20} MB behind their mail"


def crumbs(arena: Arena, connections: int = 60, each: int = 64 * KB) -> str:
    """The same in pieces of two bytes, each of which is a read of its own."""
    clients = [greedy(arena, number) for number in range(arena.scaled(connections))]
    arena.trouble()
    for client in clients:
        client.socket.settimeout(5)
        client.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
        outcome(lambda client=client: str(client.replies(3)))
        client.send(b"Hello\r\n.\r\n")
    for client in clients:
        client.socket.setblocking(False)
    sent = 0
    for _ in range(each // 2):
        for client in clients:
            with contextlib.suppress(OSError):
                sent += client.socket.send(b"NO")
    return f"{len(clients)} clients sent {sent >> 10} KB in two-byte pieces"


def idle_lines(arena: Arena, connections: int = 3000) -> str:
    """Command lines that never end."""
    heard = []
    for number in range(arena.scaled(connections)):
        client = arena.client(f"127.0.{3 + number // 200}.{number % 200 + 1}")
        client.send(b"MAIL FROM:<" + b"a" * 4000)
        heard.append("waiting")
    return counted(heard)


ATTACKS = [
    Attack(
        "1b: 120 connections with 1,000 RCPTs of 4 KB",
        long_envelopes,
        "1.9 GB, MAIL still 250",
    ),
    Attack("1b: replies that 1,000 clients do not read", unread_replies),
    Attack("1b: 3,000 unfinished command lines", idle_lines, holds=True),
    Attack(
        "1b: input behind mail that waits, 800 clients",
        unread_input,
        broker="stopped",
        others=0,
        holds=True,
    ),
    Attack(
        "1b: the same in two-byte pieces, 60 clients",
        crumbs,
        broker="stopped",
        others=0,
        holds=True,
    ),
]
