"""A real HAProxy in front of daemons, with the configuration that docs/haproxy.md shows."""

import csv
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.daemon import ROOT
from tests.support.patience import until
from tests.support.ports import lasting_port

PROGRAM = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")

MISSING = "" if PROGRAM else "needs HAProxy: no haproxy (Debian's haproxy)"
"""Why it cannot be used here; "" where it can."""


def documented(heading: str) -> str:
    """The first configuration of docs/haproxy.md behind this heading."""
    page = (ROOT / "docs" / "haproxy.md").read_text("utf-8")
    return re.findall(r"```haproxy\n(.*?)```", page[page.index(f"# {heading}\n") :], re.S)[0]


class HAProxy:
    """One process; `port` is where clients come in, `servers` are the daemons' ports."""

    def __init__(
        self,
        folder: Path,
        servers: Sequence[int],
        heading: str = "Behind HAProxy",
        host: str = "127.0.0.1",
    ) -> None:
        """With the documented configuration; its files in /etc/haproxy are those in `folder`."""
        self.port = lasting_port()
        self.folder = folder
        text = documented(heading).replace("/etc/haproxy/", f"{folder}/")
        text = re.sub(r"bind :\d+", f"bind {host}:{self.port}", text)
        for number, port in enumerate(servers, 1):
            text, found = re.subn(rf"(server mx{number}) \S+", rf"\1 127.0.0.1:{port}", text)
            assert found == 1
        self.text = text
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until all servers are up."""
        assert PROGRAM
        stats = f"global\n    stats socket {self.folder}/stats level admin\n"
        (self.folder / "haproxy.cfg").write_text(stats + self.text)
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", PROGRAM, "-db", "-f", "haproxy.cfg"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        until(lambda: (self.folder / "stats").is_socket() or self.process.poll() is not None)
        assert self.process.poll() is None, self.output
        until(lambda: {*self.states().values()} <= {"UP", "no check"}, 30)

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def states(self, what: str = "status") -> dict[str, str]:
        """What it says of each server: UP, DOWN, …; `check_status`: how its last check ended."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.folder / "stats"))
            client.sendall(b"show stat\n")
            with client.makefile() as answer:
                rows = list(csv.DictReader(answer.read().removeprefix("# ").splitlines()))
        return {row["svname"]: row[what] for row in rows if row["svname"].startswith("mx")}

    def close(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10)
