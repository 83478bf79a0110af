"""What all counters of a worker have in common; each part of the program may have its own.

A snapshot is plain data, fit for JSON: the supervisor asks every worker for one and adds them up
(`process/totals.py`).
"""

from collections.abc import Mapping
from typing import Any

from fastsmtp._durations import Durations
from fastsmtp._sizes import Sizes
from fastsmtp.exposed import Exposed

Snapshot = dict[str, Any]
"""By name: a number, or numbers by label, or a histogram (`snapshot` of `Durations`, `Sizes`)."""

LAST_STORED = "last_stored"

OF_PROBES = frozenset(["failures", LAST_STORED, "trouble", "stopping", "unready"])
"""Names in a snapshot that only `/ready` and `/started` read; Prometheus is not shown them. A sink
gives two, once it has any: `failures`, numbers by "time reason" of the last messages that it did
not store, and `last_stored`, the time of the last one that it stored. Times are monotonic seconds.
The supervisor gives two: whether fastsmtp is `stopping`, and how many workers are `unready`, which
have not been ready for mail since they were started."""

IN_A_ROW = 3
"""Messages that failed with nothing stored between, after which `/ready` says so."""

_NONE: Mapping[str, Exposed] = {}


class Counters:
    """Plain attributes: whoever does the work adds to them, whoever asks takes a snapshot."""

    __slots__ = ()

    exposed = _NONE
    """How each attribute is shown, by its name; what is in a snapshot besides has a row, too.

    The names of a worker's counters are all different: they share one snapshot."""

    def counted(self) -> Snapshot:
        """All attributes that are shown, as they are now."""
        return {name: _plain(getattr(self, name)) for name in self.exposed if hasattr(self, name)}


def _plain(value: Any) -> Any:
    return value.snapshot() if isinstance(value, Durations | Sizes) else value
