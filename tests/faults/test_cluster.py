"""A cluster of three loses a node under load: mail goes on, as long as a majority lives.

Long: for `make faults`. What is measured is the longest time without a 250; the bounds are three
times what docs/reliability.md gives.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.kills import settle
from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.test_kills import ROUNDS, Record, judge
from tests.faults.test_spill import AFTER, drained, judge_broker
from tests.support import rabbitmq
from tests.support.cluster import Cluster, running
from tests.support.daemon import Daemon
from tests.support.inbox import RabbitmqInbox
from tests.support.patience import until
from tests.support.ports import lasting_port
from tests.support.rabbitmq import Broker

pytestmark = [
    pytest.mark.skipif(ROUNDS == 1, reason="takes minutes: make faults"),
    pytest.mark.timeout(900),
]

FLOW_TIMEOUT = 60.0
"""Seconds until mail flows before a fault."""

FIVE, TEN = 3 * 5.0, 3 * 10.0


@pytest.fixture
def partitions() -> str:
    """What a node does that has no majority; a test may be parametrized with others."""
    return "pause_minority"


@pytest.fixture
def cluster(partitions: str) -> Iterator[Cluster]:
    """One of the test's own: what a fault leaves behind takes RabbitMQ minutes to mend."""
    if rabbitmq.MISSING:
        pytest.skip(rabbitmq.MISSING)
    with running(partitions) as made:
        yield made


class Flow:
    """A daemon under load, connected to the node whose member leads; the ledger of it."""

    def __init__(
        self,
        cluster: Cluster,
        start_daemon: Callable[..., Daemon],
        ledger: Ledger,
        record: Record,
        **settings: object,
    ) -> None:
        self.cluster, self.ledger, self.record = cluster, ledger, record
        self.inbox = RabbitmqInbox(cluster.alive)
        self.settings = {"smtp_port": lasting_port(), "rabbitmq_queue_type": "quorum"} | settings
        self.start_daemon = start_daemon
        self.daemon = self.start(cluster.nodes)
        self.leader = cluster.leader(self.inbox.queue)

    def start(self, nodes: list[Broker]) -> Daemon:
        """A daemon that tries these nodes in their order."""
        settings = self.inbox.settings | {"rabbitmq_address": ",".join(n.url for n in nodes)}
        return self.start_daemon(**self.settings, **settings)

    def begin_at(self, node: Broker) -> None:
        """Connect to `node` first."""
        self.daemon.stop()
        self.daemon = self.start([node, *self.cluster.others(node)])

    def stall(self, seconds: float) -> float:
        """The longest time without a 250 in the `seconds` that come."""
        longest, last, ends = 0.0, time.monotonic(), time.monotonic() + seconds
        while time.monotonic() < ends or time.monotonic() - self.ledger.last_acknowledged > 1:
            last = max(last, self.ledger.last_acknowledged)
            longest = max(longest, time.monotonic() - last)
            assert longest < 100, self.daemon.log
            time.sleep(0.01)  # looks again
        return longest

    def judge(self) -> None:
        judge(settle(self.daemon, self.inbox, self.ledger), self.record)


@pytest.fixture
def flow(
    cluster: Cluster,
    start_daemon: Callable[..., Daemon],
    ledger: Ledger,
    record_property: Record,
) -> Flow:
    return Flow(cluster, start_daemon, ledger, record_property)


def record(flow: Flow, what: str, seconds: float, bound: float) -> None:
    flow.record("ledger", f"{what}: {seconds:.1f} s without a 250")
    assert seconds < bound, flow.daemon.log


@pytest.mark.parametrize("connected", ["to the leader", "to another node"])
def test_the_leader_is_killed(flow: Flow, connected: str) -> None:
    others = flow.cluster.others(flow.leader)
    flow.begin_at(flow.leader if connected == "to the leader" else others[0])
    with Load(flow.daemon.port, flow.ledger, sessions=8, arrivals=0.25) as load:
        load.wait_for(300, FLOW_TIMEOUT)
        flow.leader.kill()
        seconds = flow.stall(40)
        flow.leader.start()
        load.wait_for(300, FLOW_TIMEOUT)
    flow.judge()
    record(flow, f"leader killed, connected {connected}", seconds, FIVE)


