"""Two instances behind a real HAProxy, restarted in turn under load: no client notices."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.kills import FLOW_TIMEOUT, settle
from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.test_kills import ROUNDS, Record, judge
from tests.support.daemon import Daemon
from tests.support.haproxy import MISSING, HAProxy
from tests.support.inbox import RabbitmqInbox
from tests.support.patience import until
from tests.support.ports import lasting_port
from tests.support.rabbitmq import Broker

BETWEEN = 30
"""Messages acknowledged between two restarts."""


@pytest.fixture
def make_proxy(tmp_path: Path) -> Iterator[Callable[..., HAProxy]]:
    """Starts an HAProxy in front of daemons."""
    if MISSING:
        pytest.skip(MISSING)
    made: list[HAProxy] = []

    def make(*daemons: Daemon) -> HAProxy:
        made.append(HAProxy(tmp_path, [daemon.port for daemon in daemons]))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.timeout(200 * ROUNDS)
def test_rolling_restarts(
    broker: Broker,
    make_proxy: Callable[..., HAProxy],
    start_daemon: Callable[..., Daemon],
    ledger: Ledger,
    record_property: Record,
) -> None:
    inbox = RabbitmqInbox(broker)
    settings = inbox.settings | {"smtp_proxy": "127.0.0.1"}
    daemons = [start_daemon(smtp_port=lasting_port(), **settings) for _ in range(2)]
    proxy = make_proxy(*daemons)
    with Load(proxy.port, ledger, sessions=8) as load:
        for number in range(2 * 2 * ROUNDS):
            load.wait_for(BETWEEN, FLOW_TIMEOUT)
            daemon = daemons[number % 2]
            daemon.stop()
            daemon.start()
            until(lambda: set(proxy.states().values()) == {"UP"}, 30)
        load.wait_for(BETWEEN, FLOW_TIMEOUT)
    assert ledger.broken == []
    daemons[0].stop()
    judge(settle(daemons[1], inbox, ledger), record_property)
