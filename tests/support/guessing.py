"""Clients that authenticate, hundreds at a time: those who guess, and those who know."""

import asyncio
import base64
import contextlib
import re
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NamedTuple

from tests.support.daemon import Daemon


class Heard(NamedTuple):
    """What an attempt came to."""

    code: int  # 0: nothing in time
    seconds: float


def plain(user: str, password: str) -> str:
    """What AUTH PLAIN sends."""
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


async def attempt(
    port: int, source: str, user: str, password: str, patience: float = 60.0
) -> Heard:
    """AUTH PLAIN from the address `source`; hangs up after so many seconds without a reply."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        await reader.readline()
        writer.write(b"EHLO client.example.net\r\n")
        while (await reader.readline())[3:4] == b"-":
            pass
        begun = time.monotonic()
        writer.write(f"AUTH PLAIN {plain(user, password)}\r\n".encode())
        try:
            line = await asyncio.wait_for(reader.readline(), patience)
        except TimeoutError:
            line = b"000"
        return Heard(int(line[:3]), time.monotonic() - begun)
    finally:
        writer.transport.abort()


async def guess(port: int, source: str, name: Callable[[], str], patience: float) -> None:
    """Guess without an end, each time until the reply comes, or `patience` is over."""
    while True:
        with contextlib.suppress(OSError):
            await attempt(port, source, name(), "wrong", patience)


@contextlib.asynccontextmanager
async def meanwhile(*work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Let others work until the block is left."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def success(heard: list[Heard]) -> float:
    """Which part of the attempts was accepted."""
    return Counter(each.code for each in heard)[235] / len(heard)


def counted(daemon: Daemon) -> dict[str, int]:
    """Authentications by outcome, as its metrics have them."""
    url = f"http://{daemon.settings['metrics_address']}/metrics"
    with urllib.request.urlopen(url) as page:
        text = page.read().decode()
    found = re.findall(r'fastsmtp_authentications_total\{outcome="(\w+)"\} (\S+)', text)
    return {outcome: int(float(number)) for outcome, number in found}
