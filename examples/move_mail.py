"""Moves mail from one queue to another: reads it, changes it, publishes it, then acknowledges it.

    python move_mail.py amqp://guest:guest@localhost/ inbox outbox

Loses nothing: a message leaves the first queue when the broker has confirmed it in the second.
Whatever goes wrong ends the program with an error; start it again, and it goes on. A message that
was under way then may arrive twice, with the same message-id. SIGTERM ends it in order.
"""

import asyncio
import base64
import gzip
import json
import logging
import signal
import sys
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

PREFETCH = 100
"""Messages under way at a time; so many may arrive twice after a crash."""


def changed(body: dict[str, Any]) -> dict[str, Any]:
    """What goes on for a message: your own work, this here is an example."""
    content = b"X-Inbox: seen\r\n" + content_of(body)
    return {**without_content(body), "tags": [*body.get("tags", []), "seen"], **mime(content)}


def content_of(body: dict[str, Any]) -> bytes:
    """The mail, byte for byte: headers, an empty line, the rest."""
    text: str = body["mime"]
    return base64.b64decode(text) if body.get("mime-encoding") == "base64" else text.encode()


def without_content(body: dict[str, Any]) -> dict[str, Any]:
    """All other properties."""
    return {key: value for key, value in body.items() if key not in ("mime", "mime-encoding")}


def mime(content: bytes) -> dict[str, str]:
    """The properties that hold `content`: text where it is UTF-8, else base64."""
    try:
        return {"mime": content.decode()}
    except UnicodeDecodeError:
        return {"mime-encoding": "base64", "mime": base64.b64encode(content).decode()}


def republished(message: AbstractIncomingMessage) -> aio_pika.Message:
    """The message to publish for one that came."""
    packed = message.content_encoding == "gzip"  # rabbitmq-encoding: gzip
    body = changed(json.loads(gzip.decompress(message.body) if packed else message.body))
    encoding = body.get("mime-encoding")
    return aio_pika.Message(
        json.dumps(body).encode(),
        headers={"mime-encoding": encoding} if encoding else None,
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=message.message_id,
        priority=message.priority,
    )


async def move(message: AbstractIncomingMessage, channel: AbstractChannel, outbox: str) -> None:
    """Take one message to its end; raises where the broker does not take it."""
    try:
        outgoing = republished(message)
    except Exception:  # it would fail again and again: put it aside, for a human
        logging.exception("message %s is put aside", message.message_id)
        outgoing = aio_pika.Message(
            message.body,
            content_encoding=message.content_encoding,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=message.message_id,
        )
        outbox += "-failed"
    # Returns when the broker has it, raises if it refused it or has no such queue.
    await channel.default_exchange.publish(outgoing, outbox, mandatory=True)
    await message.ack()


async def main(url: str, inbox: str, outbox: str) -> None:
    """Move mail until SIGTERM; raises when anything is wrong."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.set_qos(prefetch_count=PREFETCH)
        await channel.declare_queue(outbox + "-failed", durable=True)
        await channel.get_queue(outbox)  # an error now if it is not there
        queue = await channel.get_queue(inbox)
        over = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
        channel.close_callbacks.add(lambda *_: over.set())
        async with asyncio.TaskGroup() as moving:  # the first error of one ends all

            async def take(message: AbstractIncomingMessage) -> None:
                moving.create_task(move(message, channel, outbox))

            tag = await queue.consume(take)
            await over.wait()
            if channel.is_closed:
                raise ConnectionError("the connection to RabbitMQ was lost")
            await queue.cancel(tag)  # and what is under way comes to its end


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except aio_pika.exceptions.ChannelNotFoundEntity as error:
        sys.exit(
            f"{error}\nBoth queues must exist. fastsmtp declares the inbox, the program that reads "
            "the outbox declares the outbox: start them first, or declare the queue yourself."
        )
    except ConnectionError as error:
        sys.exit(f"cannot connect to RabbitMQ: {error}\nIs it running? Is the address right?")
