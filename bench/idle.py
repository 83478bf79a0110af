"""Workload (j): what a connection that says nothing costs in memory."""

import asyncio
import resource

import uvloop

from bench._client import Client, Run
from bench.figures import Figures
from bench.generator import connect, make_run
from bench.load import Load
from bench.measure import resident
from bench.servers import Server

CONNECTIONS = 10_000
SPARE = 500
"""Descriptors that a process needs for other things, at most."""
AT_ONCE = 100
"""Connections being opened; a listener's backlog is not what is measured."""


def possible() -> int:
    """So many connections as the limit of open files lets a process have, `CONNECTIONS` at most."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(CONNECTIONS, limit - SPARE)


class Idle:
    """`connections` are opened and stay, with TLS after a message each; a new server each time."""

    def __init__(self, server: Server, tls: bool, connections: int) -> None:
        self.server = server
        self.connections = connections
        self.tls = tls
        self.name = f"{server.name}, {'TLS after one message' if tls else 'plain'}"
        self.answers = server.answers

    def start(self) -> None:
        """Each round has a server of its own: what was freed stays with a process."""

    def round(self, seconds: float) -> Figures:
        self.server.start()
        try:
            uvloop.run(warm_up(self.server.port, self.tls))
            before = resident(self.server.pid)
            uvloop.run(self.hold())
            messages = self.connections * self.tls
            self.server.check(messages + self.tls, Load())
        finally:
            self.server.stop()
        return {"resident": (self.held - before) / self.connections / 1024}

    async def hold(self) -> None:
        """Open them all, look, close them."""
        run = waiting_run(self.connections, self.tls)
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> Client:
            async with turn:
                return await opened(run, self.server.port, number)

        clients = await asyncio.gather(*(one(number) for number in range(self.connections)))
        await asyncio.sleep(1)  # what the server still had to do
        self.held = resident(self.server.pid)
        for client in clients:
            client.abort()

    def stop(self) -> None:
        """Nothing is left of a round."""


def waiting_run(connections: int, tls: bool) -> Run:
    """A session that stays: after the EHLO's reply, or after one message over TLS."""
    return make_run(Load(tls=tls, messages=connections if tls else 0), stay=True)


async def warm_up(port: int, tls: bool) -> None:
    """One connection of the same kind: what a server loads once is not a connection's."""
    (await opened(waiting_run(1, tls), port, 0)).abort()


async def opened(run: Run, port: int, number: int) -> Client:
    """One connection that has nothing more to say."""
    client = Client(run)
    await connect(client, port, number)
    await asyncio.wait([client.idle, client.ended], return_when=asyncio.FIRST_COMPLETED)
    if client.ended.done():
        client.ended.result()
    return client
