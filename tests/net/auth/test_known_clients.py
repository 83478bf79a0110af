"""net/auth/known_clients: who is known, for how long, and to whom."""

import pytest

from fastsmtp.net.auth import known_clients
from fastsmtp.net.auth.known_clients import KEPT, RENEWED, KnownClients
from fastsmtp.settings import Settings
from tests.support.patience import until


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1_800_000_000.0

        def time(self):
            return self.now

    made = Clock()
    monkeypatch.setattr(known_clients, "time", made)
    return made


@pytest.fixture
def opened(tmp_path):
    """Opens the same file again and again, as workers do."""
    settings = Settings(smtp_hostname="mx.example.com", queue_file=str(tmp_path / "queue.db"))
    made = []

    def open_():
        made.append(KnownClients(settings))
        return made[-1]

    yield open_
    for each in made:
        each._thread.shutdown()


def add(known, user, address):
    known.add(known.pair(user, address), user)


def has(known, user, address):
    return known.has(known.pair(user, address))


def test_a_pair_is_known_at_once_and_to_others_a_moment_later(opened):
    one, other = opened(), opened()
    add(one, "ann", "192.0.2.1")
    assert has(one, "ann", "192.0.2.1")
    until(lambda: has(other, "ann", "192.0.2.1"))
    assert has(opened(), "ann", "192.0.2.1")
    for user, address in [("ann", "192.0.2.2"), ("bea", "192.0.2.1"), ("", "192.0.2.1")]:
        assert not has(one, user, address)
        assert not has(other, user, address)


def test_ipv6_counts_by_network(opened):
    known = opened()
    add(known, "ann", "2001:db8::1")
    assert has(known, "ann", "2001:db8::ffff:2")
    assert not has(known, "ann", "2001:db8:0:1::1")


def test_it_lasts_for_thirty_days_from_the_last_success(opened, clock):
    known = opened()
    add(known, "ann", "192.0.2.1")
    clock.now += KEPT
    assert has(known, "ann", "192.0.2.1")
    add(known, "ann", "192.0.2.1")
    clock.now += KEPT
    assert has(known, "ann", "192.0.2.1")
    clock.now += RENEWED
    assert not has(known, "ann", "192.0.2.1")
    assert not has(opened(), "ann", "192.0.2.1")


def test_a_clock_that_was_wrong_makes_nobody_known_for_ever(opened, clock):
    known = opened()
    clock.now += 10 * 365 * 86_400
    add(known, "ann", "192.0.2.1")
    known._thread.submit(lambda: None).result()  # behind the write
    clock.now -= 10 * 365 * 86_400
    assert not has(opened(), "ann", "192.0.2.1")


def test_without_a_file_it_is_known_until_the_restart(tmp_path, opened, caplog):
    (tmp_path / "known-clients.db").mkdir()
    known = opened()
    add(known, "ann", "192.0.2.1")
    assert has(known, "ann", "192.0.2.1")
    assert "known clients are forgotten" in caplog.text
    assert "known-clients.db: unable to open database file" in caplog.text
    assert not has(opened(), "ann", "192.0.2.1")


def test_what_a_worker_remembers_is_bounded(opened, monkeypatch):
    monkeypatch.setattr(known_clients, "REMEMBERED", 10)
    known = opened()
    for n in range(30):
        add(known, "ann", f"192.0.2.{n}")
    assert len(known._remembered) == 10
    until(lambda: all(has(known, "ann", f"192.0.2.{n}") for n in range(30)))  # the file has them
