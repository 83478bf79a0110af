"""The peer in Python: aiosmtpd takes the mail, aio-pika publishes it.

As its best friend would write it: uvloop, orjson, one connection and channel for all sessions,
confirms, persistent and mandatory as fastsmtp's, no lock and no wait between a message and its
publish, no logging, no limit of size.
"""

import argparse
import asyncio
import uuid
from datetime import UTC, datetime

import aio_pika
import orjson
import uvloop
from aiosmtpd.smtp import SMTP, Envelope, Session

HOSTNAME = "mx.example.com"


class Publisher:
    """aiosmtpd's handler: a message is confirmed before it is answered."""

    def __init__(self, exchange: aio_pika.abc.AbstractExchange, queue: str) -> None:
        self.exchange = exchange
        self.queue = queue

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        local = server.transport.get_extra_info("sockname")
        now = datetime.now(UTC)
        mime = orjson.Fragment(orjson.dumps(bytes(envelope.original_content or b"").decode()))
        messages = [
            self.message(uuid.uuid4().hex, recipient, local, session, envelope, now, mime)
            for recipient in envelope.rcpt_tos
        ]
        if len(messages) == 1:
            await self.exchange.publish(messages[0], self.queue)
        else:
            await asyncio.gather(*(self.exchange.publish(each, self.queue) for each in messages))
        return "250 2.0.0 Ok"

    def message(
        self,
        id: str,
        recipient: str,
        local: tuple[str, int],
        session: Session,
        envelope: Envelope,
        now: datetime,
        mime: orjson.Fragment,
    ) -> aio_pika.Message:
        """The same properties as fastsmtp's."""
        document = {
            "message-id": id,
            "recipient": recipient,
            "received": now.strftime("%Y-%m-%d %H:%M:%S"),
            "hostname": HOSTNAME,
            "envelope": envelope.mail_from,
            "ips": [local[0]],
            "connection": {
                "local-ip": local[0],
                "local-port": local[1],
                "remote-ip": session.peer[0],
                "remote-port": session.peer[1],
                "secure": False,
                "helo": session.host_name,
            },
            "mime": mime,
        }
        return aio_pika.Message(
            orjson.dumps(document),
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=id,
            timestamp=now,
            app_id="aiosmtpd",
        )


async def main(port: int, url: str, queue: str) -> None:
    connection = await aio_pika.connect(url)
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    await channel.declare_queue(queue, durable=True)
    handler = Publisher(channel.default_exchange, queue)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(
            handler, data_size_limit=None, enable_SMTPUTF8=True, hostname=HOSTNAME, loop=loop
        ),
        "127.0.0.1",
        port,
    )
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--queue", required=True)
    options = parser.parse_args()
    uvloop.run(main(options.port, options.url, options.queue))
