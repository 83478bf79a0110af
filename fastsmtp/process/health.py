"""What probes are told: whether mail can come in now, and whether the start is over.

Takes a snapshot of all workers as the supervisor makes it (`Supervisor.collect`), gives the reason
for a 503 in words, or "".
"""

import time

from fastsmtp.counters import IN_A_ROW, LAST_STORED, Snapshot

HOLD = 30.0
"""Seconds that `/ready` fails after the last of several publishes that failed in a row."""

STOPPING = "fastsmtp is stopping"


def trouble(snapshot: Snapshot) -> str:
    """Why no mail can come in; "" where it can."""
    if snapshot.get("stopping"):
        return STOPPING
    if not sum(snapshot.get("workers", {}).values()):
        return "fastsmtp is starting" if snapshot.get("unready") else "no worker is up"
    if not snapshot["accepting"]:
        return f"mail is refused for now: {_reasons(snapshot)}"
    return _failing(snapshot)


def unstarted(snapshot: Snapshot) -> str:
    """Why the start is not over; "" once every worker has been ready for mail."""
    if snapshot.get("stopping"):
        return STOPPING
    unready = snapshot.get("unready", 0)
    if not unready:
        return ""
    if snapshot.get("trouble"):
        return f"workers that were never ready: {unready}: {_reasons(snapshot)}"
    return f"workers that were never ready: {unready}"


def _reasons(snapshot: Snapshot) -> str:
    return "; ".join(snapshot.get("trouble", ())) or "no reason"


def _failing(snapshot: Snapshot) -> str:
    """Why the last publishes of all workers were not stored; "" where that is past."""
    found = []
    for label, count in snapshot.get("failures", {}).items():
        at, _, reason = label.partition(" ")
        if float(at) > snapshot.get(LAST_STORED, 0.0):
            found += [(float(at), reason)] * count
    if len(found) < IN_A_ROW:
        return ""
    at, reason = max(found)
    return f"mail is not stored: {reason}" if time.monotonic() - at < HOLD else ""
