"""The peer in Python: aiosmtpd takes the mail, aio-pika publishes it; `PORT URL QUEUE`.

As its best friend would write it: uvloop, orjson, one connection and channel for all sessions,
confirms, persistent and mandatory as fastsmtp's, no lock and no wait between a message and its
publish.
"""

import asyncio
import sys
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
        ids = [uuid.uuid4().hex for _ in envelope.rcpt_tos]
        mime = bytes(envelope.original_content or b"").decode()
        await asyncio.gather(
            *(
                self.exchange.publish(
                    aio_pika.Message(
                        orjson.dumps(self.document(id, recipient, session, envelope, mime)),
                        content_type="application/json",
                        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                        message_id=id,
                        app_id="aiosmtpd",
                    ),
                    self.queue,
                )
                for id, recipient in zip(ids, envelope.rcpt_tos, strict=True)
            )
        )
        return "250 2.0.0 Ok, queued as " + " ".join(ids)

    def document(
        self, id: str, recipient: str, session: Session, envelope: Envelope, mime: str
    ) -> dict[str, object]:
        """The same properties as fastsmtp's."""
        return {
            "message-id": id,
            "received": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
            "hostname": HOSTNAME,
            "envelope": envelope.mail_from,
            "recipient": recipient,
            "ips": ["127.0.0.1"],
            "connection": {
                "remote-ip": session.peer[0],
                "remote-port": session.peer[1],
                "secure": False,
                "helo": session.host_name,
            },
            "mime": mime,
        }


async def main(port: int, url: str, queue: str) -> None:
    connection = await aio_pika.connect(url)
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    await channel.declare_queue(queue, durable=True)
    handler = Publisher(channel.default_exchange, queue)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(handler, hostname=HOSTNAME, enable_SMTPUTF8=True, loop=loop),
        "127.0.0.1",
        port,
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
