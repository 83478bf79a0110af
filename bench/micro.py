"""The hot path's parts, each by itself, with pyperf: workload micro.

`python -m bench.micro NAME …` measures one; what follows are pyperf's own options. The parts stand
in `PARTS`: what is timed, and how many octets go through it, where that is what counts.
"""

import struct
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pyperf

from bench.contenders import Contender
from bench.figures import Figures
from bench.ground import Ground
from bench.mail import SENDER, content, recipients
from fastsmtp import _proxy
from fastsmtp._content import NORMALIZE, Content, HeaderScan
from fastsmtp._parser import parse_mail, parse_rcpt, split_command
from fastsmtp.availability import Availability
from fastsmtp.envelope import Envelope, Recipient
from fastsmtp.metrics import Metrics
from fastsmtp.payload import Composer
from fastsmtp.peer import Peer
from fastsmtp.settings import Settings
from fastsmtp.sinks.rabbitmq._amqp import Encoder
from fastsmtp.sinks.rabbitmq._confirms import Confirms
from tests.support.daemon import ROOT

SIZE = 1 << 20
"""Octets of content."""
READ = 256 * 1024
"""Octets: as much as uvloop reads at once."""
LIMIT = 1 << 40
FRAME_MAX = 131072
BATCH = 20
"""Messages."""

LINE = b"x" * 74 + b"\r\n"
STUFFED = b".." + LINE[2:]
MEMCPY, UNSTUFFING, DOTTED, HEADERS = "memcpy", "unstuffing", "unstuffing, dots", "header scan"


class Part(NamedTuple):
    """A statement to time, and what it is about."""

    name: str
    of: str
    statement: str
    names: dict[str, object]  # that the statement uses
    octets: int = 0  # that go through it


class Unheard:
    """A listener of confirms that does nothing."""

    def acked(self, tag: int, multiple: bool) -> None: ...

    def nacked(self, tag: int, multiple: bool) -> None: ...

    def returned(self, header: bytes, reason: str) -> None: ...


def commands() -> list[Part]:
    line = b"MAIL FROM:<sender@example.com> SIZE=2048 BODY=8BITMIME"
    return [
        Part("command", line.decode(), "split(line)", {"split": split_command, "line": line}),
        Part(
            *("MAIL", "path, SIZE and BODY", "parse(argument)"),
            {"parse": parse_mail, "argument": split_command(line)[1]},
        ),
        Part(
            *("RCPT", "a path", "parse(argument, False)"),
            {"parse": parse_rcpt, "argument": b"TO:<rcpt0@example.org>"},
        ),
        Part(
            *("PROXY", "version 2, TCP over IPv4, an authority", "parse(header)"),
            {"parse": _proxy.parse, "header": proxy_header()},
        ),
    ]


def proxy_header() -> bytes:
    """Version 2 (proxy-protocol.txt, 2.2)."""
    name = b"mx.example.com"
    block = bytes([192, 0, 2, 1, 192, 0, 2, 2]) + struct.pack(">HH", 40112, 25)
    block += struct.pack(">BH", 2, len(name)) + name  # PP2_TYPE_AUTHORITY
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack(">BBH", 0x21, 0x11, len(block)) + block


def unstuff(reads: list[bytes]) -> Content:
    made = Content(NORMALIZE, LIMIT)
    for each in reads:
        made.feed_data(each, 0)
    return made


def unstuffing(name: str, of: str, wire: bytes) -> Part:
    reads = [wire[at : at + READ] for at in range(0, len(wire), READ)]
    found = b"".join(unstuff([*reads, b".\r\n"]).pieces)
    assert found == wire.replace(b"\n..", b"\n."), "wrongly unstuffed"
    return Part(name, of, "unstuff(reads)", {"unstuff": unstuff, "reads": reads}, len(wire))


