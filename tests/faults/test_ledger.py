"""The ledger is itself tested: what it counts, and that it sees programs that lose mail."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.kills import kill_broker, kill_daemon, settle
from tests.faults.ledger import Ledger, Mail, digest
from tests.support.daemon import Daemon
from tests.support.inbox import EmbeddedInbox, RabbitmqInbox
from tests.support.rabbitmq import Broker


def test_it_counts_what_became_of_each_message() -> None:
    ledger = Ledger(7)
    two = ("a@example.org", "b@example.org")
    for token in ("stored", "halved", "gone", "refused", "unclear", "doubled", "changed"):
        ledger.sent(Mail(token, "me@example.com", two, digest(token.encode())))
    for token in ("stored", "halved", "gone", "doubled", "changed"):
        ledger.answered(token, 250)
    ledger.answered("refused", 451)
    for token, recipients in {
        "stored": two,
        "halved": two[:1],
        "unclear": two,
        "doubled": (*two, *two),
    }.items():
        for recipient in recipients:
            ledger.found(token, "me@example.com", recipient, token.encode())
    ledger.found("changed", "me@example.com", two[0], b"other content")
    ledger.found("changed", "you@example.com", two[0], b"changed")
    ledger.found("changed", "me@example.com", "c@example.org", b"changed")
    ledger.found("unknown", "me@example.com", two[0], b"unknown")
    assert str(ledger.report()) == (
        "seed 7 · sent 7 · acknowledged 5 · refused 1 · unanswered 1 · lost 3 · damaged 4"
        " · duplicates 2 · strangers 0 · ambiguous 1 · deferred 0 · longest 0.0 s"
    )


def mutant(name: str) -> tuple[str, ...]:
    """The command of a daemon that breaks its promise."""
    return (sys.executable, str(Path(__file__).parent / "mutants.py"), name)


@pytest.mark.parametrize("name", ["answers-early", "drops-failed-batch"])
def test_it_sees_lost_mail_when_the_broker_is_killed(
    name: str,
    killable: Broker,
    start_daemon: Callable[..., Daemon],
    ledger: Ledger,
) -> None:
    inbox = RabbitmqInbox(killable)
    daemon = start_daemon(command=mutant(name), **inbox.settings)
    kill_broker(killable, daemon, ledger, 1)
    assert settle(daemon, inbox, ledger).lost > 0


def test_it_sees_lost_mail_when_fastsmtp_is_killed(
    start_daemon: Callable[..., Daemon], ledger: Ledger
) -> None:
    inbox = EmbeddedInbox()
    daemon = start_daemon(command=mutant("answers-early"), **inbox.settings)
    kill_daemon(daemon, ledger, 10)
    assert settle(daemon, inbox, ledger).lost > 0
