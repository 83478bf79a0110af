"""process/privileges: whom the workers become, and what `check` says about their files."""

import grp
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fastsmtp.process import privileges
from fastsmtp.settings import Settings
from tests.support import certificates
from tests.support.daemon import COMMAND, Daemon
from tests.support.patience import until
from tests.support.ports import lasting_port
from tests.support.wire import Wire

ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

NOBODY = pwd.getpwnam("nobody")
DAEMON = grp.getgrnam("daemon")


@pytest.fixture
def folder():
    """A folder that everyone may enter, which pytest's are not."""
    made = Path(tempfile.mkdtemp(prefix="fastsmtp-privileges-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def serve(folder):
    """Starts a daemon whose queue is in a folder of nobody's."""
    daemons = []

    def start(**settings):
        theirs = folder / "theirs"
        theirs.mkdir()
        os.chown(theirs, NOBODY.pw_uid, NOBODY.pw_gid)
        settings |= {"queue_file": theirs / "queue.db", "smtp_port": lasting_port()}
        daemons.append(Daemon(folder, **settings))
        daemons[0].start()
        return daemons[0]

    yield start
    for daemon in daemons:
        daemon.kill()


def credentials(pid):
    """Uids, gids (real, effective, saved, of files) and groups of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return tuple([int(number) for number in found[key].split()] for key in ("Uid", "Gid", "Groups"))


def check(folder, **settings):
    """`fastsmtp check` with settings: exit status and what it says of errors."""
    daemon = Daemon(folder, **settings)
    daemon.write_config()
    done = subprocess.run(
        [*COMMAND, "check", "--config-file", str(daemon.config)],
        env=daemon.env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@ONLY_ROOT
def test_workers_become_the_user_with_exactly_its_groups(serve):
    daemon = serve(user="nobody", smtp_threads=2)
    uid, gid = NOBODY.pw_uid, NOBODY.pw_gid
    theirs = sorted(os.getgrouplist("nobody", gid))
    assert len(daemon.workers) == 2
    for pid in daemon.workers:
        assert credentials(pid) == ([uid] * 4, [gid] * 4, theirs)
    assert credentials(daemon.process.pid)[0] == [0] * 4
    with Wire(daemon.port) as client:
        client.ehlo()
        assert client.mail(b"Hi\r\n").code == 250
    assert Path(daemon.settings["queue_file"]).stat().st_uid == uid
    before = daemon.workers
    assert daemon.reload()[0] == 0  # and so do those of the next generation
    until(lambda: len(daemon.workers) == 2 and not set(before) & set(daemon.workers))
    assert credentials(daemon.workers[0])[0] == [uid] * 4
    daemon.stop()


@ONLY_ROOT
def test_a_group_of_its_own(serve):
    daemon = serve(user="nobody", group="daemon")
    (pid,) = daemon.workers
    uid, gid = NOBODY.pw_uid, DAEMON.gr_gid
    assert credentials(pid) == ([uid] * 4, [gid] * 4, sorted(os.getgrouplist("nobody", gid)))
    daemon.stop()


@ONLY_ROOT
def test_a_group_alone(serve):
    daemon = serve(group="daemon")
    (pid,) = daemon.workers
    gid = DAEMON.gr_gid
    us = pwd.getpwuid(0).pw_name
    assert credentials(pid) == ([0] * 4, [gid] * 4, sorted(os.getgrouplist(us, gid)))
    daemon.stop()


@ONLY_ROOT
def test_check_says_what_the_user_cannot_read_or_write(folder):
    private = folder / "private"
    private.mkdir(mode=0o700)
    ours = folder / "ours.log"
    ours.touch(0o400)
    os.chown(ours, NOBODY.pw_uid, NOBODY.pw_gid)
    secret = private / "ca.pem"
    secret.touch()
    status, said = check(
        folder,
        user="nobody",
        queue_file=private / "queue.db",
        received_log=ours,
        rabbitmq_ca=secret,
    )
    assert status == 2
    assert said.splitlines() == [
        f"fastsmtp: error: {folder}/config.txt:{line}: {key}: expected a file that can be {what} "
        f"by nobody, found {path}: {why}"
        for line, key, what, path, why in (
            (8, "rabbitmq-ca", "read", secret, "Permission denied"),
            (5, "queue-file", "written", private / "queue.db", "Permission denied"),
            (7, "received-log", "written", ours, "Permission denied"),
        )
    ]


@ONLY_ROOT
def test_check_is_content_with_what_the_user_can_do(folder):
    theirs = folder / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, NOBODY.pw_uid, NOBODY.pw_gid)
    settings = {"queue_file": theirs / "queue.db", "received_log": theirs / "new" / "log"}
    assert check(folder, user="nobody", **settings) == (0, "")
    assert list(theirs.iterdir()) == []


@ONLY_ROOT
def test_a_relative_path_is_meant_from_the_folder_of_the_start(folder):
    os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
    assert check(folder, user="nobody", queue_file="queue.db") == (0, "")


@ONLY_ROOT
def test_a_reload_finds_a_file_that_the_user_cannot_write(serve, folder):
    daemon = serve(user="nobody")
    log = folder / "received.log"
    status, said = daemon.reload(received_log=log)
    assert status == 2
    assert f"can be written by nobody, found {log}: {folder}: Permission denied" in said
    daemon.stop()


@pytest.mark.parametrize("key", ["user", "group"])
def test_names_that_do_not_exist(tmp_path, key):
    status, said = check(tmp_path, **{key: "no-such-name"})
    assert status == 2
    assert f"there is no {key} 'no-such-name' on this machine" in said


@ONLY_ROOT
@pytest.mark.parametrize("number", [NOBODY.pw_uid, 54321])
def test_whoever_is_not_root_stays_who_they_are(number):
    """Asked in a process that has dropped its rights: 54321 is a number without a name."""
    code = f"""
import os
from fastsmtp.process import checks, cli
from fastsmtp.settings import Settings
os.setgroups([]); os.setgid({number}); os.setuid({number})
for settings in ({{"user": "root"}}, {{"user": "nobody"}}, {{"group": "daemon"}}):
    found = checks._inaccessible(Settings(smtp_hostname="mx", **settings))
    print([problem for keys, problem in found if "user" in keys])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    only_root = ["only root can start workers as somebody else"]
    us = number == NOBODY.pw_uid
    group = only_root if us else [f"there is no user with the number {number} on this machine"]
    assert done.stdout.splitlines() == [
        str(each) for each in (only_root, [] if us else only_root, group)
    ]


def test_nothing_changes_where_nobody_is_named():
    assert privileges.identity(Settings()) is None
    before = credentials(os.getpid())
    privileges.become(Settings())
    assert credentials(os.getpid()) == before


def test_the_own_name_needs_no_rights(tmp_path):
    us = pwd.getpwuid(os.geteuid()).pw_name
    group = grp.getgrgid(os.getegid()).gr_name
    assert check(tmp_path, user=us, group=group) == (0, "")


@pytest.mark.parametrize("address", ["amqp://localhost/", "none"])
def test_a_worker_needs_no_further_module_once_it_is_somebody_else(tmp_path, address):
    """Who may not read Python's folders finds none: so do we, once the worker has changed."""
    users = tmp_path / "users"
    users.write_text("")
    pair = certificates.make(tmp_path)
    code = f"""
import asyncio, sys
from fastsmtp.availability import Availability
from fastsmtp.metrics import Metrics
from fastsmtp.net import tls
from fastsmtp.net.auth import backends
from fastsmtp.process import config, worker
from fastsmtp.sinks import table

settings = config.from_texts({{
    "smtp-hostname": "mx", "rabbitmq-address": "{address}", "smtp-auth": "file://{users}",
    "smtp-certificate": "{pair.certificate}", "smtp-key": "{pair.key}"
}})
worker._import_late(settings)

class Nothing:
    def find_spec(name, *_):
        raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Nothing)

async def make():
    table.make(settings, Availability(1), Metrics())
    assert len(tls.load(settings)) == 1
    assert [backend.make(settings) for backend in backends.configured(settings)]

asyncio.run(make())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
