"""A running daemon on a disk that fails: mail is deferred meanwhile, none is lost, nobody waits.

`KINDS` are the files that take accepted mail, each with the settings that choose it.
"""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import orjson
import pytest

from fastsmtp.sinks.store import Store
from tests.faults.kills import settle
from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.test_kills import ROUNDS, Record, judge
from tests.support.bystanders import Bystanders
from tests.support.daemon import Daemon
from tests.support.disk import Disk, Faults
from tests.support.inbox import EmbeddedInbox, Inbox
from tests.support.patience import until
from tests.support.watcher import SETTINGS, get
from tests.support.wire import Wire


class Kind(NamedTuple):
    """A file that takes accepted mail."""

    settings: Callable[[Path], dict[str, object]]  # the daemon's, for the file at a path
    inbox: Inbox  # which reads what is in it when the daemon has stopped


class SpillInbox:
    """What is in the spill of a daemon, whose broker was never there."""

    settings: ClassVar[dict[str, object]] = {}

    def messages(self, daemon: Daemon) -> list[dict[str, Any]]:
        store = Store(str(daemon.settings["rabbitmq_spill"]))
        try:
            rows = store.after(0, 1_000_000, 1 << 30)
            return [orjson.loads(row.prefix + bytes(row.tail)) for _, row in rows]
        finally:
            store.close()


KINDS = {
    "queue": Kind(lambda path: {"rabbitmq_address": "none", "queue_file": path}, EmbeddedInbox()),
    "spill": Kind(
        lambda path: {"rabbitmq_address": "amqp://127.0.0.1:1/", "rabbitmq_spill": path},
        SpillInbox(),
    ),
}

OFTEN = [*KINDS] if ROUNDS > 1 else ["queue"]
"""The kinds that go through all tests, not only through the first."""

FAULTS: dict[str, tuple[Callable[[Faults], None], int]] = {
    "fsync": (lambda faults: faults.fail_syncs(), 451),
    "write": (lambda faults: faults.fail_writes(), 451),
    "read-only": (lambda faults: faults.fail_writes(error=errno.EROFS), 451),
    "no space": (lambda faults: faults.fail_writes(error=errno.ENOSPC), 452),
}
"""Name → how it begins, and the reply that clients hear until it ends."""

PATIENCE = 10.0
"""Seconds until mail is accepted again, and until /ready says so."""

AT_ONCE = 0.8
"""Seconds in which a client that sends no mail is answered."""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def on_disk(kind: Kind, tmp_path: Path) -> Iterator[Callable[[Disk], Daemon]]:
    """Starts the daemon, whose file is on the disk that it is given."""
    started: list[Daemon] = []

    def start(disk: Disk) -> Daemon:
        folder = tmp_path / "daemon"
        folder.mkdir()
        daemon = Daemon(folder, **SETTINGS, **kind.settings(disk.folder / "queue.db"))
        daemon.env |= disk.environment
        daemon.start()
        started.append(daemon)
        return daemon

    yield start
    for daemon in started:
        daemon.kill()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    folder = tmp_path / "disk"
    folder.mkdir()
    return Disk(folder, tmp_path)


def wait_until_ready(daemon: Daemon, status: int) -> str:
    """Until /ready has this status; gives what it says."""
    until(lambda: get(daemon, "/ready")[0] == status, PATIENCE)
    return get(daemon, "/ready")[1]


def refused_with(daemon: Daemon) -> int:
    """The reply that ends an attempt to send a mail."""
    with Wire(daemon.port) as wire:
        wire.ehlo()
        for command in ("MAIL FROM:<>", "RCPT TO:<nobody@example.org>"):
            if (reply := wire.command(command)).code != 250:
                return reply.code
        return wire.data(b"").code


@pytest.mark.timeout(60 * (1 + ROUNDS))
def test_mail_is_deferred_while_the_disk_fails(
    kind: Kind,
    on_disk: Callable[[Disk], Daemon],
    disk: Disk,
    ledger: Ledger,
    record_property: Record,
) -> None:
    daemon = on_disk(disk)
    with (
        Load(daemon.port, ledger, sessions=6) as load,
        Bystanders(daemon.port, daemon.workers[0], senders=0) as bystanders,
    ):
        for name, (begin, code) in [*FAULTS.items()] * ROUNDS:
            load.wait_for(5, PATIENCE)
            wait_until_ready(daemon, 200)
            begin(disk.faults)
            assert "/queue.db" in wait_until_ready(daemon, 503)
            assert refused_with(daemon) == code, name
            disk.faults.heal()
            flowed = load.wait_for(1, PATIENCE)
            record_property("ledger", f"{name}: mail flowed {flowed:.1f} s after its end")
        wait_until_ready(daemon, 200)
    assert {*ledger.replies.values()} == {250, 451, 452}
    judge(settle(daemon, kind.inbox, ledger), record_property)
    assert bystanders.seen.longest_wait < AT_ONCE
    assert daemon.log.count("until this is mended") < 4 * len(FAULTS) * ROUNDS
    assert daemon.log.count("takes mail again") >= len(FAULTS) * ROUNDS


