"""queue_file: what is in the file, while others use it; nothing where there is none."""

from fastsmtp.payload import Outgoing
from fastsmtp.settings import Settings
from fastsmtp.sinks import table
from fastsmtp.sinks.file_moves import mark_recovered
from fastsmtp.sinks.store import Store


def settings(path, **more):
    return Settings(rabbitmq_address=(), queue_file=str(path), queue_maxsize=1 << 20, **more)


def snapshot(settings):
    return table.chosen(settings).snapshot(settings)


def rows(count, octets=10):
    return [Outgoing(f"ID{n}", None, "", b"{", octets * b"x") for n in range(count)]


def test_it_tells_how_much_is_in_the_file_that_a_worker_has_open(tmp_path):
    path = tmp_path / "queue.db"
    store = Store(str(path), create=True)
    try:
        assert snapshot(settings(path))["queue_messages"] == 0
        store.add(rows(100, 1000))
        found = snapshot(settings(path))
        assert (found["queue_messages"], found["queue_limit"]) == (100, 1 << 20)
        assert found["queue_octets"] > 100_000
        store.delete([f"ID{n}" for n in range(40)])  # as a consumer does: the oldest first
        assert snapshot(settings(path))["queue_messages"] == 60
        store.delete(["ID50"])
        assert snapshot(settings(path))["queue_messages"] == 60  # a gap counts
        store.purge()
        assert snapshot(settings(path))["queue_messages"] == 0
    finally:
        store.close()


def test_where_there_is_no_file_it_tells_nothing_and_makes_none(tmp_path):
    path = tmp_path / "folder" / "queue.db"
    assert snapshot(settings(path)) == {}
    assert not path.parent.exists()
    assert snapshot(Settings(rabbitmq_address=("amqp://localhost/",), queue_file=str(path))) == {}


def test_damaged_files_are_counted_until_they_are_deleted(tmp_path):
    path = tmp_path / "queue.db"
    store = Store(str(path), create=True)
    assert snapshot(settings(path))["queue_damaged"] == 0
    name = store.set_aside()
    store.close()
    assert snapshot(settings(path)) == {"queue_damaged": 1}
    Store(str(path), create=True).close()
    mark_recovered(name)
    assert snapshot(settings(path))["queue_damaged"] == 1
    for each in tmp_path.glob("*.recovered*"):
        each.unlink()
    assert snapshot(settings(path))["queue_damaged"] == 0


def test_a_file_that_is_no_queue_tells_nothing_and_stays(tmp_path):
    path = tmp_path / "queue.db"
    path.write_bytes(b"my diary" * 1000)
    path.chmod(0o600)
    assert snapshot(settings(path)) == {}
    assert path.read_bytes() == b"my diary" * 1000


def test_the_spill_is_looked_at_where_it_is_what_takes_mail(tmp_path):
    spill = tmp_path / "spill.db"
    store = Store(str(spill), create=True)
    store.add(rows(3))
    store.close()
    address = ("amqp://localhost/",)
    found = snapshot(Settings(rabbitmq_address=address, rabbitmq_spill=str(spill)))
    assert found["queue_messages"] == 3
