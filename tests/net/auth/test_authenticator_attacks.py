"""AUTH of a real daemon while others guess: right passwords are heard, and guesses are slow."""

import asyncio
import itertools
import statistics

import pytest

from tests.support.guessing import Heard, attempt, counted, guess, meanwhile, success
from tests.support.ports import lasting_port
from tests.support.sink import eventually

USERS = "hardcoded://" + ",".join(f"u{n}:p{n}" for n in range(40))

GUESSES = 75
"""Wrong passwords at one user, from 50 addresses in 15 s, that a worker checks at most: one of each
address, and a few before the answers have become slow. There were 607 once."""


@pytest.fixture
def start(start_daemon):
    def start(**settings):
        metrics = f"127.0.0.1:{lasting_port()}"
        given = {"smtp_auth": USERS, "smtp_insecure_auth": "true", "smtp_threads": 1}
        given |= {"metrics_address": metrics, "smtp_port": lasting_port()}
        return start_daemon(**given | settings)

    return start


async def log_in(port, sources, users) -> list[Heard]:
    """Right passwords, five per second."""

    async def one(number, source, user):
        await asyncio.sleep(0.2 * number)  # the rate of clients
        return await attempt(port, source, user, f"p{user[1:]}")

    pairs = zip(sources, users, strict=True)
    return await asyncio.gather(*(one(number, *pair) for number, pair in enumerate(pairs)))


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("names", "patience"), [("same", 60), ("many", 0.2)])
def test_guesses_from_an_address_do_not_shut_out_its_users(start, names, patience):
    """16 that guess and 24 who know, all from one address: the latter all heard 454."""
    daemon = start()
    numbers = itertools.count()
    name = {"many": lambda: f"x{next(numbers)}", "same": lambda: "u0"}[names]

    async def run():
        crowd = (guess(daemon.port, "127.0.0.1", name, patience) for _ in range(16))
        async with meanwhile(*crowd):
            await asyncio.sleep(1)  # they guess already
            users = ["u0"] * 24 if names == "same" else [f"u{n}" for n in range(24)]
            return await log_in(daemon.port, ["127.0.0.1"] * 24, users)

    heard = asyncio.run(run())
    assert success(heard) > 0.95, heard
    assert counted(daemon)["unavailable"] == 0


@pytest.mark.timeout(180)
def test_hashes_from_many_addresses_do_not_starve_others(start, tmp_path):
    """400 addresses keep all threads hashing: 35 of 36 who came for the first time heard 454."""
    from fastsmtp.net.auth import hashes

    users = tmp_path / "users"
    lines = [f"u{n}:{hashes.hashed(f'p{n}'.encode())}\n" for n in range(36)]
    users.write_text("".join(lines))
    daemon = start(smtp_auth=f"file://{users}")
    numbers = itertools.count()

    async def run():
        crowd = (
            guess(
                daemon.port, f"127.0.{1 + n // 200}.{1 + n % 200}", lambda: f"x{next(numbers)}", 60
            )
            for n in range(400)
        )
        async with meanwhile(*crowd):
            await asyncio.sleep(1)  # they guess already
            sources = [f"127.0.9.{1 + n}" for n in range(36)]
            return await log_in(daemon.port, sources, [f"u{n}" for n in range(36)])

    heard = asyncio.run(run())
    assert success(heard) > 0.95, heard


@pytest.mark.timeout(180)
def test_guesses_at_one_user_from_many_addresses_are_few(start, capsys):
    daemon = start()

    async def run():
        known = "127.0.9.1"
        assert (await attempt(daemon.port, known, "u0", "p0")).code == 235
        crowd = (guess(daemon.port, f"127.0.1.{1 + n}", lambda: "u0", 1) for n in range(50))
        async with meanwhile(*crowd):
            elsewhere = [f"127.0.8.{1 + n}" for n in range(40)]
            sources = [known if n % 2 else elsewhere[n] for n in range(40)]
            heard = await log_in(daemon.port, sources, ["u0"] * 40)
            await asyncio.sleep(15 - 39 * 0.2)  # 15 s in all
            return heard, counted(daemon)["refused"]

    heard, guesses = asyncio.run(run())
    with capsys.disabled():
        print(f"\nguesses at one user from 50 addresses in 15 s: {guesses}")
    assert guesses <= GUESSES
    assert success(heard) == 1
    assert max(each.seconds for each in heard) < 2


