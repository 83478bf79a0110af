"""The load generator's process: `python -m bench.generator LOAD-AS-JSON PORT`.

Sends until the seconds are over, the messages sent, or SIGTERM came; prints a `Sent` as JSON. Any
reply but the expected one ends it with an error.
"""

import asyncio
import json
import signal
import ssl
import sys
import time

import uvloop

from bench._client import Client, Run
from bench.load import Load, Sent
from bench.mail import SENDER, content, recipients
from bench.measure import queued_seconds

Step = tuple[bytes | None, bytes]
"""What is said at once, and the codes of all replies to it (`b"250250354"`); None: begin TLS."""

ADDRESSES = 4
"""Of 127.0.0.x that connections come from: one alone has too few ports for many at once."""


def opening(load: Load) -> list[Step]:
    """From the greeting to the first MAIL."""
    steps: list[Step] = [(b"", b"220"), (b"EHLO client.example.com\r\n", b"250")]
    if load.tls:
        return [*steps, (b"STARTTLS\r\n", b"220"), (None, b""), steps[1]]
    return steps


def mail(load: Load) -> list[Step]:
    """One message; pipelined: everything before the content at once (RFC 2920)."""
    steps: list[Step] = [
        (f"MAIL FROM:<{SENDER}>\r\n".encode(), b"250"),
        *((f"RCPT TO:<{each}>\r\n".encode(), b"250") for each in recipients(load.recipients)),
        (b"DATA\r\n", b"354"),
    ]
    if load.pipelined:
        said, codes = zip(*steps, strict=True)
        steps = [(b"".join(said), b"".join(codes))]
    return [*steps, (content(load.size) + b".\r\n", b"250")]


def make_run(load: Load, stay: bool = False) -> Run:
    """What the sessions of this load share."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return Run(
        opening(load),
        mail(load),
        load.messages,
        reconnect=load.reconnect,
        context=context,
        stay=stay,
    )


async def connect(client: Client, port: int, number: int) -> None:
    """From one address of several, by the session's number."""
    source = (f"127.0.0.{1 + number % ADDRESSES}", 0)
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: client, "127.0.0.1", port, local_addr=source)


async def session(run: Run, port: int, number: int) -> None:
    """One connection after the other until there is no more to send."""
    while not run.is_over:
        client = Client(run)
        await connect(client, port, number)
        await client.ended


async def send(load: Load, port: int) -> Sent:
    """The whole load."""
    run = make_run(load)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, run.stop)
    cpu, queued, began = time.process_time(), queued_seconds(), time.monotonic()
    loop.call_later(load.seconds, run.stop)
    async with asyncio.TaskGroup() as sessions:
        for number in range(load.sessions):
            sessions.create_task(session(run, port, number))
    cpu, queued = time.process_time() - cpu, queued_seconds() - queued
    return Sent.of(run.latencies(), run.last - began, cpu, queued)


if __name__ == "__main__":
    try:
        sent = uvloop.run(send(Load(**json.loads(sys.argv[1])), int(sys.argv[2])))
    except* OSError as errors:
        sys.exit(f"load generator: {errors.exceptions[0]}")
    print(json.dumps(sent._asdict()))
