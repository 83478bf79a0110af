"""delivery: a message is settled once, after its last recipient, with one outcome per recipient."""

import logging

import pytest

from fastsmtp import replies
from fastsmtp.replies import Reply
from fastsmtp.sinks.base import Outcomes
from fastsmtp.sinks.rabbitmq.delivery import Delivery

LOST = replies.NOT_STORED


class Heard:
    """A delivery, and what it calls, in order."""

    def __init__(self, recipients: int) -> None:
        self.calls: list[object] = []
        self.delivery = Delivery(recipients, self.calls.append, lambda: self.calls.append("end"))


@pytest.mark.parametrize(
    "outcomes", [[None], [LOST], [None, LOST, None], [LOST, replies.UNROUTABLE, None], [None] * 3]
)
@pytest.mark.parametrize("backwards", [False, True])
def test_it_is_settled_after_the_last_recipient(
    outcomes: list[Reply | None], backwards: bool
) -> None:
    heard = Heard(len(outcomes))
    in_turn = list(enumerate(outcomes))
    for position, outcome in reversed(in_turn) if backwards else in_turn:
        assert heard.calls == []
        heard.delivery.settle(position, outcome)
    assert heard.calls == [outcomes, "end"]


def test_a_message_that_is_not_published_has_one_outcome_for_all() -> None:
    heard = Heard(3)
    heard.delivery.settle_all(LOST)
    assert heard.calls == [[LOST] * 3, "end"]


def test_an_error_in_what_follows_is_logged_and_the_message_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[bool] = []

    def fail(_: Outcomes) -> None:
        raise ZeroDivisionError

    Delivery(1, fail, lambda: ended.append(True)).settle(0, None)
    assert ended == [True]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