def besiege(daemon, user, block=1) -> None:
    """Failures from 8 addresses, after which one from 127.0.0.1 is answered after 30 s.

    Those of another block need not wait for the answers to those of the first.
    """

    async def run():
        for source in [f"127.0.{block}.{n}" for n in range(1, 9)] + ["127.0.0.1"]:
            checked = counted(daemon)["refused"] + 1
            async with meanwhile(attempt(daemon.port, source, user, "wrong")):
                await eventually(lambda: counted(daemon)["refused"] == checked, 30)  # noqa: B023

    asyncio.run(run())


def heard_from(daemon, source, user, patience=60.0) -> Heard:
    return asyncio.run(attempt(daemon.port, source, user, f"p{user[1:]}", patience))


@pytest.mark.timeout(120)
def test_a_known_client_never_waits_and_stays_known(start):
    daemon = start()
    assert heard_from(daemon, "127.0.0.1", "u1").code == 235
    besiege(daemon, "u1")
    besiege(daemon, "u2")
    assert heard_from(daemon, "127.0.0.1", "u1").seconds < 1
    assert heard_from(daemon, "127.0.0.1", "u2", 3).code == 0  # it fails there, and is not known
    elsewhere = heard_from(daemon, "127.0.9.1", "u2")
    assert (elsewhere.code, elsewhere.seconds < 2) == (235, True)
    status, said = daemon.reload()
    assert status == 0, said
    besiege(daemon, "u1")
    assert heard_from(daemon, "127.0.0.1", "u1").seconds < 1
    daemon.stop()
    path = daemon.folder / "known-clients.db"
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"u1" not in path.read_bytes()
    daemon.start()
    besiege(daemon, "u1")
    assert heard_from(daemon, "127.0.0.1", "u1").seconds < 1


def test_a_known_client_is_known_to_all_workers(start):
    daemon = start(smtp_threads=2)
    assert heard_from(daemon, "127.0.0.1", "u1").code == 235
    for block in range(1, 3):
        besiege(daemon, "u1", block)
    assert all(heard_from(daemon, "127.0.0.1", "u1").seconds < 1 for _ in range(8))


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"SQLite format 3\0" + b"\xff" * 9000])
def test_a_damaged_file_of_known_clients_harms_nobody(start, content):
    daemon = start()
    daemon.stop()
    path = daemon.folder / "known-clients.db"
    path.write_bytes(content)
    daemon.start()
    assert heard_from(daemon, "127.0.0.1", "u1").code == 235
    besiege(daemon, "u1")
    assert heard_from(daemon, "127.0.0.1", "u1").seconds < 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_time_of_a_failure_does_not_tell_who_exists(start):
    """Neither who has a password here, nor who has used it from this address."""
    daemon = start()
    for n in range(8):
        assert heard_from(daemon, f"127.0.2.{n + 1}", f"u{n}").code == 235

    async def run():
        """Two at a time from each address: the second one is answered behind the first."""
        found = {"known": [], "unknown": [], "nobody": []}
        for n in range(8):
            for kind, user, source in [
                ("known", f"u{n}", f"127.0.2.{n + 1}"),
                ("unknown", f"u{n + 10}", f"127.0.3.{n + 1}"),
                ("nobody", f"x{n}", f"127.0.4.{n + 1}"),
            ]:
                both = (attempt(daemon.port, source, user, "wrong") for _ in range(2))
                found[kind].append(asyncio.gather(*both))
        return {
            kind: sorted(each.seconds for pair in await asyncio.gather(*all_) for each in pair)
            for kind, all_ in found.items()
        }

    found = asyncio.run(run())
    for times in found.values():
        assert statistics.median(times[:8]) == pytest.approx(0.5, abs=0.1)
        assert statistics.median(times[8:]) == pytest.approx(1.5, abs=0.1)
