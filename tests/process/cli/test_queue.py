"""`fastsmtp queue` as an operator meets it: a process, its output, its exit status."""

import base64
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from fastsmtp.ids import Ids
from fastsmtp.payload import Outgoing
from fastsmtp.sinks.store import Store
from tests.support.daemon import ROOT

COMMAND = [sys.executable, "-m", "fastsmtp", "queue"]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("FASTSMTP_")} | {
    "PYTHONPATH": str(ROOT)
}

Run = Callable[..., subprocess.CompletedProcess[bytes]]
Add = Callable[..., dict[str, Any]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def run(path: Path) -> Run:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
        own = {"FASTSMTP_QUEUE_FILE": str(path)}
        return subprocess.run(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            env=ENVIRONMENT | own | environment,
        )

    return run


@pytest.fixture
def add(path: Path) -> Add:
    """Puts a message into the queue as the daemon does; gives the JSON."""

    def add(id: str, content: bytes = b"Subject: hi\r\n\r\nbye\r\n", **more: object) -> Any:
        body: dict[str, Any] = {
            "message-id": id,
            "recipient": f"{id.lower()}@example.org",
            "received": "2026-11-23 00:12:13",
            "envelope": "sender@example.com",
            **more,
        }
        try:
            body["mime"] = content.decode()
        except UnicodeDecodeError:
            body |= {"mime-encoding": "base64", "mime": base64.b64encode(content).decode()}
        whole = orjson.dumps(body)
        store = Store(str(path), create=True)
        store.add([Outgoing(id, None, body.get("mime-encoding", ""), whole[:20], whole[20:])])
        store.close()
        return body

    return add


def on_terminal(answer: bytes, *arguments: str) -> tuple[int, bytes]:
    """Run on a pseudo-terminal and type `answer`; exit status and what was to be seen."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=ENVIRONMENT
    )
    os.close(theirs)
    os.write(ours, answer)
    seen = b""
    while True:
        try:
            data = os.read(ours, 1000)
        except OSError:  # Linux says so when the other end is closed
            break
        if not data:
            break
        seen += data
    os.close(ours)
    return process.wait(60), seen


def test_list_shows_a_line_for_each_message_oldest_first(run: Run, add: Add) -> None:
    sizes = [len(orjson.dumps(add(id))) for id in ("B2", "A1", "C3")]
    done = run("list")
    assert (done.returncode, done.stderr) == (0, b"")
    head, *lines, total = done.stdout.decode().splitlines()
    assert head.split() == ["NO", "ID", "RECEIVED", "(UTC)", "SIZE", "ENVELOPE", "RECIPIENT"]
    assert [line.split() for line in lines] == [
        [
            *(str(number), id, "2026-11-23", "00:12:13", str(size)),
            *("<sender@example.com>", f"<{id.lower()}@example.org>"),
        ]
        for number, (id, size) in enumerate(zip(("B2", "A1", "C3"), sizes, strict=True), 1)
    ]
    assert total == "3 messages"


def test_list_can_be_limited(run: Run, add: Add) -> None:
    for n in range(5):
        add(f"A{n}")
    lines = run("list", "--limit", "2").stdout.decode().splitlines()
    assert [line.split()[1] for line in lines[1:-1]] == ["A0", "A1"]
    assert lines[-1] == "5 messages, 2 shown"
    assert run("list", "--limit", "0").returncode == 2


def test_list_takes_long_properties_and_large_content(run: Run, add: Add) -> None:
    add("A", note=["x" * 30_000, ',"mime":"'])
    add("B", b"y" * (3 << 20), envelope='"quo\\"ted"@example.com')
    lines = run("list").stdout.decode().splitlines()
    assert "<a@example.org>" in lines[1]
    assert '<"quo\\"ted"@example.com>' in lines[2]


def test_list_lets_no_control_characters_through(run: Run, add: Add) -> None:
    add("A", envelope="\x1b[2J\nroot@example.com")
    assert b"<?[2J?root@example.com>" in run("list").stdout


def test_list_ends_quietly_when_its_reader_has_seen_enough(path: Path, add: Add) -> None:
    store = Store(str(path), create=True)
    add("A")
    store.add(
        [Outgoing(f"B{n}", None, "", b'{"envelope":"x"', b',"mime":""}') for n in range(5000)]
    )
    store.close()
    line = f"{' '.join(COMMAND)} list --queue-file {path} | head -n 2"
    done = subprocess.run(line, shell=True, capture_output=True, env=ENVIRONMENT, timeout=60)
    assert done.stderr == b""
    assert done.stdout.count(b"\n") == 2


def test_show_prints_the_json(run: Run, add: Add) -> None:
    body = add("AB12", tags=["a", "b"])
    done = run("show", "AB12")
    assert orjson.loads(done.stdout) == body
    assert b'\n  "envelope": "sender@example.com",\n' in done.stdout
    assert list(orjson.loads(done.stdout)) == list(body)


def test_show_takes_a_beginning_that_one_id_has(run: Run, add: Add) -> None:
    for id in ("AB12", "AB13", "AB1"):
        add(id)
    assert orjson.loads(run("show", "ab13").stdout)["message-id"] == "AB13"
    assert orjson.loads(run("show", "AB1").stdout)["message-id"] == "AB1"
    done = run("show", "AB")
    assert done.returncode == 1
    assert done.stderr.decode() == (
        "fastsmtp: AB begins more than one id (AB1, AB12, AB13): give more of it, "
        'or the number that "queue list" shows\n'
    )
    done = run("show", "C")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"no message C in " in done.stderr


def test_the_number_that_list_shows_is_enough_and_stays(run: Run, path: Path) -> None:
    ids = Ids()
    names = [ids.fresh() for _ in range(12)]  # beginning and end are the same for all
    store = Store(str(path), create=True)
    store.add([Outgoing(id, None, "", b"{", f'"mime":"{id}"}}'.encode()) for id in names])
    numbers = [line.split()[0] for line in run("list").stdout.decode().splitlines()[1:-1]]
    assert [orjson.loads(run("show", n).stdout)["mime"] for n in numbers] == names
    assert orjson.loads(run("show", "last").stdout)["mime"] == names[-1]
    assert run("purge", "--yes", numbers[0], numbers[-1]).stdout == b"2 messages deleted\n"
    later = ids.fresh()
    store.add([Outgoing(later, None, "", b"{", b'"mime":"later"}')])
    store.close()
    assert orjson.loads(run("show", numbers[1]).stdout)["mime"] == names[1]
    assert orjson.loads(run("show", "LAST").stdout)["mime"] == "later"
    assert later in run("list").stdout.decode()
    for gone in (numbers[0], numbers[-1], "9" * 30):  # a number is never given twice
        done = run("show", gone)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.decode() == f"fastsmtp: no message {gone} in {path}\n"


def test_there_is_no_last_message_of_an_empty_queue(run: Run, path: Path) -> None:
    Store(str(path), create=True).close()
    done = run("show", "last")
    assert (done.returncode, done.stderr.decode()) == (1, f"fastsmtp: the queue {path} is empty\n")
    assert run("purge", "--yes", "last").returncode == 1  # what is last changes by itself


@pytest.mark.parametrize(
    "content",
    [b"", b"a\r\nb\rc\nd\x00\x7f", "ümläut ☃".encode(), bytes(range(256)) * 100, b"\xff"],
)
def test_the_content_comes_back_byte_for_byte(
    run: Run, add: Add, tmp_path: Path, content: bytes
) -> None:
    add("A1", content)
    done = run("show", "--mime", "A1")
    assert (done.returncode, done.stdout) == (0, content)
    folder = tmp_path / "out"
    assert run("export", str(folder), "--eml").returncode == 0
    assert (folder / "A1.eml").read_bytes() == content


def test_export_writes_a_file_for_each_message(run: Run, add: Add, tmp_path: Path) -> None:
    bodies = {f"{id}.json": add(id) for id in ("A", "B", "C")}
    folder = tmp_path / "new" / "out"
    done = run("export", str(folder))
    assert done.stdout.decode() == f"3 messages exported to {folder}\n"
    assert done.stderr == b""
    files = {file.name: file for file in folder.iterdir()}
    assert {name: orjson.loads(file.read_bytes()) for name, file in files.items()} == bodies
    assert {stat.S_IMODE(file.stat().st_mode) for file in files.values()} == {0o600}
    assert b"3 messages" in run("list").stdout


def test_export_overwrites_nothing(run: Run, add: Add, tmp_path: Path) -> None:
    add("A")
    (tmp_path / "A.json").write_text("mine")
    done = run("export", str(tmp_path))
    assert done.returncode == 1
    assert f"{tmp_path}/A.json exists" in done.stderr.decode()
    assert (tmp_path / "A.json").read_text() == "mine"


def test_export_shows_progress_on_a_terminal(path: Path, tmp_path: Path) -> None:
    store = Store(str(path), create=True)
    store.add([Outgoing(f"B{n}", None, "", b'{"envelope":"x"', b',"mime":""}') for n in range(250)])
    store.close()
    folder = str(tmp_path / "out")
    code, seen = on_terminal(b"", "export", folder, "--queue-file", str(path))
    assert code == 0
    assert b"\r200 of 250 messages" in seen
    assert len(os.listdir(folder)) == 250


def test_purge_needs_a_yes(run: Run, add: Add, path: Path) -> None:
    add("A")
    add("B")
    done = run("purge")
    assert done.returncode == 1
    assert done.stderr == b"fastsmtp: 2 messages would be deleted: add --yes if they should\n"
    code, seen = on_terminal(b"n\n", "purge", "--queue-file", str(path))
    assert code == 1
    assert b"Delete 2 messages from" in seen
    assert b"nothing was deleted" in seen
    assert b"2 messages" in run("list").stdout
    code, seen = on_terminal(b"y\n", "purge", "--queue-file", str(path))
    assert (code, b"2 messages deleted" in seen) == (0, True)
    done = run("list")
    assert (done.returncode, done.stdout.decode()) == (0, f"The queue {path} is empty.\n")


def test_purge_of_single_messages(run: Run, add: Add) -> None:
    for id in ("A", "B", "C"):
        add(id)
    assert run("purge", "--yes", "A", "X").returncode == 1
    assert b"3 messages" in run("list").stdout
    assert run("purge", "--yes", "A", "C").stdout == b"2 messages deleted\n"
    assert b"<b@example.org>\n1 message\n" in run("list").stdout
    assert run("purge", "--yes").stdout == b"1 message deleted\n"
    assert b"is empty" in run("purge", "--yes").stdout


@pytest.mark.parametrize(
    "arguments", [["list"], ["show", "A"], ["export", "out"], ["publish"], ["purge", "--yes"]]
)
def test_a_missing_queue_is_said_so(run: Run, path: Path, arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().startswith(f"fastsmtp: no queue at {path}: ")
    assert not path.exists()


def test_a_file_that_is_no_queue_is_said_so(run: Run, path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    path.chmod(0o600)
    done = run("list")
    assert done.returncode == 1
    assert done.stderr.decode() == f"fastsmtp: {path}: this file is no SQLite database\n"


def test_the_queue_is_found_as_the_daemon_finds_it(add: Add, path: Path, tmp_path: Path) -> None:
    add("A")
    config = tmp_path / "config.txt"
    config.write_text(f"queue-file: {path}\n")
    for option in (["--config-file", str(config)], ["--queue-file", str(path)]):
        out = subprocess.check_output([*COMMAND, "list", *option], env=ENVIRONMENT, timeout=60)
        assert out.endswith(b"\n1 message\n")


def test_wrong_arguments_exit_with_2(run: Run) -> None:
    assert run().returncode == 2
    assert run("eat").returncode == 2
    assert run("show").returncode == 2
    assert run("list", "--no-such-setting", "1").returncode == 2
    for command in ([], ["list"], ["show"], ["export"], ["publish"], ["purge"]):
        assert run(*command, "--help").returncode == 0
