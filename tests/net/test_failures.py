"""net/failures: the delay grows with an address's failures, over all workers, and is forgotten."""

import os
from ipaddress import ip_address

import pytest

from fastsmtp.net import failures
from fastsmtp.net.failures import FIRST_DELAY, FORGET, LAST_DELAY, MOST, Failures


@pytest.fixture
def memory():
    descriptor = failures.create()
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


def test_it_doubles_over_all_workers_up_to_its_end(memory, clock):
    workers = [Failures(memory, slot) for slot in (0, 3, 255)]
    found = [workers[n % 3].add("192.0.2.1") for n in range(12)]
    assert found[:6] == [FIRST_DELAY * 2**n for n in range(6)]
    assert found[6:] == [LAST_DELAY] * 6


def test_it_is_forgotten_one_failure_after_the_other(memory, clock):
    one = Failures(memory, 1)
    for _ in range(20):
        one.add("192.0.2.1")
    clock.now += (MOST - 1) * FORGET
    assert Failures(memory, 2).add("192.0.2.1") == 2 * FIRST_DELAY
    clock.now += MOST * FORGET
    assert one.add("192.0.2.1") == FIRST_DELAY


def test_an_ended_workers_failures_still_count(memory, clock):
    Failures(memory, 7).add("192.0.2.1")
    assert Failures(memory, 7).add("192.0.2.1") == 2 * FIRST_DELAY


def test_ipv6_counts_by_network(memory, clock):
    one = Failures(memory, 0)
    found = [one.add(str(ip_address("2001:db8::") + (n << 40))) for n in range(3)]
    assert found == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]


def test_others_do_not_pay(memory, clock):
    one = Failures(memory, 0)
    for _ in range(10):
        one.add("192.0.2.1")
    found = [one.add(str(ip_address("10.0.0.0") + n)) for n in range(100)]
    assert found.count(FIRST_DELAY) >= 90  # addresses fall into buckets, few into the same


def test_memory_does_not_grow(memory, clock):
    one = Failures(memory, 0)
    for n in range(20_000):
        one.add(str(ip_address("10.0.0.0") + n))
    assert os.fstat(memory).st_size < 9 << 20
    assert os.fstat(memory).st_blocks * 512 < 9 << 20
