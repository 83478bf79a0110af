"""What was measured, as a Markdown table and as JSON, with everything that it depends on."""

import json
import os
import platform
import statistics
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from bench.load import CONTENT, SESSIONS, Round
from tests.support import postfix
from tests.support.daemon import ROOT

PACKAGES = ("aio-pika", "aiormq", "uvloop", "orjson", "Cython", "aiosmtpd")


class Result(NamedTuple):
    """All rounds of one server in one path."""

    path: str
    server: str
    answers: str
    rounds: list[Round]

    @property
    def cpu(self) -> float:
        """Median of CPU seconds a message."""
        return statistics.median(each.cpu for each in self.rounds)


class Expectation(NamedTuple):
    """`server` takes at most `factor` of the CPU that `peer` takes."""

    server: str
    peer: str
    factor: float


def spread(values: list[float], digits: int) -> str:
    """The median and, in parentheses, the least and the most."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"


def output(*command: str) -> str:
    """What a program printed, or nothing where it is not here."""
    try:
        done = subprocess.run(command, cwd=ROOT, env=postfix.ENV, capture_output=True, check=False)
    except OSError:
        return ""
    return done.stdout.decode().strip()


def processor() -> str:
    """The processor's name and number."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{os.cpu_count()} x {line.partition(':')[2].strip()}"
    return f"{os.cpu_count()} x {platform.machine()}"


def environment(messages: int, rounds: int) -> dict[str, str]:
    """Machine, kernel, versions, load, commit."""
    dirty = " with changes" if output("git", "status", "--porcelain") else ""
    versions = {name: version(name) for name in PACKAGES}
    versions["Python"] = platform.python_version()
    versions["RabbitMQ"] = output("dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server")
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": output("git", "rev-parse", "--short", "HEAD") + dirty,
        "machine": processor(),
        "kernel": f"{platform.system()} {platform.release()}",
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "load": f"smtp-source -d, {SESSIONS} sessions, {len(CONTENT)} octets, no pipelining",
        "rounds": f"{rounds} of {messages} messages a server, interleaved",
    }


def table(results: list[Result], expectations: list[Expectation], facts: dict[str, str]) -> str:
    """Markdown."""
    lines = [
        "| path | server | answers 250 when | CPU per message, µs | messages/s |",
        "| --- | --- | --- | --- | --- |",
    ]
    for result in results:
        cpu = spread([each.cpu * 1e6 for each in result.rounds], 1)
        rate = spread([each.rate for each in result.rounds], 0)
        lines.append(f"| {result.path} | {result.server} | {result.answers} | {cpu} | {rate} |")
    lines += ["", "Median (least to most).", ""]
    cpu_of = {result.server: result.cpu for result in results}
    for server, peer, factor in expectations:
        ratio = cpu_of[server] / cpu_of[peer]
        met = "met" if ratio <= factor else "MISSED"
        lines.append(
            f"- {server}: {ratio:.2f} x the CPU of {peer}; expected at most {factor} x: {met}"
        )
    lines += ["", *(f"- {name}: {fact}" for name, fact in facts.items())]
    return "\n".join(lines) + "\n"


def write(results: list[Result], text: str, facts: dict[str, str]) -> Path:
    """Keep the table and the figures of every round under bench/results/."""
    folder = ROOT / "bench" / "results"
    folder.mkdir(exist_ok=True)
    base = folder / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    base.with_suffix(".md").write_text(text)
    rounds = [
        {
            "path": result.path,
            "server": result.server,
            "rounds": [each._asdict() for each in result.rounds],
        }
        for result in results
    ]
    figures = {"environment": facts, "results": rounds}
    base.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    return base.with_suffix(".md")
