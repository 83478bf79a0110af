"""health: why a probe fails, in words."""

import time

from fastsmtp.availability import Availability
from fastsmtp.metrics import Metrics
from fastsmtp.process.health import trouble, unstarted

HEALTHY = Metrics().snapshot(Availability(1))
REFUSING = HEALTHY | {"accepting": 0, "trouble": {"RabbitMQ went away": 2}}


def test_why_no_mail_can_come_in():
    assert trouble(HEALTHY) == ""
    assert trouble({}) == "no worker is up"
    assert trouble(REFUSING) == "mail is refused for now: RabbitMQ went away"


def test_one_worker_that_takes_mail_is_enough():
    assert trouble(REFUSING | {"accepting": 1}) == ""


def test_the_reason_of_a_stop_comes_before_its_consequences():
    for snapshot in ({}, HEALTHY, REFUSING):
        assert trouble(snapshot | {"stopping": 1}) == "fastsmtp is stopping"
        assert unstarted(snapshot | {"stopping": 1}) == "fastsmtp is stopping"


def test_before_any_worker_answers_it_is_starting():
    assert trouble({"unready": 2}) == "fastsmtp is starting"
    assert unstarted({"unready": 2}) == "workers that were never ready: 2"


def test_a_start_is_over_when_every_worker_was_ready():
    assert unstarted(REFUSING | {"unready": 1}) == (
        "workers that were never ready: 1: RabbitMQ went away"
    )
    assert unstarted(REFUSING | {"unready": 0}) == ""


def test_failures_in_a_row_count_while_they_are_recent_and_nothing_was_stored_since():
    now = time.monotonic()
    failed = HEALTHY | {"failures": {f"{now - 1} a": 1, f"{now} b": 2}}
    assert trouble(failed) == "mail is not stored: b"
    assert trouble(failed | {"last_stored": now - 0.5}) == ""
    assert trouble(HEALTHY | {"failures": {f"{now - 31} a": 3}}) == ""
