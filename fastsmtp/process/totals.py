"""Sums of snapshots over workers, which take what each metric is declared to be into account."""

from collections.abc import Callable, Iterable
from typing import Any

from fastsmtp.counters import LAST_STORED, OF_PROBES, Snapshot
from fastsmtp.exposed import Exposed
from fastsmtp.metrics import Metrics
from fastsmtp.process import supervision, usage
from fastsmtp.sinks import table

Combine = Callable[[Any, Any], Any]

_COMBINE: dict[str, Combine] = {"sum": lambda a, b: a + b, "min": min, "max": max}


def declared() -> dict[str, Exposed]:
    """Everything that is shown, by its name in a snapshot."""
    found = supervision.EXPOSED | usage.EXPOSED | Metrics.exposed
    for choice in table.SINKS:
        found |= choice.counters.exposed
    return found


def total(running: Iterable[Snapshot], ended: Iterable[Snapshot] = ()) -> Snapshot:
    """What processes that run, and those that have ended, have counted together.

    A total is a snapshot too; workers may be of other versions, and know other counters.
    """
    rows = declared()
    combine = {name: _COMBINE[exposed.combined] for name, exposed in rows.items()}
    combine[LAST_STORED] = max
    past = OF_PROBES | {name for name, exposed in rows.items() if exposed.ends}
    found: Snapshot = {}
    for snapshot in running:
        for name, value in snapshot.items():
            _add(found, name, value, combine.get(name, _COMBINE["sum"]))
    for snapshot in ended:
        for name, value in snapshot.items():
            if name not in past:
                _add(found, name, value, _COMBINE["sum"])
    return found


def _add(found: Snapshot, name: str, value: Any, combine: Combine) -> None:
    if isinstance(value, dict):
        inside = found.setdefault(name, {})
        for label, number in value.items():
            _add(inside, label, number, combine)
    else:
        found[name] = combine(found[name], value) if name in found else value
