"""totals: sums of snapshots are sums, and the state of a worker ends with it."""

import json

from fastsmtp import replies
from fastsmtp._durations import now
from fastsmtp.availability import Availability
from fastsmtp.counters import OF_PROBES
from fastsmtp.metrics import Metrics
from fastsmtp.peer import Peer
from fastsmtp.process.totals import declared, total
from fastsmtp.process.usage import usage
from fastsmtp.refusals import Refusal
from fastsmtp.sinks.rabbitmq.counters import BrokerCounters

PEER = Peer("127.0.0.1", 25, "127.0.0.1", 4000)


def test_totals_hold_what_ended_workers_counted_and_not_what_they_were():
    running, ended = Metrics(), Metrics()
    for metrics, times in ((running, 1), (ended, 10)):
        metrics.messages += times
        metrics.in_flight += times
        metrics.replies[replies.BYE.kind] += times
        metrics.refused(Refusal(replies.LOOP, PEER, size=1))
        for _ in range(times):
            metrics.reply_seconds.since(now())
    summed = total([running.snapshot(Availability(1))], [ended.snapshot(Availability(1))])
    assert (summed["messages"], summed["in_flight"]) == (11, 1)
    assert summed["replies"][replies.BYE.kind] == 11
    assert summed["rejected"] == {replies.LOOP.kind: 2}
    assert sum(summed["reply_seconds"]["buckets"].values()) == 11
    assert list(summed["workers"].values()) == [1]
    # Once more, as a supervisor keeps it.
    assert total([], [summed])["messages"] == 11
    gauges = {name for name, exposed in declared().items() if exposed.ends}
    assert {"in_flight", "workers"} <= gauges & summed.keys()
    assert (gauges | OF_PROBES).isdisjoint(total([], [summed]))


def test_totals_leave_their_parts_alone():
    snapshot = Metrics().snapshot(Availability(1))
    before = json.dumps(snapshot)
    total([snapshot, snapshot], [snapshot])
    assert json.dumps(snapshot) == before


def test_workers_of_different_versions_add_up():
    old = {"messages": 1, "replies": {"a": 1}, "workers": {"1.0": 1}}
    new = {"messages": 2, "replies": {"b": 2}, "workers": {"1.1": 1}, "greylisted": 3}
    assert total([old, new]) == {
        "messages": 3,
        "replies": {"a": 1, "b": 2},
        "workers": {"1.0": 1, "1.1": 1},
        "greylisted": 3,
    }


def test_the_brokers_state_ends_with_the_worker():
    counters = BrokerCounters()
    counters.broker_state = "up"
    counters.broker_lost = 2
    counters.failures.append((1.0, "nacked"))
    summed = total([counters.counted()], [counters.counted()])
    assert summed["broker_state"] == {"up": 1, "away": 0, "blocked": 0}
    assert (summed["broker_lost"], summed["failures"]) == (4, {"1.000000 nacked": 1})


def test_of_several_limits_the_lowest_counts():
    first = {"size_limit": 5, "certificate_ends": {"a.crt": 7.0, "b.crt": 3.0}}
    second = {"size_limit": 4, "certificate_ends": {"a.crt": 6.0}}
    assert total([first, second]) == {
        "size_limit": 4,
        "certificate_ends": {"a.crt": 6.0, "b.crt": 3.0},
    }


def test_what_a_process_took_ends_with_it():
    assert total([], [usage("worker-1", 1)]) == {}
    cpu = total([usage("worker-1", 1), usage("worker-1", 2)])["process_cpu"]
    assert set(cpu) == {"worker-1 1", "worker-1 2"}


def test_of_several_times_the_last_counts():
    summed = total([{"last_stored": 3.5}, {"last_stored": 7.5}, {"messages": 1}])
    assert summed == {"last_stored": 7.5, "messages": 1}
    # A label of that name is a number like others.
    labelled = {"outcomes": {"last_stored": 1}}
    assert total([labelled, labelled]) == {"outcomes": {"last_stored": 2}}