@pytest.mark.timeout(60 * (1 + ROUNDS))
@pytest.mark.parametrize("kind", OFTEN, indirect=True)
def test_one_fsync_that_fails_costs_one_batch(
    kind: Kind,
    on_disk: Callable[[Disk], Daemon],
    disk: Disk,
    ledger: Ledger,
    record_property: Record,
) -> None:
    daemon = on_disk(disk)
    with Load(daemon.port, ledger, sessions=6) as load:
        for number in range(1, 1 + 4 * ROUNDS):
            load.wait_for(5, PATIENCE)
            disk.faults.fail_syncs(1)
            until(lambda number=number: disk.faults.failed == number)
        load.wait_for(5, PATIENCE)
    assert {*ledger.replies.values()} == {250, 451}
    assert sum(code == 451 for code in ledger.replies.values()) <= disk.faults.failed * 6
    judge(settle(daemon, kind.inbox, ledger), record_property)


@pytest.mark.timeout(60 * (1 + ROUNDS))
@pytest.mark.parametrize("kind", OFTEN, indirect=True)
def test_a_slow_disk_keeps_nobody_else_waiting(
    kind: Kind,
    on_disk: Callable[[Disk], Daemon],
    disk: Disk,
    ledger: Ledger,
    record_property: Record,
) -> None:
    daemon = on_disk(disk)
    with (
        Load(daemon.port, ledger, sessions=6) as load,
        Bystanders(daemon.port, daemon.workers[0], senders=0) as bystanders,
    ):
        load.wait_for(5, PATIENCE)
        disk.faults.slow_down(1.5 * AT_ONCE)
        load.wait_for(3 * ROUNDS, PATIENCE * ROUNDS)
        assert get(daemon, "/ready")[0] == 200
        disk.faults.heal()
        load.wait_for(5, PATIENCE)
    assert {*ledger.replies.values()} == {250}
    judge(settle(daemon, kind.inbox, ledger), record_property)
    assert 0 < bystanders.seen.longest_wait < AT_ONCE


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Disk]:
    """A real disk of its own, of 40 MB."""
    if os.geteuid():
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield Disk(folder, tmp_path)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(disk: Disk, how: str) -> bool:
    """Whether the disk could be made read-only ("ro"), or writable ("rw")."""
    command = ["mount", "-o", f"remount,{how}", disk.folder]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.timeout(60 * (1 + ROUNDS))
@pytest.mark.parametrize("kind", OFTEN, indirect=True)
def test_a_real_disk_is_full(
    kind: Kind,
    on_disk: Callable[[Disk], Daemon],
    small_disk: Disk,
    ledger: Ledger,
    record_property: Record,
) -> None:
    daemon = on_disk(small_disk)
    other = small_disk.folder / "somebody's"
    with Load(daemon.port, ledger, sessions=6) as load:
        for _ in range(ROUNDS):
            load.wait_for(5, PATIENCE)
            wait_until_ready(daemon, 200)
            other.write_bytes(bytes(30 << 20))
            wait_until_ready(daemon, 503)
            assert refused_with(daemon) == 452
            other.unlink()
            flowed = load.wait_for(1, PATIENCE)
            record_property("ledger", f"mail flowed {flowed:.1f} s after there was room")
    judge(settle(daemon, kind.inbox, ledger), record_property)


# A spill's lock file is open all the time: no disk can be made read-only then.
@pytest.mark.timeout(60 * (1 + ROUNDS))
@pytest.mark.parametrize("kind", ["queue"], indirect=True)
def test_a_real_disk_becomes_read_only(
    kind: Kind,
    on_disk: Callable[[Disk], Daemon],
    small_disk: Disk,
    ledger: Ledger,
    record_property: Record,
) -> None:
    daemon = on_disk(small_disk)
    with Load(daemon.port, ledger, sessions=6) as load:
        for _ in range(ROUNDS):
            load.wait_for(5, PATIENCE)
            wait_until_ready(daemon, 200)
            small_disk.faults.fail_writes(error=errno.EROFS)  # until the file is closed
            until(lambda: remount(small_disk, "ro"))
            small_disk.faults.heal()
            wait_until_ready(daemon, 503)
            assert refused_with(daemon) == 451
            assert remount(small_disk, "rw")
            load.wait_for(5, PATIENCE)
            wait_until_ready(daemon, 200)
    judge(settle(daemon, kind.inbox, ledger), record_property)