def test_a_node_says_nothing_more(flow: Flow) -> None:
    """One that does not lead: where it does, RabbitMQ 3.10 confirms nothing on any node."""
    silent = flow.cluster.others(flow.leader)[0]
    flow.begin_at(silent)
    with Load(flow.daemon.port, flow.ledger, sessions=8, arrivals=0.25) as load:
        load.wait_for(300, FLOW_TIMEOUT)
        silent.pause()
        seconds = flow.stall(40)
        silent.resume()
        load.wait_for(300, FLOW_TIMEOUT)
    until(lambda: silent.answers(), 60)
    flow.judge()
    record(flow, "connected node silent", seconds, TEN)


@pytest.mark.parametrize("partitions", ["pause_minority", "ignore"])
@pytest.mark.parametrize("node", ["the leader", "another node"])
def test_a_partition(flow: Flow, node: str, partitions: str) -> None:
    alone = flow.leader if node == "the leader" else flow.cluster.others(flow.leader)[0]
    flow.begin_at(alone)
    with Load(flow.daemon.port, flow.ledger, sessions=8, arrivals=0.25) as load:
        load.wait_for(300, FLOW_TIMEOUT)
        flow.cluster.cut(alone)
        seconds = flow.stall(40)
        flow.cluster.heal(alone)
        # In mode ignore the minority goes on alone until it is started anew.
        alone.kill()
        alone.start()
        load.wait_for(300, FLOW_TIMEOUT)
    flow.inbox.url = flow.cluster.others(alone)[0].url
    flow.judge()
    record(flow, f"{node} cut off, {partitions}", seconds, TEN)


def test_a_rolling_restart(flow: Flow) -> None:
    longest = 0.0
    with Load(flow.daemon.port, flow.ledger, sessions=8, arrivals=0.25) as load:
        load.wait_for(300, FLOW_TIMEOUT)
        for node in flow.cluster.nodes:
            node.stop()
            longest = max(longest, flow.stall(3))
            node.start()
            node.ctl("await_online_nodes", "3")
            longest = max(longest, flow.stall(5))
    flow.judge()
    record(flow, "rolling restart", longest, FIVE)


def test_with_a_spill_nobody_hears_of_it(
    cluster: Cluster,
    start_daemon: Callable[..., Daemon],
    ledger: Ledger,
    record_property: Record,
    tmp_path: Path,
) -> None:
    """The leader's node killed, silent and cut off, one after the other."""
    spill = str(tmp_path / "spill.db")
    more = {"rabbitmq_spill": spill, "rabbitmq_spill_after": f"{AFTER:g}"}
    flow = Flow(cluster, start_daemon, ledger, record_property, **more)
    with Load(flow.daemon.port, ledger, sessions=8, arrivals=0.25) as load:
        load.wait_for(300, FLOW_TIMEOUT)
        for fault in (killed, silent, cut_off):
            fault(cluster, cluster.leader(flow.inbox.queue))
            load.wait_for(300, FLOW_TIMEOUT)
    report = drained(spill, flow.daemon, flow.inbox, ledger)
    judge_broker(report, record_property)


def killed(cluster: Cluster, node: Broker) -> None:
    node.kill()
    time.sleep(10)  # the fault lasts
    node.start()
    node.ctl("await_online_nodes", "3")


def silent(cluster: Cluster, node: Broker) -> None:
    node.pause()
    time.sleep(20)  # the fault lasts
    node.resume()
    node.ctl("await_online_nodes", "3")


def cut_off(cluster: Cluster, node: Broker) -> None:
    cluster.cut(node)
    time.sleep(20)  # the fault lasts
    cluster.heal(node)
    node.kill()
    node.start()
