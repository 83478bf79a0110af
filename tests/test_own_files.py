"""own_files: what somebody else could read, write or swap takes no mail and no addresses."""

import contextlib
import os
import re
import socket
import subprocess

import pytest

from fastsmtp.own_files import COMPANIONS, OURS, READ_BY_GROUP, open_log, refusal
from fastsmtp.sinks.store import Store
from fastsmtp.sinks.store_errors import StoreError
from tests.support.daemon import COMMAND, Daemon
from tests.support.wire import Wire

ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def symlink(path):
    path.with_name("target").touch(0o600)
    path.symlink_to(path.with_name("target"))


def fifo(path):
    os.mkfifo(path, 0o600)


def folder(path):
    path.mkdir()


def listening(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def with_mode(mode):
    def make(path):
        path.touch()
        path.chmod(mode)

    return make


def of_another(path):
    path.touch(0o600)
    os.chown(path, 65534, 65534)


NO_FILES = [
    (symlink, "is a symbolic link: name the file itself"),
    (fifo, "is a FIFO, no regular file"),
    (folder, "is a directory"),
    (listening, "is a socket, no regular file"),
]
OF_ANOTHER = pytest.param(of_another, "belongs to nobody, not to root", marks=ONLY_ROOT)

OPEN_TO_ALL = [
    (with_mode(mode), f"has mode {mode:04o}, which lets others in: expected ")
    for mode in (0o604, 0o644, 0o660, 0o620, 0o602, 0o666)
]


def check(daemon):
    """`fastsmtp check`: exit status and errors."""
    daemon.write_config()
    done = subprocess.run(
        [*COMMAND, "check", "--config-file", str(daemon.config)],
        env=daemon.env,
        cwd=daemon.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(("make", "why"), NO_FILES + OPEN_TO_ALL)
@pytest.mark.parametrize("key", ["queue_file", "received_log"])
def test_check_and_start_refuse_it_and_say_why(tmp_path, key, make, why):
    path = tmp_path / "its"
    make(path)
    daemon = Daemon(tmp_path, **{key: path})
    status, said = check(daemon)
    assert status == 2
    expected = rf"{key.replace('_', '-')}: expected a file that can be written, found {path}: it "
    assert re.search(f"{expected}{re.escape(why)}", said), said
    daemon.launch()
    try:
        assert daemon.ended(30) == 2
    finally:
        daemon.kill()
    assert why in daemon.log


@ONLY_ROOT
@pytest.mark.parametrize("key", ["queue_file", "received_log"])
def test_root_may_check_for_another_user_and_the_start_refuses(tmp_path, key):
    path = tmp_path / "its"
    of_another(path)
    daemon = Daemon(tmp_path, **{key: path})
    status, said = check(daemon)
    assert status == 0
    assert f"warning: {key.replace('_', '-')}: {path} belongs to nobody, not to root: " in said
    daemon.launch()
    try:
        assert daemon.ended(30) == 1
    finally:
        daemon.kill()
    assert f"error {key.replace('_', '-')}: {path} belongs to nobody, not to root" in daemon.log


@pytest.mark.parametrize("companion", COMPANIONS)
@pytest.mark.parametrize(("make", "why"), [NO_FILES[0], OPEN_TO_ALL[1]])
def test_what_sqlite_would_find_beside_the_queue_is_looked_at_too(tmp_path, companion, make, why):
    make(tmp_path / f"queue.db{companion}")
    status, said = check(Daemon(tmp_path))
    assert status == 2
    assert f"found {tmp_path}/queue.db{companion}: it {why}" in said
    with pytest.raises(StoreError, match=rf"queue\.db{companion} {re.escape(why)}"):
        Store(str(tmp_path / "queue.db"), create=True)


def test_a_file_that_changes_after_the_check_is_refused_when_it_is_opened(tmp_path):
    path = tmp_path / "queue.db"
    Store(str(path), create=True).close()
    for make, why in (NO_FILES[0], OPEN_TO_ALL[1]):
        path.unlink()
        make(path)
        for create in (True, False):
            with pytest.raises(StoreError, match=f"{path} {re.escape(why)}"):
                Store(str(path), create=create)


@ONLY_ROOT
def test_root_looks_into_a_queue_of_another_user_and_puts_no_mail_there(tmp_path):
    path = tmp_path / "queue.db"
    Store(str(path), create=True).close()
    os.chown(path, 65534, 65534)
    with contextlib.closing(Store(str(path))) as store:
        assert store.count() == 0
    with pytest.raises(StoreError, match="belongs to nobody, not to root"):
        Store(str(path), create=True)


def test_a_group_may_read_the_received_log_and_not_the_queue(start_daemon, tmp_path):
    path = tmp_path / "received.log"
    path.touch()
    path.chmod(0o640)
    daemon = start_daemon(received_log=path)
    with Wire(daemon.port) as client:
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250
    daemon.stop()
    assert path.read_text().count("\n") == 1
    assert refusal(str(path), READ_BY_GROUP) == ""
    assert refusal(str(path), OURS) == (
        "has mode 0640, which lets others in: expected 0600 or less"
    )


def test_nothing_there_is_no_reason(tmp_path):
    assert refusal(str(tmp_path / "nothing"), OURS) == ""


@pytest.mark.parametrize(("make", "why"), [*NO_FILES, *OPEN_TO_ALL, OF_ANOTHER])
def test_a_log_is_looked_at_when_it_is_opened_and_nothing_waits_for_a_fifo(tmp_path, make, why):
    path = tmp_path / "its"
    make(path)
    with pytest.raises(OSError, match=f"^{path} {re.escape(why)}"):
        open_log(str(path))


def test_the_companions_are_sqlites_own(tmp_path):
    path = tmp_path / "queue.db"
    with contextlib.closing(Store(str(path), create=True)):
        made = {each.name.removeprefix("queue.db") for each in tmp_path.iterdir()}
    assert made - {""} <= {*COMPANIONS}
