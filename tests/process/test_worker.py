"""process/worker: from its ready line to its end, by signals and sockets."""

import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from tests.support import held
from tests.support.daemon import Daemon
from tests.support.patience import until
from tests.support.wire import Wire, all_read

STOPPING = b"421 4.3.2 Service is stopping, try again\r\n"
SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def start_held(tmp_path):
    """Starts daemons whose sink answers nothing until SIGUSR1; ends them all."""
    started = []

    def start(outcome="hold", **settings):
        folder = tmp_path / f"held{len(started)}"
        folder.mkdir()
        started.append(Daemon(folder, (*held.COMMAND, outcome), **settings))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.kill()


def ended(daemon, timeout):
    """The exit status, within `timeout` seconds."""
    status = daemon.process.wait(timeout)
    daemon.process = None
    return status


def submit(client):
    client.ehlo()
    client.envelope("a@example.com", ["b@example.org"])
    client.send(b"BDAT 4 LAST\r\nHi\r\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_lets_mail_in_flight_be_finished(start_held, number):
    daemon = start_held(smtp_grace=20)
    with Wire(daemon.port) as busy, Wire(daemon.port) as sender, Wire(daemon.port) as idle:
        submit(busy)
        sender.ehlo()
        sender.envelope("a@example.com", ["b@example.org"])
        daemon.process.send_signal(number)
        assert idle.reply().raw == STOPPING
        assert idle.hung_up()
        with Wire(daemon.port) as late:
            assert late.greeting.raw == STOPPING
            assert late.hung_up()
        assert sender.command("DATA").code == 354
        sender.send(b"Hi\r\n.\r\n")
        os.kill(daemon.workers[0], signal.SIGUSR1)
        for client in (busy, sender):
            assert len(client.reply().ids) == 1
            assert client.reply().raw == STOPPING
            client.close()
        idle.close()
        assert ended(daemon, 3) == 0
    assert daemon.log.splitlines()[-1].endswith("stopped: 2 messages accepted")


def test_the_grace_over_the_rest_is_told_and_the_worker_ends(start_held):
    daemon = start_held(smtp_grace=0.5)
    with Wire(daemon.port) as busy, Wire(daemon.port) as sender:
        submit(busy)
        sender.ehlo()
        sender.envelope("a@example.com", ["b@example.org"])
        started = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert busy.reply().raw == sender.reply().raw == STOPPING
        assert 0.5 <= time.monotonic() - started < 3 * 0.5
    assert ended(daemon, 5) == 0
    assert "Traceback" not in daemon.log


def test_a_sink_that_hangs_does_not_keep_the_worker(start_held):
    daemon = start_held("hang", smtp_grace=0)
    with Wire(daemon.port) as busy:
        submit(busy)
        daemon.process.send_signal(signal.SIGTERM)
        assert busy.reply().raw == STOPPING
    assert ended(daemon, 3 * 5) == 0
    assert "warning a held sink did not close within 5 s" in daemon.log


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_at_once(start_held, number):
    daemon = start_held(smtp_grace=60)
    with Wire(daemon.port) as busy:
        submit(busy)
        daemon.process.send_signal(number)
        until(lambda: "stopping: mail in flight has 60 s" in daemon.log)
        daemon.process.send_signal(number)
        assert ended(daemon, 2) == 1


def test_what_the_embedded_queue_took_before_the_end_is_there(start_daemon):
    daemon = start_daemon(smtp_grace=5)
    with Wire(daemon.port) as client:
        client.ehlo()
        (stored,) = client.mail(b"Hi\r\n").ids
        daemon.process.send_signal(signal.SIGTERM)
        assert client.reply().raw == STOPPING
    assert ended(daemon, 10) == 0
    assert stored in daemon.queue("list")


def test_a_locked_queue_file_cannot_keep_the_worker(start_daemon):
    """Another program holds the write lock: no 250, and an end in time all the same."""
    daemon = start_daemon(smtp_grace=0.2)
    lock = sqlite3.connect(daemon.settings["queue_file"], isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with Wire(daemon.port) as client:
        submit(client)
        all_read(daemon.port)
        daemon.process.send_signal(signal.SIGTERM)
        assert client.reply().raw == STOPPING
    assert ended(daemon, 3 * 6) == 0
    lock.close()
    assert "b@example.org" not in daemon.queue("list")


@pytest.mark.parametrize(("what", "expected"), [("folder", 2), ("text", 1), ("below a file", 2)])
def test_a_queue_file_that_cannot_be_used(tmp_path, what, expected):
    """What `check` can see is a mistake of the configuration (2); the rest shows at the start."""
    path = tmp_path / "queue"
    if what == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"no database " * 1000)
        path.chmod(0o600)
    if what == "below a file":
        path /= "queue.db"
    daemon = Daemon(tmp_path, queue_file=path)
    daemon.launch()
    try:
        status = ended(daemon, 20)
    finally:
        daemon.kill()
    assert status == expected
    (line,) = daemon.log.splitlines()
    assert "queue-file" in line
    assert str(path) in line


def test_the_ready_line_says_what_was_started(start_daemon):
    daemon = start_daemon()
    (line,) = daemon.log.splitlines()
    queue = daemon.settings["queue_file"]
    assert line.endswith(
        f"info ready: listening on 127.0.0.1:{daemon.port}; "
        f"queue: the queue file {queue}; TLS: off; AUTH: off; workers: 1"
    )


def test_thousands_of_clients_leave_the_process_as_it_was(start_daemon):
    daemon = start_daemon()
    (worker,) = daemon.workers

    def clients(count):
        for _ in range(count):
            with Wire(daemon.port) as client:
                client.send(b"EHLO x\r\n")

    def resident():
        pages = Path(f"/proc/{worker}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGESIZE")

    def descriptors():
        return len(os.listdir(f"/proc/{worker}/fd"))

    before = descriptors()
    clients(500)  # what is cached once, is
    memory = resident()
    clients(2000)
    until(lambda: descriptors() == before)
    assert resident() - memory < 2 << 20


def test_a_worker_that_is_told_to_stop_takes_mail_to_its_end(start_held):
    """SIGTERM to the worker alone: its transaction is finished, and another worker takes over."""
    daemon = start_held(smtp_grace=20)
    (worker,) = daemon.workers
    with Wire(daemon.port) as busy:
        submit(busy)
        os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGUSR1)
        assert len(busy.reply().ids) == 1
        assert busy.reply().raw == STOPPING
    until(lambda: daemon.workers not in ([], [worker]))
    with Wire(daemon.port) as client:
        assert client.greeting.code == 220
