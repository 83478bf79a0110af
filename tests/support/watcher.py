"""What Prometheus and a load balancer see of a daemon: its pages over HTTP."""

import http.client
import re

from prometheus_client.parser import text_string_to_metric_families

from tests.support.daemon import Daemon

METRICS = re.compile(r"metrics: http://127\.0\.0\.1:(\d+)/metrics")
SETTINGS = {"metrics_address": "127.0.0.1:0"}


def get(daemon: Daemon, path: str) -> tuple[int, str]:
    """Status and body of a page."""
    port = int(METRICS.findall(daemon.log)[-1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


class Scrape:
    """The metrics of one moment: `scrape("fastsmtp_replies_total", reason="ok")`."""

    def __init__(self, daemon: Daemon) -> None:
        status, page = get(daemon, "/metrics")
        assert status == 200, page
        self.samples = [
            sample for family in text_string_to_metric_families(page) for sample in family.samples
        ]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum over the samples that have these labels; none at all is a KeyError."""
        found = [
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        if not found:
            raise KeyError(name)
        return sum(found)
