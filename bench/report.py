"""What was measured, as Markdown and as JSON, with everything that it depends on."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from bench import RESULTS
from bench.figures import COLUMNS
from bench.verdicts import Result, limited
from bench.workloads import Workload
from tests.support import postfix
from tests.support.daemon import ROOT

PACKAGES = ("aio-pika", "aiormq", "uvloop", "orjson", "Cython")


class Section(NamedTuple):
    """One workload's outcome."""

    workload: Workload
    results: list[Result]
    facts: str  # rounds, seconds

    @property
    def verdicts(self) -> list[str]:
        """Every expectation of it that could be judged, and what limits the figures."""
        judged = (each.judge(self.results) for each in self.workload.expectations)
        return [each for each in judged if each] + limited(self.results)


def spread(values: Sequence[float], digits: int) -> str:
    """The median and, in parentheses, the least and the most; nothing of nothing."""
    if not values:
        return ""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"


def table(section: Section, environment: str) -> str:
    """Markdown: one row a contender, the verdicts, what it depends on."""
    shown = [name for name in COLUMNS if any(each.values(name) for each in section.results)]
    headings = [*section.workload.headings, *(COLUMNS[name].heading for name in shown)]
    lines = [
        f"## ({section.workload.letter}) {section.workload.name}",
        section.workload.title,
        "",
        f"| {' | '.join(headings)} |",
        f"| {' | '.join('---' for _ in headings)} |",
    ]
    for result in section.results:
        cells = [spread(result.values(name), COLUMNS[name].digits) for name in shown]
        lines.append(f"| {' | '.join([result.name, result.answers, *cells])} |")
    lines += ["", f"Median (least to most); {section.facts}; {environment}.", ""]
    return "\n".join(lines + [f"- {each}" for each in section.verdicts]) + "\n"


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


def environment(peers: dict[str, str]) -> dict[str, str]:
    """Machine, kernel, versions, commit."""
    dirty = " with changes" if output("git", "status", "--porcelain") else ""
    versions = {name: version(name) for name in PACKAGES} | peers
    versions["Python"] = platform.python_version()
    versions["RabbitMQ"] = output("dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server")
    versions["Postfix"] = output(postfix.POSTCONF, "-d", "-h", "mail_version")
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": output("git", "rev-parse", "--short", "HEAD") + dirty,
        "machine": processor(),
        "kernel": f"{platform.system()} {platform.release()}",
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items() if number),
    }


def markdown(sections: Sequence[Section], facts: dict[str, str], notes: Sequence[str]) -> str:
    """The whole report."""
    line = f"{facts['machine']}, {facts['kernel']}, commit {facts['commit']}, {facts['versions']}"
    parts = [
        "# Benchmark\n" + "".join(f"\n- {name}: {fact}" for name, fact in facts.items()) + "\n",
        *(table(section, line) for section in sections),
    ]
    if notes:
        parts.append("## Notes\n" + "".join(f"\n- {note}" for note in notes) + "\n")
    return "\n".join(parts)


def write(sections: Sequence[Section], facts: dict[str, str], notes: Sequence[str]) -> Path:
    """Keep the tables and the figures of every round under bench/results/."""
    RESULTS.mkdir(exist_ok=True)
    base = RESULTS / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    base.with_suffix(".md").write_text(markdown(sections, facts, notes))
    figures = {
        "environment": facts,
        "notes": list(notes),
        "workloads": [
            {
                "letter": section.workload.letter,
                "name": section.workload.name,
                "title": section.workload.title,
                "facts": section.facts,
                "verdicts": section.verdicts,
                "contenders": [each._asdict() for each in section.results],
            }
            for section in sections
        ],
    }
    base.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    return base.with_suffix(".md")
