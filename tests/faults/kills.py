"""The two disasters: kill -9 of the broker and of fastsmtp, again and again under load."""

import random
import time
from typing import NamedTuple

from tests.faults.ledger import Ledger, Report
from tests.faults.load import Load
from tests.support.daemon import Daemon
from tests.support.inbox import Inbox
from tests.support.rabbitmq import Broker

FLOW_TIMEOUT = 30.0
"""Seconds until mail flows: after a broker's return 10 are promised, three times that is borne."""

BETWEEN = 300
"""Messages acknowledged between two kills."""


class Kill(NamedTuple):
    """One kill -9 of the broker."""

    in_flight: int  # messages that waited for their reply then
    back: float  # seconds from the broker's return until mail flowed


def kill_broker(broker: Broker, daemon: Daemon, ledger: Ledger, times: int) -> list[Kill]:
    """Kill and restart the broker under load.

    Every other time it stops first: it takes mail and says nothing, so that what is in flight
    piles up before it dies. The first time its queue is new.
    """
    chance = random.Random(ledger.seed)
    kills: list[Kill] = []
    with Load(daemon.port, ledger) as load:
        for number in range(times):
            load.wait_for(BETWEEN if number else 1, FLOW_TIMEOUT)
            if number % 2 == 0:
                broker.pause()
                time.sleep(chance.uniform(0.1, 0.3))  # at any moment
            in_flight = ledger.in_flight
            broker.kill()
            time.sleep(chance.uniform(0, 0.5))  # at any moment
            broker.start()
            kills.append(Kill(in_flight, load.wait_for(1, FLOW_TIMEOUT)))
        load.wait_for(BETWEEN, FLOW_TIMEOUT)
    return kills


def kill_daemon(daemon: Daemon, ledger: Ledger, times: int) -> None:
    """Kill and restart fastsmtp under load, on the same port and the same files."""
    chance = random.Random(ledger.seed)
    with Load(daemon.port, ledger) as load:
        for _ in range(times):
            load.wait_for(BETWEEN, FLOW_TIMEOUT)
            time.sleep(chance.uniform(0, 0.05))  # at any moment
            daemon.kill()
            daemon.start()
        load.wait_for(BETWEEN, FLOW_TIMEOUT)


def settle(daemon: Daemon, inbox: Inbox, ledger: Ledger) -> Report:
    """Stop the daemon in order, drain the queue, judge."""
    daemon.stop()
    for message in inbox.messages(daemon):
        token = message["envelope"].partition("@")[0]
        ledger.found(
            token,
            message["envelope"],
            message["recipient"],
            message["mime"].encode(),
            message["message-id"],
        )
    return ledger.report()
