"""A spill belongs to one instance: the next one is refused, or waits for workers that are left."""

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.daemon import COMMAND, Daemon
from tests.support.patience import until
from tests.support.ports import lasting_port
from tests.support.wire import Wire

NO_BROKER = "amqp://guest:guest@127.0.0.1:1/"
MAIL = b"Subject: Hello\r\n\r\nHello\r\n"

Start = Callable[..., Daemon]


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    return {"rabbitmq_address": NO_BROKER, "rabbitmq_spill": tmp_path / "spill.db"}


def second(tmp_path: Path, settings: dict[str, object]) -> Daemon:
    folder = tmp_path / "second"
    folder.mkdir(exist_ok=True)
    return Daemon(folder, **settings)


def is_alive(pid: int) -> bool:
    """It runs; nobody may have asked yet how it ended."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_second_instance_is_refused_and_told_by_whom(
    start_daemon: Start, tmp_path: Path, settings: dict[str, object]
) -> None:
    daemon = start_daemon(**settings)
    assert daemon.process is not None
    other = second(tmp_path, settings)
    other.launch()
    assert other.ended(30) == 1
    assert f"belongs to another fastsmtp that runs, process {daemon.process.pid}" in other.log
    with Wire(daemon.port) as client:
        client.ehlo()
        assert client.mail(MAIL).code == 250


def test_its_mail_is_published_by_nobody_else(
    start_daemon: Start, settings: dict[str, object], tmp_path: Path
) -> None:
    daemon = start_daemon(**settings)
    assert daemon.process is not None
    command = [*COMMAND, "queue", "publish", "--queue-file", str(tmp_path / "spill.db")]
    done = subprocess.run(
        [*command, "--rabbitmq-address", NO_BROKER],
        cwd=tmp_path,
        env=daemon.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert f"is the spill of a fastsmtp that runs, or ends (process {daemon.process.pid})" in (
        done.stderr
    )


def test_what_a_killed_supervisor_leaves_is_waited_for(
    start_daemon: Start, settings: dict[str, object]
) -> None:
    daemon = start_daemon(**settings, smtp_grace=2)
    assert daemon.process is not None
    (worker,) = daemon.workers
    with Wire(daemon.port) as client:
        client.ehlo()
        client.envelope("a@example.com", ["b@example.com"])
        assert client.command("DATA").code == 354  # which keeps the worker for its grace
        os.kill(daemon.process.pid, signal.SIGKILL)
        daemon.process.wait()
        daemon.process = None
        daemon.start()
        assert not is_alive(worker)
    assert re.search(r"still in use by workers of process \d+, which is gone", daemon.log)


def test_a_reload_moves_to_another_file_and_lets_go_of_the_first(
    start_daemon: Start, tmp_path: Path, settings: dict[str, object]
) -> None:
    daemon = start_daemon(**settings, smtp_port=lasting_port())
    status, said = daemon.reload(rabbitmq_spill=tmp_path / "other.db")
    assert status == 0, said
    until(lambda: len(daemon.workers) == 1)
    other = second(tmp_path, settings)
    other.start()
    other.stop()
    third = second(tmp_path, settings | {"rabbitmq_spill": tmp_path / "other.db"})
    third.launch()
    assert third.ended(30) == 1
