"""process/supervisor: workers come, die and are replaced; a reload; an end in peace."""

import contextlib
import errno
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastsmtp.process import control
from tests.support import held
from tests.support.daemon import COMMAND, READY, Daemon
from tests.support.patience import until
from tests.support.ports import lasting_port
from tests.support.wire import Wire

STOPPING = b"421 4.3.2 Service is stopping, try again\r\n"

NETWORK = ["unshare", "--user", "--map-root-user", "--net"]
"""Names of supervisors are a network's: in one of its own, nobody else's is found."""


@pytest.fixture
def launch(tmp_path):
    """Starts daemons without waiting; ends them all."""
    started = []

    def start(command=COMMAND, **settings):
        folder = tmp_path / f"launched{len(started)}"
        folder.mkdir()
        started.append(Daemon(folder, command, **settings))
        started[-1].launch()
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def serve(start_daemon):
    """`start_daemon` on a port that is the same in all its configurations."""
    return lambda **settings: start_daemon(**{"smtp_port": lasting_port()} | settings)


def title(pid):
    """What a process calls itself; nothing where it has just ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")
    return ""


def mail_flows(port):
    with Wire(port) as client:
        client.ehlo()
        return client.mail(b"Hi\r\n").code == 250


def gone(pids):
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def begun(port):
    """A client with a transaction that lacks its content."""
    client = Wire(port)
    client.ehlo()
    client.envelope("a@example.com", ["b@example.org"])
    return client


def finish(client):
    """The content; it must be accepted, and be the last."""
    with client:
        assert client.bdat(b"Hi\r\n").code == 250
        assert client.reply().raw == STOPPING
        assert client.hung_up()


# Workers


def test_titles_say_what_each_process_is(start_daemon):
    daemon = start_daemon(smtp_threads=2)
    assert title(daemon.process.pid) == "fastsmtp: supervisor"
    assert [title(pid) for pid in daemon.workers] == [
        "fastsmtp: worker 1, generation 1",
        "fastsmtp: worker 2, generation 1",
    ]


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGRTMIN + 3, "signal 37")]
)
def test_a_worker_that_dies_is_replaced_and_why_is_logged(start_daemon, number, name):
    daemon = start_daemon()
    (first,) = daemon.workers
    os.kill(first, number)
    found = daemon.wait_for(re.compile(r"worker 1 is process (\d+) now"))
    assert f"worker 1 (process {first}) was killed by {name}; another starts in 0.1 s" in daemon.log
    assert daemon.workers == [int(found[1])]
    assert mail_flows(daemon.port)


def test_who_connects_while_no_worker_lives_is_served_by_the_next(start_daemon):
    daemon = start_daemon()
    os.kill(daemon.workers[0], signal.SIGKILL)
    assert mail_flows(daemon.port)


def test_a_worker_that_dies_at_once_is_tried_ever_less_often(start_daemon):
    daemon = start_daemon()
    path = Path(daemon.settings["queue_file"])
    path.unlink()
    path.mkdir()
    os.kill(daemon.workers[0], signal.SIGKILL)
    daemon.wait_for(re.compile(r"another starts in 1\.6 s"), 30)
    assert re.findall(r"another starts in (\S+) s", daemon.log) == [
        "0.1",
        "0.2",
        "0.4",
        "0.8",
        "1.6",
    ]
    assert len(daemon.log.splitlines()) == 1 + 5 + 4  # ready, ends, reasons
    assert daemon.log.count(f"worker 1: queue-file: {path}") == 4
    path.rmdir()
    assert mail_flows(daemon.port)  # the client waits for the next one


def test_workers_that_are_killed_come_back_soon_while_another_one_lives(start_daemon):
    daemon = start_daemon(smtp_threads=2)
    for _ in range(6):
        first, second = daemon.workers
        os.kill(first, signal.SIGKILL)
        begun = time.monotonic()
        until(lambda: len(daemon.workers) == 2 and first not in daemon.workers)  # noqa: B023
        until(lambda: len(re.findall("is process", daemon.log)) == _ + 1)  # noqa: B023
        assert time.monotonic() - begun < 3 * 2
        assert second in daemon.workers
    waits = [float(each) for each in re.findall(r"another starts in (\S+) s", daemon.log)]
    assert max(waits) < 1


@pytest.mark.parametrize("what", ["queue-file", "port"])
def test_a_first_generation_that_cannot_start_is_one_line(launch, tmp_path, what):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] if what == "port" else 0
        path = tmp_path / "queue" if what == "port" else tmp_path
        text = tmp_path / "text"
        text.write_bytes(b"no database " * 1000)
        text.chmod(0o600)
        path = tmp_path / "queue.db" if what == "port" else text
        daemon = launch(smtp_threads=3, smtp_port=port, queue_file=path)
        assert daemon.ended(30) == 1
    (line,) = daemon.log.splitlines()
    assert (f"127.0.0.1:{port}" if what == "port" else f"queue-file: {path}") in line


def test_a_supervisor_that_is_killed_leaves_workers_that_end_by_themselves(serve):
    daemon = serve(smtp_threads=2)
    workers = daemon.workers
    client = begun(daemon.port)
    os.kill(daemon.process.pid, signal.SIGKILL)
    assert daemon.ended(10) == -signal.SIGKILL
    until(lambda: "the supervisor is gone" in daemon.log)
    until(lambda: refused(daemon.port))
    daemon.start()  # the port is free again before they have ended
    finish(client)
    until(lambda: gone(workers))
    assert mail_flows(daemon.port)


def test_a_start_waits_for_the_workers_of_a_supervisor_that_was_killed(serve):
    daemon = serve(smtp_threads=2)
    for _ in range(3):
        workers = daemon.workers
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)  # they do not notice for a moment
        os.kill(daemon.process.pid, signal.SIGKILL)
        assert daemon.ended(10) == -signal.SIGKILL
        offset = daemon.launch()
        time.sleep(0.5)  # the start finds the port taken
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
        daemon.wait_for(READY, 30, offset)
        assert "Address already in use" not in daemon.log
        assert mail_flows(daemon.port)
        until(lambda: gone(workers))  # noqa: B023


def refused(port):
    try:
        with socket.create_connection(("127.0.0.1", port)):
            return False
    except ConnectionRefusedError:
        return True


def test_connections_are_counted_over_all_workers_and_a_dead_ones_places_come_back(start_daemon):
    daemon = start_daemon(smtp_threads=2, smtp_connections=6)
    full = b"421 4.3.2 Too many connections, try again later\r\n"
    with contextlib.ExitStack() as clients:
        for _ in range(6):
            clients.enter_context(Wire(daemon.port))
        with Wire(daemon.port) as late:
            assert late.greeting.raw == full
        for pid in daemon.workers:
            os.kill(pid, signal.SIGKILL)
        daemon.wait_for(re.compile("worker . is process .* now(.|\n)*worker . is process .* now"))
        for _ in range(6):
            clients.enter_context(Wire(daemon.port)).ehlo()
        with Wire(daemon.port) as late:
            assert late.greeting.raw == full


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_every_process_ends_in_peace(start_daemon, number):
    daemon = start_daemon(smtp_threads=2)
    client = begun(daemon.port)
    os.killpg(daemon.process.pid, number)
    daemon.wait_for(re.compile("stopping: mail in flight has 30 s"))
    finish(client)
    assert daemon.ended(15) == 0
    assert daemon.log.splitlines()[-1].endswith("info stopped: 1 messages accepted")
    assert " error " not in daemon.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("later", [0.0, 0.2])
def test_a_signal_to_every_process_while_they_start_ends_in_peace(launch, number, later):
    daemon = launch()
    until(lambda: daemon.workers)
    time.sleep(later)  # at another moment of the start
    os.killpg(daemon.process.pid, number)
    assert daemon.ended(15) == 0
    assert "Traceback" not in daemon.log
    assert " error " not in daemon.log


# Reload


def test_a_reload_changes_settings_and_lets_transactions_end(serve):
    daemon = serve(smtp_maxsize="1MB")
    before = daemon.workers
    client = begun(daemon.port)
    with Wire(daemon.port) as idle:
        status, said = daemon.reload(smtp_maxsize="2MB")
        assert status == 0
        assert said == (
            f"fastsmtp: reloaded, generation 2: listening on 127.0.0.1:{daemon.port}; "
            f"queue: the queue file {daemon.settings['queue_file']}; "
            "TLS: off; AUTH: off; workers: 1\n"
        )
        assert idle.reply().raw == STOPPING
        assert idle.hung_up()
    with Wire(daemon.port) as new:
        assert "SIZE 2097152" in new.ehlo().lines
    finish(client)
    until(lambda: gone(before))
    assert [title(pid) for pid in daemon.workers] == ["fastsmtp: worker 1, generation 2"]
    daemon.stop()
    assert daemon.log.splitlines()[-1].endswith("stopped: 1 messages accepted")


def test_sighup_is_a_reload(serve):
    daemon = serve()
    daemon.settings["smtp_maxsize"] = "3MB"
    daemon.write_config()
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(re.compile("reloaded, generation 2"))
    with Wire(daemon.port) as client:
        assert "SIZE 3145728" in client.ehlo().lines


def test_a_bad_configuration_is_refused_with_all_reasons(serve):
    daemon = serve(smtp_maxsize="1MB")
    workers = daemon.workers
    with Wire(daemon.port) as client:
        status, said = daemon.reload(smtp_maxsize="huge", no_such_key=1)
        assert status == 2
        reasons = said.splitlines()
        assert len(reasons) == 3
        assert "smtp-maxsize: expected" in said
        assert "no-such-key: unknown key" in said
        assert reasons[-1] == "fastsmtp: nothing has changed"
        logged = daemon.log.splitlines()[1:]
        assert [re.sub(".*nothing has changed: ", "", line) for line in logged] == [
            line.removeprefix("fastsmtp: error: ") for line in reasons[:-1]
        ]
        assert client.command("NOOP").code == 250
        assert "SIZE 1048576" in client.ehlo().lines
    assert daemon.workers == workers


def test_an_empty_configuration_file_is_refused_unless_forced(serve):
    """As it is while an editor writes it."""
    daemon = serve()
    text = daemon.config.read_text()
    daemon.config.write_text("\n")
    daemon.write_config = lambda: None
    status, said = daemon.reload()
    assert status == 2
    assert f"{daemon.config}: expected settings, found an empty file" in said
    assert "fastsmtp reload --force" in said
    daemon.config.write_text("# smtp-port: 25\n" + text)
    assert daemon.reload()[0] == 0
    assert mail_flows(daemon.port)


def test_a_broker_that_lets_only_the_old_workers_in_is_refused_unless_forced(serve, broker, queue):
    daemon = serve(rabbitmq_address=broker.url, rabbitmq_inbox=queue, smtp_threads=2)
    workers = daemon.workers
    wrong = broker.url.replace("guest:guest", "guest:hunter2")
    status, said = daemon.reload(rabbitmq_address=wrong)
    assert status == 1
    assert "RabbitMQ refused the connection: tried amqp://guest@127.0.0.1" in said
    assert "fastsmtp reload --force" in said
    assert "hunter2" not in said
    assert daemon.workers == workers
    assert mail_flows(daemon.port)
    status, said = daemon.reload("--force", "--pid", str(daemon.process.pid))
    assert status == 0, said
    # Now nobody is connected: a reload changes nothing for the worse.
    assert daemon.reload(smtp_maxsize="2MB")[0] == 0
    assert daemon.reload(rabbitmq_address=broker.url)[0] == 0
    assert mail_flows(daemon.port)


def test_a_generation_that_cannot_start_is_refused(serve, tmp_path):
    daemon = serve(smtp_threads=2)
    port, workers = daemon.port, daemon.workers
    text = tmp_path / "text"
    text.write_bytes(b"no database " * 1000)
    text.chmod(0o600)
    new = lasting_port()
    with begun(port) as client:
        status, said = daemon.reload(queue_file=text, smtp_port=f"{port},{new}")
        assert status == 1
        assert f"fastsmtp: error: queue-file: {text}" in said
        assert daemon.workers == workers
        assert refused(new)
        assert client.bdat(b"Hi\r\n").code == 250
        assert client.command("NOOP").code == 250


def test_a_port_that_is_taken_is_refused(serve):
    daemon = serve()
    with socket.create_server(("127.0.0.1", 0)) as taken, Wire(daemon.port) as client:
        there = taken.getsockname()[1]
        status, said = daemon.reload(smtp_port=f"{daemon.port},{there}")
        assert status == 1
        assert f"cannot listen on 127.0.0.1:{there}: Address already in use" in said
        assert client.command("NOOP").code == 250


def test_all_addresses_instead_of_one_are_refused_in_words(serve):
    daemon = serve()
    status, said = daemon.reload(smtp_ip="")
    assert status == 1
    assert "smtp-ip: port" in said
    assert "stop fastsmtp and start it" in said
    assert mail_flows(daemon.port)


def test_an_address_given_twice_is_one(serve):
    daemon = serve(smtp_ip="127.0.0.1;127.0.0.1")
    assert mail_flows(daemon.port)


def test_ports_come_and_go_and_nobody_there_is_reset(serve):
    daemon = serve()
    old, new = daemon.port, lasting_port()
    assert daemon.reload(smtp_port=f"{old},{new}")[0] == 0
    assert mail_flows(old)
    assert mail_flows(new)
    client = begun(old)
    assert daemon.reload(smtp_port=new)[0] == 0
    assert mail_flows(new)
    with socket.create_connection(("127.0.0.1", old)) as late:  # nobody accepts there any more
        finish(client)
        late.settimeout(20)
        assert late.recv(100) == STOPPING
        assert late.recv(1) == b""
    until(lambda: refused(old))
    assert mail_flows(new)


def test_threads_grow_and_shrink(serve):
    daemon = serve()
    for number, threads in ((2, 3), (3, 1)):
        assert daemon.reload(smtp_threads=threads)[0] == 0
        titles = [f"fastsmtp: worker {n}, generation {number}" for n in range(1, threads + 1)]
        until(lambda: [title(pid) for pid in daemon.workers] == titles)  # noqa: B023
    assert mail_flows(daemon.port)


def test_a_reload_changes_what_is_logged(serve):
    daemon = serve()
    assert daemon.reload(log_level="error")[0] == 0
    quiet = daemon.log
    assert daemon.reload(log_level="info", log_format="json")[0] == 0
    assert daemon.log.startswith(quiet + '{"time":')
    daemon.stop()
    assert '"message":"stopped: 0 messages accepted"}' in daemon.log


def test_reloads_at_once_happen_one_after_the_other(serve):
    daemon = serve()
    ask = [*COMMAND, "reload", "--pid", str(daemon.process.pid)]
    both = [
        subprocess.Popen(ask, env=daemon.env, cwd=daemon.folder, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = sorted(each.communicate(timeout=60)[0].split(":")[1] for each in both)
    assert said == [" reloaded, generation 2", " reloaded, generation 3"]
    assert mail_flows(daemon.port)


def test_a_stop_does_not_wait_for_a_reload(serve):
    daemon = serve(smtp_threads=8)
    daemon.process.send_signal(signal.SIGHUP)
    until(
        lambda: any(
            "generation 2" in title(pid) or len(daemon.workers) > 8 for pid in daemon.workers
        )
    )
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.ended(15) == 0
    assert "Traceback" not in daemon.log
    assert "the supervisor is gone" not in daemon.log


def test_an_old_generation_has_its_own_grace(tmp_path, launch):
    port = lasting_port()
    daemon = launch((*held.COMMAND, "hold"), smtp_port=port, smtp_grace=60)
    daemon.wait_for(READY)
    (old,) = daemon.workers
    with begun(port) as client:
        client.send(b"BDAT 4 LAST\r\nHi\r\n")
        assert daemon.reload(smtp_grace=0)[0] == 0
        time.sleep(1)  # the new generation's grace would be over
        os.kill(old, signal.SIGUSR1)
        assert client.reply().code == 250


def test_reload_finds_the_only_one(tmp_path):
    tried = subprocess.run([*NETWORK, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no user namespaces here: {tried.stderr.strip()}")
    daemon = Daemon(
        tmp_path, [*NETWORK, "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *COMMAND]
    )
    daemon.start()
    try:
        inside = ["nsenter", "-t", str(daemon.process.pid), "-U", "-n", "--preserve-credentials"]
        ask = [*inside, *COMMAND, "reload"]
        done = subprocess.run(ask, env=daemon.env, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "reloaded, generation 2" in done.stdout
        alone = [*NETWORK, *COMMAND, "reload"]
        done = subprocess.run(alone, env=daemon.env, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr == "fastsmtp: none is running on this machine\n"
        daemon.stop()
    finally:
        daemon.kill()


def test_reload_asks_which_one(serve):
    first, second = serve(), serve()
    status, said = first.reload("--config-file", "x")
    assert status != 0
    done = subprocess.run(
        [*COMMAND, "reload"], env=first.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "several run here, choose one with --pid" in done.stderr
    assert {str(first.process.pid), str(second.process.pid)} <= set(re.findall(r"\d+", done.stderr))
    status, said = first.reload("--pid", str(os.getpid()))
    assert status == 1
    assert f"process {os.getpid()} cannot be asked" in said
    for daemon in (first, second):
        assert "reloaded" not in daemon.log


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_may_not_reload(serve):
    daemon = serve()
    (name,) = (path for pid, path in control._named() if pid == daemon.process.pid)
    assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
    talk = (
        "import os, socket; os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
        f"s.connect('{name}'); s.sendall(b'reload\\n'); print(s.makefile().read())"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", talk],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PermissionError" in done.stderr
    assert "reloaded" not in daemon.log


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_connections_of_another_user_do_not_keep_root_from_reloading(serve):
    daemon = serve()
    (name,) = (path for pid, path in control._named() if pid == daemon.process.pid)
    flood = (
        "import os, socket; os.setuid(65534)\n"
        "held = []\n"
        "for _ in range(500):\n"
        "    s = socket.socket(socket.AF_UNIX); s.setblocking(False)\n"
        f"    held.append((s, s.connect_ex({name!r})))\n"
        "print({code for _, code in held}, flush=True)\n"
        "input()"
    )
    flooder = subprocess.Popen(
        [sys.executable, "-I", "-c", flood],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert flooder.stdout.readline() == f"{{{errno.EACCES}}}\n"
        begun = time.monotonic()
        assert daemon.reload()[0] == 0
        assert time.monotonic() - begun < 30
    finally:
        flooder.communicate("\n")


def test_sockets_of_supervisors_that_were_killed_are_removed(serve, tmp_path):
    old, environment = serve(), {"RUNTIME_DIRECTORY": str(tmp_path)}
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / f"{control.PREFIX}999999999"))
    old.stop()
    old.env |= environment
    old.start()
    ours = tmp_path / f"{control.PREFIX}{old.process.pid}"
    assert list(tmp_path.glob(f"{control.PREFIX}*")) == [ours]
    assert old.reload()[0] == 0
    old.stop()
    assert not ours.exists()


def test_a_name_that_another_program_has_taken_is_no_supervisor(serve, tmp_path):
    daemon = serve()
    with socket.socket(socket.AF_UNIX) as thief:
        thief.bind(str(tmp_path / f"{control.PREFIX}1"))
        thief.listen()
        status, said = daemon.reload("--pid", "1")
    assert status == 1
    assert "another process has taken its name" in said
