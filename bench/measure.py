"""What a server's processes have used: CPU time and memory, by the kernel's own accounting."""

import os
import re
import time
from pathlib import Path

import psutil


def tree(pid: int) -> list[int]:
    """The process and all those below it."""
    return [pid, *(each.pid for each in psutil.Process(pid).children(recursive=True))]


def cpu_seconds(pid: int) -> float:
    """User and system time that a process and those below it have used."""
    # A process's CPU clock counts nanoseconds, its ticks in /proc hundredths of a second. The
    # clock's number is made as glibc's clock_getcpuclockid(3) does, which Python lacks.
    return sum(time.clock_gettime((~each << 3) | 2) for each in tree(pid))


def queued_seconds() -> float:
    """How long this process's main thread waited for a processor that others had."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) * 1e-9


def resident(pid: int) -> int:
    """Octets of memory that a process and those below it hold now."""
    return sum(status(each, "VmRSS") for each in tree(pid))


def peak(pid: int) -> int:
    """Octets that they held at most since `forget_peak`, each at its own time."""
    return sum(status(each, "VmHWM") for each in tree(pid))


def forget_peak(pid: int) -> None:
    """Count the peak from now on (proc(5): clear_refs)."""
    for each in tree(pid):
        Path(f"/proc/{each}/clear_refs").write_text("5")


def status(pid: int, field: str) -> int:
    """A field of /proc/PID/status in octets."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(found[1]) * 1024 if found else 0


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))
