"""Clients that take their time: silent or slow in every phase, never reading, busy with TLS."""

import contextlib
import os
import socket
import ssl
import time

from tests.hostile.arena import Arena, Attack, counted
from tests.support.key_updates import SIZE, KeyUpdates
from tests.support.wire import Wire

HELLO = b"EHLO slow.example.net\r\n"
ENVELOPE = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"
CLIENT_HELLO = b"\x16\x03\x01\x40\x00" + bytes(100)

PHASES: dict[str, bytes] = {
    "greeted": b"",
    "half a command": b"MAIL FROM:<",
    "hello": HELLO,
    "AUTH": HELLO + b"AUTH LOGIN\r\n",
    "STARTTLS": b"STARTTLS\r\n",
    "MAIL": HELLO + b"MAIL FROM:<a@example.com>\r\n",
    "RCPT": HELLO + ENVELOPE,
    "DATA": HELLO + ENVELOPE + b"DATA\r\n",
    "BDAT": HELLO + ENVELOPE + b"BDAT 1000000 LAST\r\n" + b"x" * 2000,
    "between chunks": HELLO + ENVELOPE + b"BDAT 3\r\nabc",
    "TLS port": b"",
    "never reads": HELLO + ENVELOPE + b"HELP\r\n" * 5000,
}
"""What a client of each phase sends at once; from then on it sends an octet per second."""

OCTETS: dict[str, bytes] = {
    "half a command": b"x",
    "AUTH": b"x",
    "STARTTLS": CLIENT_HELLO,
    "DATA": b"x",
    "BDAT": b"x",
    "TLS port": CLIENT_HELLO,
}
"""Of which octets, where it sends any: the others are silent."""


def every_phase(arena: Arena, count: int = 3000) -> str:
    """So many clients, as many in each phase; the settings end each of them before the attack."""
    clients: dict[str, list[Wire]] = {}
    number = 0
    for _ in range(arena.scaled(count) // len(PHASES)):
        for phase, first in PHASES.items():
            number += 1
            address = f"127.0.{3 + number // 200}.{number % 200 + 1}"
            client = Slow(arena, phase == "TLS port", address)
            client.send(first)
            client.socket.setblocking(False)
            clients.setdefault(phase, []).append(client)
    end, tick = time.monotonic() + arena.seconds, 0
    while time.monotonic() < end:
        for phase, octets in OCTETS.items():
            for client in clients[phase]:
                with contextlib.suppress(OSError):
                    client.socket.send(octets[tick % len(octets) : tick % len(octets) + 1])
        tick += 1
        time.sleep(1)  # the rate of the clients
    return counted([f"{phase} {_end(each)}" for phase, them in clients.items() for each in them])


class Slow(Wire):
    """A connection that reads nothing."""

    def __init__(self, arena: Arena, tls_port: bool, address: str) -> None:
        port = arena.daemon.tls_port if tls_port else arena.daemon.port
        self.socket = socket.create_connection(("127.0.0.1", port), 30, (address, 0))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.unread = b""
        arena.clients.append(self)


def _end(client: Wire) -> str:
    """How it ended, or that it did not."""
    said = b""
    client.socket.settimeout(0.1)  # what was never read is on its way only now
    try:
        while part := client.socket.recv(65536):
            said = (said + part)[-200:]
    except TimeoutError:
        return "open"
    except OSError:
        return "reset"
    return "421" if b"\r\n421 4.4.2 " in b"\r\n" + said else "hung up"


# KeyUpdate (RFC 8446 §4.6.3): 27 octets for which both sides derive new keys


def key_updates(arena: Arena, connections: int = 40) -> str:
    """Each sends KeyUpdate without end, asks for one in return, and reads or does not."""
    floods = [Flood(arena, number) for number in range(connections)]
    end = time.monotonic() + arena.seconds
    while time.monotonic() < end:
        for flood in floods:
            flood.send()
        time.sleep(0.01)  # others have their turn
    sent = sum(flood.sent for flood in floods)
    return f"{sent} updates, {sent * SIZE >> 10} KB; {counted([flood.end() for flood in floods])}"


class Flood:
    """One client; every other one reads what comes back."""

    def __init__(self, arena: Arena, number: int) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = Wire(arena.daemon.tls_port, source=f"127.0.3.{number + 1}", tls=context)
        arena.clients.append(client)
        assert isinstance(client.socket, ssl.SSLSocket)
        self.reads = number % 2 == 0
        self.socket = client.socket
        self.socket.setblocking(False)
        self.updates = KeyUpdates(self.socket)
        self.sent = 0

    def send(self) -> None:
        self.sent += self.updates.send(100)
        if self.reads:
            with contextlib.suppress(OSError):  # nothing is there, or it is over
                self.socket.recv(65536)

    def end(self) -> str:
        """How it ended, whatever is unread."""
        with socket.socket(fileno=os.dup(self.socket.fileno())) as raw:
            try:
                while raw.recv(65536):
                    pass
            except BlockingIOError:
                return "open"
            except OSError:
                return "reset"
            return "hung up"


SLOW = {"smtp_timeout": 8, "smtp_session_timeout": 16, "smtp_connections": 10_000}

ATTACKS = [
    Attack(
        "2d: 3,000 clients, silent or slow in every phase, or never reading",
        every_phase,
        "silent in DATA for 28 hours after 100 MB",
        settings=SLOW,
        tls=True,
    ),
    Attack(
        "2d: KeyUpdate without end from 40 clients",
        key_updates,
        "a step of 821 ms, small mail waits 20 s",
        tls=True,
    ),
]
