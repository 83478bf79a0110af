"""What systemd wants to be told (sd_notify(3), Type=notify): datagrams to $NOTIFY_SOCKET."""

import contextlib
import os
import socket
import time


def notify(*lines: str) -> None:
    """Send `lines`, such as READY=1; nothing happens where nobody listens."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return
    address = "\0" + path[1:] if path[0] == "@" else path
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier,
    ):
        notifier.sendto("\n".join(lines).encode(), address)


def reloading() -> None:
    """Tell that a reload has begun; READY=1 ends it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def watchdog_interval() -> float | None:
    """Seconds between two signs of life, half of what WATCHDOG_USEC allows; None: none wanted."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 2_000_000 if microseconds.isdigit() else None
