"""With a spill nothing is refused and nothing is lost, whatever becomes of the broker or of us."""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastsmtp.sinks.spill_file import SpillFile
from tests.faults.kills import BETWEEN, FLOW_TIMEOUT, settle
from tests.faults.ledger import Ledger, Report
from tests.faults.load import Load
from tests.faults.test_ledger import mutant
from tests.support.daemon import Daemon
from tests.support.inbox import RabbitmqInbox
from tests.support.patience import until
from tests.support.ports import lasting_port
from tests.support.rabbitmq import Broker

ROUNDS = int(os.environ.get("LEDGER_ROUNDS", "1"))

AFTER = 1.0
"""rabbitmq-spill-after in seconds."""

LONGEST = 3 * (AFTER + 1)
"""Seconds that a reply may take here: three times what is promised."""

Record = Callable[[str, object], None]
Start = Callable[..., Daemon]


@pytest.fixture
def spill(tmp_path: Path) -> str:
    return str(tmp_path / "spill.db")


def rows(spill: str) -> int:
    file = SpillFile(spill)
    try:
        return file.count()
    finally:
        file.close()


def settings(broker: Broker, spill: str) -> tuple[RabbitmqInbox, dict[str, object]]:
    inbox = RabbitmqInbox(broker)
    return inbox, inbox.settings | {
        "smtp_port": lasting_port(),
        "rabbitmq_spill": spill,
        "rabbitmq_spill_after": f"{AFTER:g}",
        "rabbitmq_spill_unroutable": "true",
    }


def drained(spill: str, daemon: Daemon, inbox: RabbitmqInbox, ledger: Ledger) -> Report:
    """Everything is in the queue, and the daemon has ended."""
    until(lambda: rows(spill) == 0, 90)
    return settle(daemon, inbox, ledger)


def judge(report: Report, record_property: Record) -> None:
    record_property("ledger", str(report))
    assert report.acknowledged > 0
    assert report.lost == report.damaged == report.strangers == 0, report


def judge_broker(report: Report, record_property: Record) -> None:
    judge(report, record_property)
    assert report.refused == report.deferred == 0, report
    assert report.longest < LONGEST, report


def silent(broker: Broker) -> None:
    broker.pause()
    time.sleep(2.5 * AFTER)  # the fault lasts
    broker.resume()


def killed(broker: Broker) -> None:
    broker.kill()
    time.sleep(AFTER)  # the fault lasts
    broker.start()


def disconnected(broker: Broker) -> None:
    broker.ctl("close_all_connections", "test")


def alarmed(broker: Broker) -> None:
    broker.ctl("set_vm_memory_high_watermark", "0.00001")
    time.sleep(3 * AFTER)  # the fault lasts
    broker.ctl("set_vm_memory_high_watermark", "0.8")


def queue_deleted(broker: Broker) -> None:
    for name in broker.ctl("list_queues", "name", "--no-table-headers").split():
        broker.ctl("delete_queue", name)


def user_gone(broker: Broker) -> None:
    broker.ctl("change_password", "guest", "another")
    broker.ctl("close_all_connections", "test")
    time.sleep(2 * AFTER)  # the fault lasts
    broker.ctl("change_password", "guest", "guest")


DAILY = [silent, killed]
ALL = [silent, killed, disconnected, alarmed, user_gone]


@pytest.mark.timeout(300 * ROUNDS)
def test_nothing_is_refused_while_the_broker_fails(
    killable: Broker, start_daemon: Start, spill: str, ledger: Ledger, record_property: Record
) -> None:
    inbox, given = settings(killable, spill)
    daemon = start_daemon(**given, smtp_threads=2)
    faults = DAILY if ROUNDS == 1 else ALL * ROUNDS
    with Load(daemon.port, ledger) as load:
        for fault in faults:
            load.wait_for(BETWEEN, FLOW_TIMEOUT)
            fault(killable)
        load.wait_for(BETWEEN, FLOW_TIMEOUT)
    judge_broker(drained(spill, daemon, inbox, ledger), record_property)


@pytest.mark.skipif(ROUNDS == 1, reason="make faults")
def test_a_queue_that_is_deleted_takes_only_what_was_in_it_along(
    killable: Broker, start_daemon: Start, spill: str, ledger: Ledger, record_property: Record
) -> None:
    inbox, given = settings(killable, spill)
    daemon = start_daemon(**given)
    with Load(daemon.port, ledger) as load:
        load.wait_for(BETWEEN, FLOW_TIMEOUT)
        queue_deleted(killable)
        load.wait_for(BETWEEN, FLOW_TIMEOUT)
    report = drained(spill, daemon, inbox, ledger)
    record_property("ledger", str(report))
    assert report.refused == report.deferred == 0, report


@pytest.mark.timeout(300 * ROUNDS)
def test_no_mail_is_lost_when_fastsmtp_is_killed_while_it_spills(
    killable: Broker, start_daemon: Start, spill: str, ledger: Ledger, record_property: Record
) -> None:
    inbox, given = settings(killable, spill)
    daemon = start_daemon(**given)
    chance = random.Random(ledger.seed)
    with Load(daemon.port, ledger) as load:
        for number in range(2 * ROUNDS):
            load.wait_for(BETWEEN, FLOW_TIMEOUT)
            killable.pause()
            time.sleep(chance.uniform(0, 2 * AFTER))  # at any moment
            if number % 2:
                killable.resume()
                time.sleep(chance.uniform(0, AFTER))  # while it drains
            daemon.kill()
            killable.resume()
            daemon.start()
        load.wait_for(BETWEEN, FLOW_TIMEOUT)
    judge(drained(spill, daemon, inbox, ledger), record_property)
    assert ledger.in_flight > 0, "nothing was in flight at any kill"


@pytest.mark.skipif(ROUNDS == 1, reason="make faults")
@pytest.mark.parametrize("name", ["drain-deletes-early", "hedge-forgets"])
def test_it_sees_a_spill_with_a_broken_promise(
    killable: Broker, start_daemon: Start, spill: str, ledger: Ledger, name: str
) -> None:
    inbox, given = settings(killable, spill)
    daemon = start_daemon(command=mutant(name), **given)
    with Load(daemon.port, ledger) as load:
        load.wait_for(1, FLOW_TIMEOUT)
        killable.pause()
        load.wait_for(BETWEEN, FLOW_TIMEOUT)
        killed(killable)
        if name == "drain-deletes-early":
            until(lambda: rows(spill) < BETWEEN / 2, 30)
            killable.pause()
            time.sleep(AFTER)  # while rows are published
            killed(killable)
    assert drained(spill, daemon, inbox, ledger).lost > 0
