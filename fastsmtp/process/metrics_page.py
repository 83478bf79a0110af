"""Makes docs/metrics.md from the declarations: `python -m fastsmtp.process.metrics_page`."""

from fastsmtp._durations import BOUNDS
from fastsmtp._sizes import BOUNDS as SIZES
from fastsmtp.process.totals import declared

_INTRODUCTION = """\
# Metrics and health

<!-- Made by `python -m fastsmtp.process.metrics_page`; edit EXPOSED in
fastsmtp/metrics.py, or beside the counters of a sink. -->

`metrics-address: 127.0.0.1:9090` makes the supervisor listen there for HTTP. It is a plain
listener without a password: bind it to loopback, or to a network that only watches.

| path | answer |
| --- | --- |
| `/metrics` | the metrics below, over all workers, in the text format of Prometheus |
| `/healthz` | 200 while the supervisor lives, within a second beside silent or scraping clients |
| `/started` | 503 until every worker has opened its ports and has been ready for mail once, 200 \
from then on, whatever happens later. The text names the reason |
| `/ready` | 200 while mail can come in; 503 while no worker is up, or every worker refuses mail \
because the broker is away or has an alarm, or the disk or `smtp-maxmemory` is full. Also 503 \
for 30 s after the last of three publishes in a row that RabbitMQ returned, nacked or did not \
confirm in time, over all workers and with nothing stored between. The text names the reason, \
`fastsmtp is stopping` from SIGTERM on |

[operating.md](operating.md#probes) says which probe is for what. Up to 256 clients may be silent;
the one that has been silent longest gives way to the next. Whoever asks while workers are being
asked gets the same answer as those who asked before.

Every worker is asked when somebody looks; nothing is kept up to date for that, and a message costs
less than a microsecond of counting. What workers had counted that have ended stays in the sums.

- [`deploy/grafana/fastsmtp.json`](../deploy/grafana/fastsmtp.json): a dashboard, to be imported.
- [`deploy/prometheus/alerts.yml`](../deploy/prometheus/alerts.yml): alert rules, with tests for
  `promtool` in `alerts_test.yml`; [operating.md](operating.md#alerts) says what to do about each.

```yaml
scrape_configs:
  - job_name: fastsmtp
    static_configs:
      - targets: ["127.0.0.1:9090"]
```

## Metrics

| name | type | labels | meaning |
| --- | --- | --- | --- |
"""

_LABELS = """
`code` and `status` are the reply's (RFC 5321, RFC 3463); `reason` is its name in
`fastsmtp/replies.py`, as two replies may share a code. All replies are shown from the start, so
that a rate is right from the first one on; a reason that rejects messages is shown once it has.

`process_*` has one series per process: `process` is `supervisor` or, for the first worker,
`worker-1`; `generation` counts starts and reloads (0 for the supervisor). A series ends with its
process, so sum over `process` for the whole. `fastsmtp_cpu_seconds_total` keeps what ended workers
took.

`fastsmtp_size_limit_bytes` and `fastsmtp_body_limit_bytes` fall when RabbitMQ refuses a body as too
large (406) and names a smaller maximum than `rabbitmq-maxsize`. A certificate has one series per
path.

Bounds of the histograms, in seconds: {bounds}. Those of `fastsmtp_message_size_bytes`, in bytes:
{sizes}.
"""


def page() -> str:
    """The text of docs/metrics.md."""
    parts = [_INTRODUCTION]
    for exposed in declared().values():
        labels = ", ".join(f"`{label}`" for label in exposed.labels)
        parts.append(f"| `{exposed.full_name}` | {exposed.kind} | {labels} | {exposed.help} |\n")
    parts.append(
        _LABELS.format(
            bounds=", ".join(f"{bound:g}" for bound in BOUNDS),
            sizes=", ".join(f"{size:,}" for size in SIZES),
        )
    )
    return "".join(parts)


if __name__ == "__main__":
    print(page(), end="")
