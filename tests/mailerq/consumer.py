"""Reads the inbox: prints who sends what to whom."""

import asyncio
import email
import json
import sys

import aio_pika


async def main(url: str, inbox: str) -> None:
    async with await aio_pika.connect(url) as connection:
        queue = await (await connection.channel()).get_queue(inbox)
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    mail = json.loads(message.body)
                    subject = email.message_from_string(mail["mime"])["Subject"]
                    print(mail["envelope"], mail["recipient"], subject, flush=True)


asyncio.run(main(*sys.argv[1:]))
