"""net/auth/known_clients_file: whatever is in the file, it is of use again, and stays small."""

import os
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastsmtp.net.auth import known_clients_file
from fastsmtp.net.auth.known_clients_file import LARGEST, Database, FileError, use
from fastsmtp.settings import Settings
from tests.support.daemon import COMMAND

NOW, THEN = 1_800_000_000, 1_800_000_100
PAIR, OWNER = b"p" * 16, b"o" * 16


@pytest.fixture
def path(tmp_path):
    return tmp_path / "known-clients.db"


def opened(path):
    return Database(str(path), makes_folder=False)


def until(database, pair=PAIR):
    return database.until(pair, NOW, THEN)


def make(path):
    """A good file with one pair."""
    database = opened(path)
    database.keep(PAIR, OWNER, NOW, THEN)
    return database


def change(path, *statements):
    """Somebody else writes into the file."""
    with sqlite3.connect(path) as db:
        for sql in statements:
            db.execute(sql)
    db.close()


def test_it_is_kept_with_its_key_and_only_ours_to_read(path):
    key = make(path).key
    again = opened(path)
    assert (until(again), again.key) == (THEN, key)
    assert until(again, b"q" * 16) == 0
    for each in path.parent.iterdir():
        assert each.stat().st_mode & 0o777 == 0o600
    assert {each.name for each in path.parent.iterdir()} == {
        *("known-clients.db", "known-clients.db-shm", "known-clients.db-wal")
    }


def garbage(path):
    path.write_bytes(os.urandom(20_000))


def truncated(path):
    make(path)
    path.write_bytes(path.read_bytes()[:5000])
    (path.parent / f"{path.name}-wal").unlink()


def torn(path):
    database = make(path)
    database._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    path.write_bytes(content[:4096] + os.urandom(len(content) - 4096))


def of_somebody_else(path):
    change(path, "CREATE TABLE pairs (digest, user, until)", "CREATE TABLE key (value)")


def with_a_trigger(path):
    make(path)
    change(path, "CREATE TRIGGER t AFTER INSERT ON pairs BEGIN DELETE FROM pairs; END")


def without_a_key(path):
    make(path)
    change(path, "DELETE FROM key")


def with_a_short_key(path):
    make(path)
    change(path, "UPDATE key SET value = 'short'")


def huge(path):
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)


@pytest.mark.parametrize(
    "spoil",
    [
        *(garbage, truncated, torn, of_somebody_else, with_a_trigger),
        *(without_a_key, with_a_short_key, huge),
    ],
)
def test_a_damaged_file_is_moved_aside(path, spoil):
    spoil(path)
    database = opened(path)
    assert until(database) == 0
    database.keep(PAIR, OWNER, NOW, THEN)
    assert until(opened(path)) == THEN
    assert (path.parent / "known-clients.db.damaged").exists()


@pytest.mark.parametrize("value", ["'for ever'", "x'ff'", "9e99", str(THEN + 1), "NULL", "-1"])
def test_a_time_that_was_not_ours_makes_nobody_known(path, value):
    database = make(path)
    try:
        change(path, f"UPDATE pairs SET until = {value}")
    except sqlite3.IntegrityError:
        change(path, "DELETE FROM pairs")
    assert until(database) == 0


def test_a_file_that_is_damaged_later_is_an_error_that_names_it(path):
    database = make(path)
    database._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(FileError, match=r"known-clients\.db: "):
        until(database)


def test_what_is_over_goes_and_nobody_has_too_many(path, monkeypatch):
    monkeypatch.setattr(known_clients_file, "MOST", 30)
    monkeypatch.setattr(known_clients_file, "MOST_OF_USER", 10)
    database = opened(path)
    count = "SELECT count(*) FROM pairs"
    for n in range(40):
        database.keep(b"a%d" % n, b"ann", NOW, NOW + 1 + n)
    assert database._reader.execute(count).fetchone() == (10,)
    assert until(database, b"a39") == NOW + 40
    for n in range(40):
        database.keep(b"b%d" % n, b"%d" % n, NOW, NOW + 50 + n)
    assert database._reader.execute(count).fetchone() == (30,)
    database.keep(PAIR, OWNER, NOW + 200, NOW + 300)
    assert database._reader.execute(count).fetchone() == (1,)


def test_workers_that_find_damage_at_the_same_time_share_the_new_file(path):
    with ThreadPoolExecutor(4) as threads:
        for _ in range(20):
            garbage(path)
            keys = list(threads.map(lambda _: opened(path).key, range(4)))
            assert len(set(keys)) == 1


def test_it_is_beside_the_queue_file_whose_folder_must_exist(tmp_path):
    settings = Settings(smtp_hostname="x", queue_file=str(tmp_path / "new" / "queue.db"))
    found = use(settings)
    assert found.path == str(tmp_path / "new" / "known-clients.db")
    with pytest.raises(FileError, match="No such file or directory"):
        Database(found.path, found.makes_folder)


def test_check_warns_where_it_cannot_be_written(tmp_path):
    def check(*options):
        words = [*COMMAND, "check", "--smtp-ip", "127.0.0.1", "--smtp-insecure-auth", "yes"]
        words += ["--queue-file", str(tmp_path / "new" / "queue.db"), *options]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    done = check("--smtp-username", "me", "--smtp-password", "x")
    assert done.returncode == 0
    assert "warning: AUTH: known clients are forgotten at a restart, " in done.stderr
    assert "known-clients.db: the folder" in done.stderr
    assert check().stderr == ""
