"""What a process takes of its machine: Prometheus' own `process_*` metrics, one series per process.

Each process tells of itself: under Linux nobody else may look everywhere (/proc/PID/fd).
"""

import os
import resource
import time
from pathlib import Path

from fastsmtp.counters import Snapshot
from fastsmtp.exposed import Exposed

_OF = ("process", "generation")
"""Labels: "supervisor", "worker-1" …; the worker's generation, 0 of the supervisor."""

EXPOSED = {
    "process_cpu": Exposed(
        "counter",
        "process_cpu_seconds",
        "Processor time of one process in seconds",
        _OF,
        of_running=True,
    ),
    "process_resident": Exposed(
        "gauge", "process_resident_memory_bytes", "Resident memory of one process in bytes", _OF
    ),
    "process_open_fds": Exposed(
        "gauge", "process_open_fds", "File descriptors that one process has open", _OF
    ),
    "process_max_fds": Exposed(
        "gauge", "process_max_fds", "File descriptors that one process may have open", _OF
    ),
    "process_start": Exposed(
        "gauge",
        "process_start_time_seconds",
        "When one process was started, in seconds since 1970",
        _OF,
    ),
}


def _started() -> float:
    """Seconds since 1970, from the clock ticks since boot of proc(5), stat's field 22."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[22 - 3]) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks


STARTED = _started()


def usage(process: str, generation: int) -> Snapshot:
    """What this process takes now. Costs some 100 microseconds."""
    label = f"{process} {generation}"
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "process_cpu": {label: time.process_time()},
        "process_resident": {label: pages * os.sysconf("SC_PAGE_SIZE")},
        # Linux 6.2 and later tells the number so.
        "process_open_fds": {
            label: os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
        },
        "process_max_fds": {label: resource.getrlimit(resource.RLIMIT_NOFILE)[0]},
        "process_start": {label: STARTED},
    }
