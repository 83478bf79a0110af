"""exposition: counters are shown as declared; docs, dashboard and alerts know the same names."""

import asyncio
import json
import re

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from fastsmtp import replies
from fastsmtp._durations import now
from fastsmtp.availability import Availability
from fastsmtp.counters import OF_PROBES
from fastsmtp.metrics import Metrics
from fastsmtp.peer import Peer
from fastsmtp.process import metrics_page, supervision, usage
from fastsmtp.process.exposition import text
from fastsmtp.process.totals import declared, total
from fastsmtp.refusals import Refusal
from fastsmtp.settings import Settings
from fastsmtp.sinks import table
from fastsmtp.sinks.rabbitmq.counters import BrokerCounters
from tests.support.daemon import ROOT

DASHBOARD = ROOT / "deploy" / "grafana" / "fastsmtp.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"

EXPOSED = declared()

OF_THE_SUPERVISOR = {
    *("queue_messages", "queue_oldest", "queue_octets", "queue_limit", "queue_damaged"),
    *supervision.EXPOSED,
}


def shown(snapshot):
    """{(name, labels): value} of the page."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text(snapshot).decode())
        for sample in family.samples
    }


def names():
    """Every name that a query may have."""
    found = set()
    for exposed in EXPOSED.values():
        found.add(exposed.full_name)
        if exposed.kind == "histogram":
            found |= {f"{exposed.name}_{part}" for part in ("bucket", "sum", "count")}
    return found - {each.name for each in EXPOSED.values() if each.kind == "histogram"}


def with_queue_file():
    """The metrics of a worker whose mail goes into the queue file."""
    metrics, settings = Metrics(), Settings(rabbitmq_address=(), queue_file="/nowhere")

    async def made():
        return table.make(settings, Availability(1), metrics)

    asyncio.run(made())
    return metrics


def test_everything_that_is_counted_is_shown():
    worker = {"certificate_ends", "spill_stuck", *usage.EXPOSED}
    counted = worker | set(with_queue_file().snapshot(Availability(1))) - OF_PROBES
    assert counted | OF_THE_SUPERVISOR == set(EXPOSED)


def test_a_sink_that_is_not_chosen_is_shown_at_0():
    found = shown(with_queue_file().snapshot(Availability(1)))
    of_the_broker = {
        key: n for key, n in found.items() if "broker" in key[0] or "confirm" in key[0]
    }
    assert len({name for name, *_ in of_the_broker}) > 8
    assert set(of_the_broker.values()) == {0}
    assert found[("fastsmtp_broker_workers", ("state", "up"))] == 0


def test_every_counter_has_a_row():
    for each in (Metrics, *(choice.counters for choice in table.SINKS)):
        attributes = {name for name in getattr(each, "__slots__", ()) if name[0] != "_"}
        assert attributes - OF_PROBES <= each.exposed.keys()


def test_no_two_counters_share_a_name_in_the_snapshot():
    of_workers = [each.exposed for each in (Metrics, *(sink.counters for sink in table.SINKS))]
    of_all = [supervision.EXPOSED, usage.EXPOSED, *of_workers]
    assert sum(map(len, of_all)) == len(EXPOSED)


def test_the_page_is_what_prometheus_reads():
    metrics = Metrics()
    metrics.messages = 7
    counters = BrokerCounters()
    counters.broker_state = "blocked"
    metrics.include(counters)
    metrics.refused(Refusal(replies.UNROUTABLE, Peer("127.0.0.1", 25, "127.0.0.1", 4000), size=1))
    for seconds in (0, 0, 0.3, 100):
        metrics.reply_seconds.since(now() - seconds)
    found = shown(total([metrics.snapshot(Availability(1))], [{"restarts": 3}]))
    assert found[("fastsmtp_messages_total",)] == 7
    assert found[("fastsmtp_worker_restarts_total",)] == 3
    assert found[("fastsmtp_broker_workers", ("state", "blocked"))] == 1
    assert found[("fastsmtp_broker_workers", ("state", "up"))] == 0
    labels = (("code", "451"), ("reason", "unroutable"), ("status", "4.3.5"))
    assert found[("fastsmtp_rejected_messages_total", *labels)] == 1
    labels = (("code", "354"), ("reason", "go_ahead"), ("status", ""))
    assert found[("fastsmtp_replies_total", *labels)] == 0
    bucket = "fastsmtp_reply_seconds_bucket"
    assert found[(bucket, ("le", "0.0005"))] == 2
    assert found[(bucket, ("le", "0.2"))] == 2
    assert found[(bucket, ("le", "0.5"))] == 3
    assert found[(bucket, ("le", "+Inf"))] == found[("fastsmtp_reply_seconds_count",)] == 4
    assert found[("fastsmtp_reply_seconds_sum",)] == pytest.approx(100.3, rel=0.01)


def test_what_a_newer_worker_counts_does_no_harm():
    assert shown({"messages": 1, "greylisted": {"a": 1}}) == {("fastsmtp_messages_total",): 1}


def test_names_follow_the_conventions_and_say_something():
    for exposed in EXPOSED.values():
        assert re.fullmatch(r"(fastsmtp|process)(_[a-z]+)+", exposed.name)
        assert not exposed.name.endswith(("_total", "_count", "_sum", "_bucket"))
        assert exposed.kind != "histogram" or exposed.name.endswith(("_seconds", "_bytes"))
        assert len(exposed.help) > 20
    assert len({exposed.name for exposed in EXPOSED.values()}) == len(EXPOSED)


def test_the_page_of_the_documentation_is_what_the_declarations_say():
    stored = ROOT / "docs" / "metrics.md"
    assert stored.read_text("utf-8") == metrics_page.page(), "run: make docs"


def expressions(tree):
    """Every query in a dashboard or in rules."""
    if isinstance(tree, dict):
        yield from (value for key, value in tree.items() if key == "expr")
        for value in tree.values():
            yield from expressions(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from expressions(value)


def mentioned(expression):
    return set(re.findall(r"\b(?:fastsmtp|process)_\w+", expression))


def check(expression):
    """Its metrics exist, with these labels; its reasons and states are some that can be."""
    assert expression.count("(") == expression.count(")")
    assert mentioned(expression) <= names(), expression
    by_name = {each.full_name: each for each in EXPOSED.values()}
    for name, matchers in re.findall(r"\b((?:fastsmtp|process)_\w+)\{([^}]*)\}", expression):
        labels = re.findall(r"(\w+)=", matchers)
        metric = by_name.get(name) or by_name[re.sub("_(bucket|sum|count)$", "", name)]
        assert {*labels} <= {*metric.labels, "instance"}, expression
    reasons = {kind.split(" ")[2] for kind in replies.KINDS}
    for pattern in re.findall(r'reason=~?"([^"]*)"', expression):
        assert set(pattern.split("|")) <= reasons
    for pattern in re.findall(r'state=~?"([^"]*)"', expression):
        assert set(pattern.split("|")) <= {"up", "away", "blocked"}


def test_the_dashboard_asks_for_metrics_that_exist():
    found = list(expressions(json.loads(DASHBOARD.read_text())))
    assert len(found) > 20
    for expression in found:
        check(expression)


def test_the_dashboard_shows_every_metric():
    text = DASHBOARD.read_text()
    assert [each.full_name for each in EXPOSED.values() if each.full_name not in text] == []


def test_panels_of_the_dashboard_do_not_overlap():
    cells = [
        (x, y)
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_alerts_ask_for_metrics_that_exist():
    rules = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    for rule in rules:
        check(rule["expr"])
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"]
        page, _, section = rule["annotations"]["runbook_url"].partition("#")
        assert page.endswith("/docs/operating.md")
        assert section == rule["alert"].lower()
        assert f"\n### {rule['alert']}\n" in (ROOT / "docs" / "operating.md").read_text("utf-8")
        for label in re.findall(r"\$labels\.(\w+)", str(rule["annotations"])):
            assert label in re.findall(r"\w+", rule["expr"]) or label == "instance"


@pytest.mark.parametrize(
    "expression",
    [
        "fastsmtp_messages > 0",  # it is called …_total
        'fastsmtp_replies_total{cause="internal"}',
        'fastsmtp_replies_total{reason="nonsense"}',
        "rate(fastsmtp_reply_seconds[5m])",
        'fastsmtp_broker_workers{state="down"}',
    ],
)
def test_the_check_finds_mistakes(expression):
    with pytest.raises(AssertionError):
        check(expression)
