"""Sums of snapshots over workers, which take what each metric is declared to be into account."""

from collections.abc import Iterable

from fastsmtp.counters import LAST_STORED, OF_PROBES, Snapshot
from fastsmtp.exposed import Exposed
from fastsmtp.metrics import Metrics
from fastsmtp.sinks import table


def declared() -> dict[str, Exposed]:
    """Everything that is shown, by its name in a snapshot."""
    found = dict(Metrics.exposed)
    for choice in table.SINKS:
        found |= choice.counters.exposed
    return found


def total(running: Iterable[Snapshot], ended: Iterable[Snapshot] = ()) -> Snapshot:
    """The sum over workers that run, and what those that ended have counted.

    A total is a snapshot too; workers may be of other versions, and know other counters.
    """
    gauges = {name for name, exposed in declared().items() if exposed.kind == "gauge"}
    found: Snapshot = {}
    latest = []
    for snapshot in running:
        _add(found, snapshot)
        latest += [snapshot[LAST_STORED]] if LAST_STORED in snapshot else []
    if latest:
        found[LAST_STORED] = max(latest)
    for snapshot in ended:
        _add(found, {n: value for n, value in snapshot.items() if n not in gauges | OF_PROBES})
    return found


def _add(found: Snapshot, more: Snapshot) -> None:
    for name, value in more.items():
        if isinstance(value, dict):
            _add(found.setdefault(name, {}), value)
        else:
            found[name] = found.get(name, 0) + value
