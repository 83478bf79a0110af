"""What the broker confirms, with nobody's work in it but the broker's: the ceiling.

`python -m bench.confirms PORT QUEUE SIZE WINDOW SECONDS` writes frames that were encoded before
over a bare socket, `WINDOW` publishes in flight, and prints a `Sent` as JSON: its latencies are
those from the last write to a confirm, which means something only where the window is one.
"""

import json
import socket
import struct
import sys
import time
from collections.abc import Iterator

import orjson
from pamqp import commands, frame
from pamqp.base import Frame

from bench.load import Sent
from bench.mail import SENDER, content, recipients
from bench.measure import queued_seconds
from fastsmtp._tail import Reader, Tail
from fastsmtp.ids import Ids
from fastsmtp.sinks.rabbitmq._amqp import Encoder

FRAME_MAX = 131072
ACK = b"\x00\x3c\x00\x50"  # class basic, method ack
HEAD = struct.Struct(">BHI")  # type, channel, size
TAG = struct.Struct(">Q?")  # delivery tag, multiple


def publish(queue: str, size: int, recipient: str) -> bytes:
    """The frames of one publish, as fastsmtp writes them for a content of `size` octets."""
    id = Ids().fresh()
    body = orjson.dumps(
        {
            "message-id": id,
            "received": "2026-11-23 00:12:13",
            "hostname": "mx.example.com",
            "envelope": SENDER,
            "recipient": recipient,
            "ips": ["127.0.0.1"],
            "connection": {
                **{"local-ip": "127.0.0.1", "local-port": 2525},
                **{"remote-ip": "127.0.0.1", "remote-port": 40112},
                **{"secure": False, "helo": "client.example.com"},
            },
            "mime": content(size).decode(),
        }
    )
    encoder = Encoder(1, "", queue, FRAME_MAX, True, "")
    rest = Tail.of(body)
    if encoder.publish(id, None, "", b"", rest, int(time.time())):
        return bytes(encoder.take())
    return bytes(encoder.take() + encoder.slice(Reader(rest), rest.size))


class Link:
    """A connection with one confirming channel; everything blocks."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.socket.sendall(b"AMQP\0\0\x09\x01")
        self.expect("Connection.Start")
        self.say(commands.Connection.StartOk({}, "PLAIN", "\0guest\0guest", "en_US"), 0)
        self.expect("Connection.Tune")
        self.say(commands.Connection.TuneOk(1, FRAME_MAX, 0), 0)
        self.say(commands.Connection.Open("/"), 0)
        self.expect("Connection.OpenOk")
        self.say(commands.Channel.Open(), 1)
        self.expect("Channel.OpenOk")
        self.say(commands.Confirm.Select(), 1)
        self.expect("Confirm.SelectOk")

    def say(self, method: Frame, channel: int) -> None:
        self.socket.sendall(frame.marshal(method, channel))

    def read(self) -> None:
        data = self.socket.recv(1 << 16)
        assert data, "the broker hung up"
        self.received += data

    def expect(self, name: str) -> None:
        """The next frame, while there is one at a time."""
        while len(self.received) < HEAD.size or len(self.received) < self.next_end():
            self.read()
        _, _, method = frame.unmarshal(self.received)
        assert method.name == name, f"{method.name} instead of {name}"
        self.received = b""

    def next_end(self) -> int:
        """Octets of the first frame."""
        return HEAD.size + int(HEAD.unpack_from(self.received)[2]) + 1

    def acks(self) -> Iterator[tuple[int, bool]]:
        """Wait for at least one frame; (delivery tag, multiple) of all that are there."""
        while True:
            self.read()
            at = 0
            while len(self.received) - at >= HEAD.size:
                _, _, size = HEAD.unpack_from(self.received, at)
                end = at + HEAD.size + size + 1
                if end > len(self.received):
                    break
                payload = self.received[at + HEAD.size : end - 1]
                assert payload[:4] == ACK, f"no ack: {payload!r}"
                yield TAG.unpack_from(payload, 4)
                at = end
            self.received = self.received[at:]
            if at:
                return


def keep_going(link: Link, frames: bytes, window: int, seconds: float) -> Sent:
    """`window` publishes in flight until the seconds are over; then wait for the last confirm."""
    latencies: list[float] = []
    cpu, queued, began = time.process_time(), queued_seconds(), time.monotonic()
    waiting = set(range(1, window + 1))
    tag = window
    sent = time.monotonic()
    link.socket.sendall(frames * window)
    while waiting:
        before = len(waiting)
        for confirmed, multiple in link.acks():
            if multiple:
                waiting = {each for each in waiting if each > confirmed}
            else:
                waiting.remove(confirmed)
        now = time.monotonic()
        answered = before - len(waiting)
        latencies += [now - sent] * answered
        if now < began + seconds:
            waiting.update(range(tag + 1, tag + 1 + answered))
            tag += answered
            sent = time.monotonic()
            link.socket.sendall(frames * answered)
    took = time.monotonic() - began
    cpu, queued = time.process_time() - cpu, queued_seconds() - queued
    return Sent.of(latencies, took, cpu, queued)


def main(port: int, queue: str, size: int, window: int, seconds: float) -> None:
    frames = publish(queue, size, recipients(1)[0])
    sent = keep_going(Link(port), frames, window, seconds)
    print(json.dumps(sent._asdict()))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
