"""A mail server that passes all it takes on to one port of 127.0.0.1, and tries again when told to.

What Postfix and Exim have in common: a temporary folder, a port, a log, an end by process id.
"""

import os
import re
import shutil
import signal
import smtplib
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from tests.support.rabbitmq import free_ports

PATIENCE = 3.0
"""Seconds after which a relay that has mail left is told to look at it."""

START_TIMEOUT = 20.0
TIMEOUT = 30.0


class Relay(ABC):
    """Not started yet; `target` is the port that mail goes to. Fails where `missing` says why."""

    missing: str
    completed: re.Pattern[str]
    """What its log says of a message that is wholly delivered."""

    def __init__(self, target: int) -> None:
        self.target = target
        (self.port,) = free_ports(1)
        self.folder = Path(tempfile.mkdtemp(prefix="fastsmtp-relay-"))
        self.folder.chmod(0o755)
        self.log_file = self.folder / "log" / "main"
        self.log_file.parent.mkdir()
        self.client = smtplib.SMTP(local_hostname="client.example.net", timeout=TIMEOUT)
        self.process: subprocess.Popen[bytes] | None = None
        self.sent = 0
        self.configure()

    @abstractmethod
    def configure(self) -> None:
        """Write what the server reads into `folder`."""

    @abstractmethod
    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the server in the foreground, by `execute`."""

    def execute(
        self, command: Sequence[str | Path], env: dict[str, str], *options: str
    ) -> subprocess.Popen[bytes]:
        """A process that ends with us, whatever becomes of us; `options` are setpriv's."""
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                ["setpriv", *options, "--pdeathsig", "KILL", *command],
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start, and connect for `send`."""
        self.process = self.spawn()
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                self.client.connect("127.0.0.1", self.port)
                return
            except (OSError, smtplib.SMTPException):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"it did not start:\n{self.log}") from None
                time.sleep(0.02)

    @property
    def log(self) -> str:
        """What it logged and printed."""
        files = (self.folder / "output", self.log_file)
        return "".join(each.read_text(errors="replace") for each in files if each.exists())

    def send(
        self,
        content: bytes,
        sender: str,
        recipients: Sequence[str],
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> None:
        """Hand it one mail, which it must accept: `content` is sent as it is."""
        refused = self.client.sendmail(sender, recipients, content, mail_options, rcpt_options)
        assert refused == {}
        self.sent += 1

    def wait_for(self, pattern: str, timeout: float = TIMEOUT) -> None:
        """Until its log has it."""
        self.wait_for_count(re.compile(pattern), 1, timeout)

    def deliver(self, timeout: float = TIMEOUT) -> None:
        """Until it got rid of all that was sent: delivered, or returned in a mail of its own."""
        self.wait_for_count(self.completed, self.sent, timeout)

    def wait_for_count(self, pattern: re.Pattern[str], count: int, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        prodded = time.monotonic()
        while (found := len(pattern.findall(self.log))) < count:
            if time.monotonic() > prodded + PATIENCE:
                self.prod()
                prodded = time.monotonic()
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{pattern.pattern!r} {found} of {count} times in its log:\n{self.log}"
                )
            time.sleep(0.05)

    @abstractmethod
    def prod(self) -> None:
        """Tell it to try again now, where it may forget that by itself."""

    def close(self) -> None:
        """kill -9 of it and all that it started, and remove its folder."""
        self.client.close()
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
        shutil.rmtree(self.folder)