def contents() -> list[Part]:
    """Content as it is read, beside a memcpy of the same octets."""
    lines = SIZE // len(LINE)
    plain = LINE * lines
    block = (b"X-Header: " + LINE[10:]) * lines + b"\r\n"
    return [
        Part(
            *(MEMCPY, f"{len(plain)} octets", "target[:] = wire"),
            {"target": memoryview(bytearray(plain)), "wire": plain},
            len(plain),
        ),
        unstuffing(UNSTUFFING, "lines of 76 octets", plain),
        unstuffing(DOTTED, "a dot before each 20th", (LINE * 19 + STUFFED) * (lines // 20)),
        Part(
            *(HEADERS, "lines of 76 octets, no X-MQ field", "Scan(block, lift).run(LIMIT)"),
            {"Scan": HeaderScan, "block": block, "lift": lambda *_: True, "LIMIT": LIMIT},
            len(block),
        ),
    ]


def payloads() -> list[Part]:
    """From a content to a publish's frames, and back to its confirm."""
    composer = Composer(Settings(), Availability(LIMIT), Metrics())
    envelope = Envelope(SENDER)
    envelope.recipients.append(Recipient(recipients(1)[0]))
    peer = Peer("127.0.0.1", 40112, "127.0.0.1", 2525)

    def compose(size: int) -> Part:
        return Part(
            *(f"JSON, {size} octets", "one recipient", "compose([content])"),
            {"compose": partial(composer.compose, envelope, peer), "content": content(size)},
            size,
        )

    (one,) = composer.compose(envelope, peer, [content(2048)])
    confirms = Confirms()
    confirms.watch(1, Unheard())
    ack = struct.pack(">BHI", 1, 1, 13) + struct.pack(">HHQB", 60, 80, BATCH, 1) + b"\xce"
    fields = (one.id, one.priority, one.encoding, one.prefix, one.tail, int(time.time()))
    return [
        compose(2048),
        compose(100_000),
        Part(
            *("frames", f"{BATCH} publishes of 2048 octets"),
            f"for _ in range({BATCH}): publish(*fields)\ntake()",
            {"publish": (encoder := encoding()).publish, "take": encoder.take, "fields": fields},
            BATCH * one.size,
        ),
        Part("confirms", "one multiple ack", "take(ack)", {"take": confirms.take, "ack": ack}),
    ]


def encoding() -> Encoder:
    return Encoder(1, "", "inbox", FRAME_MAX, True, "")


PARTS = {each.name: each for each in commands() + contents() + payloads()}


class Timed:
    """One part as a row of the table; a round is a process of pyperf's."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.name = part.name
        self.answers = part.of

    def start(self) -> None:
        """Each round starts its own process."""

    def round(self, seconds: float) -> Figures:
        """Five values; `seconds` shorten or lengthen them."""
        with TemporaryDirectory(prefix="fastsmtp-micro-") as folder:
            result = Path(folder) / "result.json"
            subprocess.run(
                [
                    *(sys.executable, "-m", "bench.micro", self.name, "--quiet"),
                    *("--processes", "1", "--warmups", "1", "--values", "5"),
                    *("--min-time", str(seconds / 200), "--output", str(result)),
                ],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                check=True,
            )
            took = pyperf.Benchmark.load(str(result)).median()
        figures = {"each": took * 1e6}
        return figures | ({"octets": self.part.octets / took / 1e9} if self.part.octets else {})

    def stop(self) -> None:
        """Nothing is left of a round."""


def parts(ground: Ground) -> list[Contender]:
    """All of them; they need nothing of the ground."""
    return [Timed(each) for each in PARTS.values()]


def main() -> None:
    runner = pyperf.Runner(
        program_args=("-m", "bench.micro"),
        add_cmdline_args=lambda command, given: command.append(given.name),
    )
    runner.argparser.add_argument("name", choices=PARTS)
    part = PARTS[runner.parse_args().name]
    runner.timeit(part.name, part.statement, globals=part.names)


if __name__ == "__main__":
    main()
