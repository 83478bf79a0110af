"""net/failures: the delay grows with an address's, or a user's, failures, over all workers."""

import itertools
import os
from ipaddress import ip_address

import pytest

from fastsmtp.net import failures
from fastsmtp.net.failures import FIRST_DELAY, FORGET, LAST_DELAY, MOST, Failures


@pytest.fixture
def memory():
    descriptor = failures.create()
    os.pwrite(descriptor, b"the same key each time".ljust(32), 0)  # so that the same ones collide
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 5000.0

        def monotonic(self):
            return self.now

    made = Clock()
    monkeypatch.setattr(failures, "time", made)
    return made


@pytest.fixture
def name():
    """Names of users, each of them new."""
    numbers = itertools.count()
    return lambda: f"user{next(numbers)}"


def test_it_doubles_over_all_workers_up_to_its_end(memory, clock, name):
    workers = [Failures(memory, slot) for slot in (0, 3, 255)]
    found = [workers[n % 3].add("192.0.2.1", name()) for n in range(12)]
    assert found[:6] == [FIRST_DELAY * 2**n for n in range(6)]
    assert found[6:] == [LAST_DELAY] * 6


def test_it_is_forgotten_one_failure_after_the_other(memory, clock, name):
    one = Failures(memory, 1)
    for _ in range(20):
        one.add("192.0.2.1", name())
    clock.now += (MOST - 1) * FORGET
    assert Failures(memory, 2).add("192.0.2.1", name()) == 2 * FIRST_DELAY
    clock.now += MOST * FORGET
    assert one.add("192.0.2.1", name()) == FIRST_DELAY


def test_an_ended_workers_failures_still_count(memory, clock, name):
    Failures(memory, 7).add("192.0.2.1", name())
    assert Failures(memory, 7).add("192.0.2.1", name()) == 2 * FIRST_DELAY


def test_ipv6_counts_by_network(memory, clock, name):
    one = Failures(memory, 0)
    found = [one.add(str(ip_address("2001:db8::") + (n << 40)), name()) for n in range(3)]
    assert found == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]


def test_a_user_counts_over_all_addresses(memory, clock):
    workers = [Failures(memory, slot) for slot in (0, 3, 255)]
    found = [workers[n % 3].add(f"192.0.2.{n}", "ann") for n in range(12)]
    assert found[:6] == [FIRST_DELAY * 2**n for n in range(6)]
    assert found[6:] == [LAST_DELAY] * 6
    assert workers[0].add("192.0.2.99", "bea") == FIRST_DELAY


def test_who_has_failed_lately(memory, clock):
    one = Failures(memory, 1)
    one.add("192.0.2.1", "ann")
    assert Failures(memory, 2).has_failed("192.0.2.1")
    assert not one.has_failed("192.0.2.2")
    clock.now += FORGET
    assert not one.has_failed("192.0.2.1")


def test_others_do_not_pay(memory, clock, name):
    one = Failures(memory, 0)
    for _ in range(10):
        one.add("192.0.2.1", name())
    found = [one.add(str(ip_address("10.0.0.0") + n), name()) for n in range(100)]
    assert found.count(FIRST_DELAY) >= 90  # addresses fall into buckets, few into the same


def test_memory_does_not_grow(memory, clock, name):
    one = Failures(memory, 0)
    for n in range(20_000):
        one.add(str(ip_address("10.0.0.0") + n), name())
    assert os.fstat(memory).st_size < 9 << 20
    assert os.fstat(memory).st_blocks * 512 < 9 << 20
