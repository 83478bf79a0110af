"""How much memory a process takes, and the most that it took, as the kernel counts it."""

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

MB = 1 << 20

DEADLY = 6144 * MB
"""Resident bytes over which a watched process is killed: the machine is not its alone."""


def _status(pid: int, field: str) -> int:
    """A field of /proc/PID/status that is in kB, in bytes; 0 where the process is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


def resident(pid: int) -> int:
    """Bytes that are in memory now."""
    return _status(pid, "VmRSS:")


def processor_seconds(pid: int) -> float:
    """Seconds of CPU that all threads of the process have used."""
    return (
        sum(
            int((task / "schedstat").read_text().split()[0])
            for task in Path(f"/proc/{pid}/task").iterdir()
        )
        / 1e9
    )


class Watch:
    """Use as a context manager; `peak` is the most that the process took inside it.

    The kernel's own mark (VmHWM) sees what is shorter than any sampling; a thread looks too, but
    only to kill the process before the machine suffers.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.before = 0  # bytes, at the beginning
        self.peak = 0
        self.killed = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._guard, daemon=True)

    def __enter__(self) -> Self:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        self.before = self.peak = resident(self.pid)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self.look()

    def look(self) -> int:
        """The peak so far."""
        self.peak = max(self.peak, _status(self.pid, "VmHWM:"))
        return self.peak

    def _guard(self) -> None:
        while not self._over.wait(0.02):
            if self.look() > DEADLY and not self.killed:
                self.killed = True
                with suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
