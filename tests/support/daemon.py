"""The real daemon as a process of its own: a free port of 127.0.0.1, a folder of its own.

Nothing is mocked: what a test gives are settings, what it gets are a port, a log and exit codes.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

COMMAND = (sys.executable, "-m", "fastsmtp")

READY = re.compile(r"\bready\b.*?127\.0\.0\.1:(\d+)(?:.*; TLS: .*?ports? (\d+))?")
START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0


class Daemon:
    """One fastsmtp. `settings` are keys of config.md with `_` for `-`: `smtp_maxsize="1MB"`."""

    def __init__(self, folder: Path, command: Sequence[str] = COMMAND, **settings: object) -> None:
        self.folder = folder
        self.command = command
        self.settings: dict[str, object] = {
            "smtp_ip": "127.0.0.1",
            "smtp_port": 0,
            "smtp_hostname": "mx.example.com",
            "rabbitmq_address": "none",
            "queue_file": folder / "queue.db",
        } | settings
        self.config = folder / "config.txt"
        self.stderr = folder / "stderr.txt"
        self.env = {key: value for key, value in os.environ.items() if key[:9] != "FASTSMTP_"}
        self.env["PYTHONPATH"] = str(ROOT)
        self.port = 0
        self.tls_port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait for the ready line. A second start listens on the same port again."""
        before = self.launch()
        try:
            ready = self.wait_for(READY, START_TIMEOUT, before)
        except AssertionError:
            self.kill()
            raise
        self.port = int(ready[1])
        if self.settings["smtp_port"] != "none":
            self.settings["smtp_port"] = self.port
        if ready[2]:
            self.tls_port = self.settings["smtp_secure_port"] = int(ready[2])

    def launch(self) -> int:
        """Start and do not wait; gives how long the log was before."""
        assert self.process is None
        self.write_config()
        with self.stderr.open("ab") as stderr:
            self.process = subprocess.Popen(
                # setpriv: it ends with us, whatever becomes of us.
                [
                    *("setpriv", "--pdeathsig", "KILL"),
                    *(*self.command, "--config-file", str(self.config)),
                ],
                env=self.env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,
            )
            return stderr.tell()

    def write_config(self) -> None:
        lines = (f"{key.replace('_', '-')}: {value}\n" for key, value in self.settings.items())
        self.config.write_text("".join(lines))

    def reload(self, *options: str, **settings: object) -> tuple[int, str]:
        """`fastsmtp reload` with other settings: exit status, and all that it printed."""
        assert self.process is not None
        self.settings |= settings
        self.write_config()
        done = subprocess.run(
            [*COMMAND, "reload", *(options or ("--pid", str(self.process.pid)))],
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout

    def ended(self, timeout: float) -> int:
        """Its exit status, once it has ended by itself."""
        assert self.process is not None
        status = self.process.wait(timeout)
        self.process = None
        return status

    @property
    def log(self) -> str:
        """Everything that it wrote to standard error since the first start."""
        return self.stderr.read_text(errors="replace")

    def wait_for(
        self, pattern: re.Pattern[str], timeout: float = 30.0, offset: int = 0
    ) -> re.Match[str]:
        """The first match in the log from `offset` on; fails when the process ends before."""
        assert self.process is not None
        deadline = time.monotonic() + timeout
        while True:
            ended = self.process.poll()
            if found := pattern.search(self.stderr.read_bytes()[offset:].decode(errors="replace")):
                return found
            if ended is not None or time.monotonic() > deadline:
                how = "is running" if ended is None else f"ended with {ended}"
                raise AssertionError(f"no {pattern.pattern!r} in its log, it {how}:\n{self.log}")
            time.sleep(0.01)

    @property
    def workers(self) -> list[int]:
        """Process ids of its workers."""
        assert self.process is not None
        pid = self.process.pid
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]

    def stop(self) -> None:
        """SIGTERM: it must end with 0."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still there after SIGTERM:\n{self.log}") from None
        self.process = None
        assert code == 0, self.log

    def kill(self) -> None:
        """kill -9 of it and all that it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):  # all of them are gone already
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def queue(self, *arguments: str) -> str:
        """`fastsmtp queue …` with the same settings: what it printed. Raises if it failed."""
        done = subprocess.run(
            [*COMMAND, "queue", *arguments, "--config-file", str(self.config)],
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode()

    def close(self) -> None:
        """For the end of a test: in order, where it still runs."""
        if self.process is not None:
            self.stop()
