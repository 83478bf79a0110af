"""Mail that was answered with 250 is in the queue, whoever was killed with kill -9 meanwhile."""

import os
from collections.abc import Callable

import pytest

from tests.faults.kills import kill_broker, kill_daemon, settle
from tests.faults.ledger import Ledger, Report
from tests.support.daemon import Daemon
from tests.support.inbox import Inbox, RabbitmqInbox
from tests.support.ports import lasting_port
from tests.support.rabbitmq import Broker

ROUNDS = int(os.environ.get("LEDGER_ROUNDS", "1"))
"""How many times the usual number of kills: `make faults` makes it large."""

Record = Callable[[str, object], None]


def judge(report: Report, record_property: Record) -> None:
    record_property("ledger", str(report))
    assert report.acknowledged > 0
    assert report.lost == 0, report
    assert report.damaged == 0, report
    assert report.duplicates == 0, report


@pytest.mark.timeout(300 * ROUNDS)
@pytest.mark.parametrize(("kind", "times"), [("classic", 3), ("quorum", 2)])
def test_no_mail_is_lost_when_the_broker_is_killed(
    killable: Broker,
    start_daemon: Callable[..., Daemon],
    ledger: Ledger,
    record_property: Record,
    kind: str,
    times: int,
) -> None:
    inbox = RabbitmqInbox(killable)
    daemon = start_daemon(smtp_port=lasting_port(), rabbitmq_queue_type=kind, **inbox.settings)
    kills = kill_broker(killable, daemon, ledger, times * ROUNDS)
    flowed = ", ".join(f"{kill.back:.1f} s" for kill in kills)
    record_property("ledger", f"mail flowed {flowed} after the broker's returns")
    judge(settle(daemon, inbox, ledger), record_property)
    assert sum(kill.in_flight for kill in kills) > 0, "nothing was in flight at any kill"


@pytest.mark.timeout(300 * ROUNDS)
def test_no_mail_is_lost_when_fastsmtp_is_killed(
    inbox: Inbox,
    start_daemon: Callable[..., Daemon],
    ledger: Ledger,
    record_property: Record,
) -> None:
    daemon = start_daemon(smtp_port=lasting_port(), **inbox.settings)
    kill_daemon(daemon, ledger, 3 * ROUNDS)
    judge(settle(daemon, inbox, ledger), record_property)
    assert ledger.in_flight > 0, "nothing was in flight at any kill"
