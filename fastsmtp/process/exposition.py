"""Prometheus text of a snapshot: under which name each metric is shown, and what it means.

Takes a snapshot, usually a total over workers; what a snapshot does not have is not shown, and what
nobody has declared (`totals.declared`) is not shown either.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from fastsmtp.counters import Snapshot
from fastsmtp.exposed import Exposed
from fastsmtp.process.totals import declared

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def text(snapshot: Snapshot) -> bytes:
    """The page that Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(_Shown(snapshot))
    return generate_latest(registry)


class _Shown(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        for name, exposed in declared().items():
            if name in self._snapshot:
                yield _family(exposed, self._snapshot[name])


def _family(exposed: Exposed, value: Any) -> Metric:
    if exposed.kind == "histogram":
        histogram = HistogramMetricFamily(exposed.name, exposed.help)
        histogram.add_metric([], _cumulative(value["buckets"]), value["sum"])
        return histogram
    make = CounterMetricFamily if exposed.kind == "counter" else GaugeMetricFamily
    family = make(exposed.name, exposed.help, labels=exposed.labels)
    samples = value if exposed.labels else {"": value}
    for label, number in samples.items():
        family.add_metric(label.split(" ", len(exposed.labels) - 1), number)
    return family


def _cumulative(buckets: dict[str, int]) -> list[tuple[str, float]]:
    """Prometheus counts in each bucket all that is shorter, too."""
    bounds = sorted(buckets, key=float)
    return list(zip(bounds, accumulate(buckets[bound] for bound in bounds), strict=True))
