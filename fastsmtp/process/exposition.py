"""Prometheus text of a snapshot: under which name each metric is shown, and what it means.

Takes `metrics.Snapshot`, usually a total over workers; what a snapshot does not have is not shown,
and what nobody has declared here is not shown either. docs/metrics.md is made from `EXPOSED`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
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

from fastsmtp.metrics import Snapshot

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

REPLY = ("code", "status", "reason")
"""Labels of a `Reply.kind`, whose parts have a space between."""


@dataclass(frozen=True, slots=True)
class Exposed:
    """One metric as Prometheus sees it."""

    kind: str  # counter, gauge or histogram
    name: str  # of a counter: without _total
    help: str
    labels: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """As it is shown, and written in documentation."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


EXPOSED = {
    # Clients
    "connections": Exposed(
        "counter", "fastsmtp_connections", "Client connections that were accepted"
    ),
    "connections_open": Exposed(
        "gauge", "fastsmtp_connections_open", "Client connections that are open"
    ),
    "authentications": Exposed(
        "counter",
        "fastsmtp_authentications",
        "Credentials that clients gave: accepted, refused, or unavailable where nobody could tell",
        ("outcome",),
    ),
    "replies": Exposed(
        "counter",
        "fastsmtp_replies",
        "SMTP replies; the greeting and the replies to HELO and EHLO are not counted",
        REPLY,
    ),
    # Messages
    "messages": Exposed(
        "counter", "fastsmtp_messages", "Messages accepted: stored for every recipient"
    ),
    "recipients": Exposed("counter", "fastsmtp_recipients", "Recipients of accepted messages"),
    "octets": Exposed("counter", "fastsmtp_content_bytes", "Content of accepted messages in bytes"),
    "rejected": Exposed(
        "counter",
        "fastsmtp_rejected_messages",
        "Messages that came to their end, or were too large, and were not accepted",
        REPLY,
    ),
    "in_flight": Exposed(
        "gauge", "fastsmtp_messages_in_flight", "Messages whose client waits for the reply"
    ),
    "memory_held": Exposed(
        "gauge", "fastsmtp_mail_bytes", "Mail that is held in memory, in every form, in bytes"
    ),
    "memory_limit": Exposed(
        "gauge",
        "fastsmtp_mail_limit_bytes",
        "What may be held: smtp-maxmemory, times workers. Over it mail is told 452",
    ),
    "reply_seconds": Exposed(
        "histogram", "fastsmtp_reply_seconds", "From the end of a message to the reply"
    ),
    "headers_unknown": Exposed(
        "counter",
        "fastsmtp_unknown_headers",
        "X-MQ-* headers of no known name; they became properties of the JSON",
    ),
    "headers_malformed": Exposed(
        "counter",
        "fastsmtp_malformed_headers",
        "X-MQ-* headers whose value did not parse; they stayed in the MIME",
    ),
    "headers_reserved": Exposed(
        "counter",
        "fastsmtp_reserved_headers",
        "X-MQ-* headers with a name that is the server's; they stayed in the MIME",
    ),
    # RabbitMQ
    "broker_state": Exposed(
        "gauge",
        "fastsmtp_broker_workers",
        "Workers by what they see of RabbitMQ: up, away, or blocked by its memory or disk alarm",
        ("state",),
    ),
    "broker_connects": Exposed(
        "counter", "fastsmtp_broker_connects", "Connections to RabbitMQ that came up"
    ),
    "broker_published": Exposed(
        "counter", "fastsmtp_broker_published", "Publishes sent, one for each recipient"
    ),
    "broker_confirmed": Exposed(
        "counter", "fastsmtp_broker_confirmed", "Publishes that RabbitMQ confirmed and routed"
    ),
    "broker_returned": Exposed(
        "counter", "fastsmtp_broker_returned", "Publishes that no queue took (unroutable)"
    ),
    "broker_nacked": Exposed(
        "counter", "fastsmtp_broker_nacked", "Publishes that RabbitMQ did not want to store"
    ),
    "broker_lost": Exposed(
        "counter",
        "fastsmtp_broker_lost",
        "Publishes without an answer when the channel ended; their senders were told 451",
    ),
    "confirm_seconds": Exposed(
        "histogram", "fastsmtp_confirm_seconds", "From a publish to its confirm"
    ),
    # Mail on disk
    "queue_messages": Exposed(
        "gauge",
        "fastsmtp_queue_messages",
        "Messages in the queue file, counted from the oldest to the newest: a gap counts, too",
    ),
    "queue_octets": Exposed(
        "gauge", "fastsmtp_queue_bytes", "Size of the queue file with its write-ahead log in bytes"
    ),
    "queue_limit": Exposed(
        "gauge", "fastsmtp_queue_limit_bytes", "The size that it may have: queue-maxsize"
    ),
    "commit_seconds": Exposed(
        "histogram", "fastsmtp_commit_seconds", "One transaction of the queue file, many messages"
    ),
    # Processes
    "workers": Exposed(
        "gauge", "fastsmtp_workers", "Worker processes that answer, by their version", ("version",)
    ),
    "accepting": Exposed(
        "gauge", "fastsmtp_workers_accepting", "Workers that take mail now; /ready fails at 0"
    ),
    "restarts": Exposed(
        "counter", "fastsmtp_worker_restarts", "Workers that died, and were replaced"
    ),
    "cpu_seconds": Exposed(
        "counter", "fastsmtp_cpu_seconds", "Processor time of the workers in seconds"
    ),
}
"""By the name in a snapshot."""


def text(snapshot: Snapshot) -> bytes:
    """The page that Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(_Shown(snapshot))
    return generate_latest(registry)


class _Shown(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        for name, exposed in EXPOSED.items():
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
