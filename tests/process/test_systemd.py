"""process/systemd: what the service manager is told; and the unit in deploy/."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from fastsmtp.process import cli, systemd
from fastsmtp.process.supervisor import AFTER_GRACE
from fastsmtp.settings import Settings
from tests.support.daemon import COMMAND, ROOT
from tests.support.ports import lasting_port
from tests.support.wire import Wire

UNIT = ROOT / "deploy" / "fastsmtp.service"


class Manager:
    """systemd's end of the socket."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(20)

    def hears(self):
        """The next datagram, by name."""
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().split("\n"))

    def forgets(self):
        """What came and was not heard."""
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.hears()

    def hears_something_but(self, name):
        while name in (heard := self.hears()):
            pass
        return heard


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    name = f"fastsmtp-test-{os.getpid()}-{time.monotonic_ns()}"
    path = str(tmp_path / "notify")
    made = Manager(path if request.param == "path" else f"\0{name}")
    monkeypatch.setenv("NOTIFY_SOCKET", path if request.param == "path" else f"@{name}")
    with contextlib.closing(made.socket):
        yield made


def test_a_life_is_told(manager, start_daemon):
    daemon = start_daemon(smtp_port=lasting_port())
    ready = f"listening on 127.0.0.1:{daemon.port}; queue: the queue file"
    heard = manager.hears()
    assert heard["READY"] == "1"
    assert heard["STATUS"].startswith(f"ready: {ready}")

    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert daemon.reload()[0] == 0
    heard = manager.hears()
    assert heard["RELOADING"] == "1"
    assert (
        before < int(heard["MONOTONIC_USEC"]) < time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    )
    heard = manager.hears_something_but("RELOADING")
    assert heard["READY"] == "1"
    assert heard["STATUS"].startswith(f"reloaded, generation 2: {ready}")

    daemon.stop()
    assert manager.hears_something_but("READY") == {"STOPPING": "1"}
    manager.socket.setblocking(False)
    with pytest.raises(BlockingIOError):  # nothing comes behind it
        manager.hears()


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_a_reload_that_is_refused_ends_too(manager, start_daemon):
    daemon = start_daemon()
    assert "STATUS" in manager.hears()
    assert daemon.reload(smtp_maxsize="huge")[0] == 2
    assert manager.hears()["RELOADING"] == "1"
    assert manager.hears() == {"READY": "1"}


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_the_watchdog_is_fed_while_all_workers_answer(manager, monkeypatch, start_daemon):
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    daemon = start_daemon(smtp_threads=2)
    assert manager.hears()["READY"] == "1"
    assert [manager.hears() for _ in range(3)] == [{"WATCHDOG": "1"}] * 3
    stuck = daemon.workers[1]
    os.kill(stuck, signal.SIGSTOP)
    time.sleep(0.2)  # what was answered before is told by now
    manager.forgets()
    manager.socket.settimeout(1.5)
    with pytest.raises(TimeoutError):
        manager.hears()
    manager.socket.settimeout(20)
    os.kill(stuck, signal.SIGCONT)
    assert [manager.hears() for _ in range(3)] == [{"WATCHDOG": "1"}] * 3
    os.kill(stuck, signal.SIGSTOP)
    os.kill(stuck, signal.SIGKILL)  # one that is dead is replaced, which is no reason
    assert [manager.hears() for _ in range(5)] == [{"WATCHDOG": "1"}] * 5


def test_a_manager_that_is_gone_harms_nothing(tmp_path, monkeypatch, start_daemon):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    with Wire(start_daemon().port) as client:
        assert client.ehlo().code == 250


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("30000000", None, 15.0),
        ("30000000", "ours", 15.0),
        ("30000000", "1", None),
        ("0", None, 0),
        ("many", None, None),
        (None, None, None),
    ],
)
def test_the_watchdog_wants_a_sign_in_half_its_time(monkeypatch, usec, pid, seconds):
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, str(os.getpid()) if value == "ours" else value)
    assert systemd.watchdog_interval() == seconds


# The unit


def directives(name):
    """The values of a directive."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path):
    """With a program that is there: /opt/fastsmtp need not be."""
    unit = tmp_path / "fastsmtp.service"
    unit.write_text(UNIT.read_text().replace("/opt/fastsmtp/bin/fastsmtp", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "fastsmtp" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize("name", ["ExecStart", "ExecReload"])
def test_the_units_commands_exist(name):
    (line,) = directives(name)
    program, command, *options = shlex.split(line)
    assert program == "/opt/fastsmtp/bin/fastsmtp"
    done = subprocess.run(
        [*COMMAND, command, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    for option in options:
        assert option.startswith("$") or option in done.stdout


def test_the_unit_waits_as_long_as_a_stop_may_take():
    (seconds,) = directives("TimeoutStopSec")
    assert int(seconds) > Settings(smtp_hostname="x").smtp_grace + AFTER_GRACE
    assert directives("KillMode") == ["mixed"]  # workers are told by their supervisor alone
    assert directives("Type") == ["notify"]


def test_a_wrong_configuration_is_not_tried_again():
    assert directives("RestartPreventExitStatus") == ["2"]  # docs/operating.md, exit codes
    assert cli.main(["--smtp-maxsize", "huge"]) == 2


def test_the_units_folders_are_those_of_the_settings(monkeypatch):
    variables = dict(each.split("=", 1) for each in directives("Environment"))
    monkeypatch.setenv("XDG_STATE_HOME", variables["XDG_STATE_HOME"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (state,) = directives("StateDirectory")
    assert Settings(smtp_hostname="x").queue_file == f"/var/lib/{state}/queue.db"
