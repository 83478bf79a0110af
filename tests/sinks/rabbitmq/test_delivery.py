"""sinks/rabbitmq/delivery: one answer per message, after its last recipient."""

import logging

import pytest

from fastsmtp import replies
from fastsmtp.replies import Reply
from fastsmtp.sinks.rabbitmq.delivery import Delivery

BAD = replies.NOT_STORED
WORSE = replies.INTERNAL
MIXED = [(BAD, None, None), (None, BAD, None), (None, None, BAD)]


class Told:
    """What a delivery has said, in order."""

    def __init__(self, recipients: int) -> None:
        self.heard: list[object] = []
        self.delivery = Delivery(recipients, self.heard.append, lambda: self.heard.append("end"))


@pytest.mark.parametrize("outcomes", [(x,) * n for n in (1, 3) for x in (None, BAD)] + MIXED)
def test_the_message_is_stored_where_every_recipient_is(outcomes: tuple[Reply | None, ...]) -> None:
    told = Told(len(outcomes))
    for outcome in outcomes:
        assert told.heard == []
        told.delivery.settle(outcome)
    assert told.heard == [BAD if BAD in outcomes else None, "end"]


def test_the_first_failure_is_the_answer() -> None:
    told = Told(3)
    for outcome in (None, WORSE, BAD):
        told.delivery.settle(outcome)
    assert told.heard == [WORSE, "end"]


def test_a_message_that_is_not_published_is_refused_once() -> None:
    told = Told(3)
    told.delivery.refuse(BAD)
    assert told.heard == [BAD, "end"]


def test_an_error_in_what_follows_is_logged_and_the_message_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[bool] = []

    def fail(_: Reply | None) -> None:
        raise ZeroDivisionError

    Delivery(1, fail, lambda: ended.append(True)).settle(None)
    assert ended == [True]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
