"""README.md and docs/getting-started.md, pasted block by block into a fresh clone."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import ROOT
from tests.support.ports import lasting_port
from tests.support.rabbitmq import PROGRAMS, Broker

BINARIES = Path(sys.executable).parent
PAGES = {
    "readme": (ROOT / "README.md", "## Try it", "## A real configuration"),
    "getting started": (ROOT / "docs" / "getting-started.md", "## 1.", "## Then"),
}
READY_TIMEOUT = 60.0


def page(name: str) -> str:
    """The part of a page that a stranger pastes."""
    path, first, behind = PAGES[name]
    text = path.read_text("utf-8")
    return text[text.index(first) : text.index(behind)]


def shown(text: str, kind: str) -> list[str]:
    """The blocks of one kind: "" are commands, "text" and "json" are what they print."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for found, block in blocks if found == kind]


class Clone:
    """A fresh clone in a folder of its own, and the two terminals that a page speaks of."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self.folder = folder / "clone"
        built = shutil.ignore_patterns(
            ".git", ".venv*", ".tools", ".run", "build", "*.so", "*cache*"
        )
        shutil.copytree(ROOT, self.folder, ignore=built)
        self.port = lasting_port()
        self.broker = broker
        makefile = self.folder / "Makefile"
        makefile.write_text(self.here(makefile.read_text()))
        # The environment that is built already: make finds it younger than everything.
        venv = self.folder / ".venv"
        venv.mkdir()
        (venv / "bin").symlink_to(BINARIES)
        for stamp in ("python", "installed", "built-release"):
            (venv / stamp).touch()
        own = {"FASTSMTP_BUILD": "release", "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
        kept = {key: text for key, text in os.environ.items() if key[:9] != "FASTSMTP_"}
        self.env = kept | {k: v for k, v in broker.env.items() if k not in ("PATH", "LANG")} | own
        self.server: subprocess.Popen[bytes] | None = None
        self.first_terminal = folder / "first-terminal.txt"

    def here(self, text: str) -> str:
        """The same with a free port, and the test's own broker."""
        local = f"@127.0.0.1:{self.broker.port}/"
        return text.replace("2525", str(self.port)).replace("@localhost/", local)

    def paste(self, block: str) -> tuple[int, str]:
        """The exit status and the output of a block; one that serves goes on in the background."""
        block = self.here(block)
        if block.startswith(("make run", ".venv/bin/fastsmtp --")):
            self.control_c()
            return 0, self.serve(block)
        done = subprocess.run(
            ["bash", "-e", "-c", block],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout

    def serve(self, block: str) -> str:
        """Start it in the first terminal; what that shows up to the ready line."""
        with self.first_terminal.open("wb") as output:
            self.server = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "bash", "-c", block],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_TIMEOUT
        while " ready: " not in (seen := self.first_terminal.read_text()):
            assert self.server.poll() is None, seen
            assert time.monotonic() < deadline, seen
            time.sleep(0.02)  # looks again
        return seen

    def control_c(self) -> None:
        """As a terminal does it: to the whole process group. fastsmtp must end in order."""
        if self.server is not None:
            os.killpg(self.server.pid, signal.SIGINT)
            self.server.wait(60)
            self.server = None
            assert " stopped: " in self.first_terminal.read_text()

    def close(self) -> None:
        if self.server is not None:
            os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait()


@pytest.fixture
def clone(tmp_path: Path, make_broker: Callable[..., Broker]) -> Iterator[Clone]:
    if not shutil.which("swaks"):
        pytest.skip("needs swaks")
    assert (BINARIES / "fastsmtp").exists(), "make .venv/installed"
    broker = make_broker()
    broker.start()
    made = Clone(tmp_path, broker)
    yield made
    made.close()


def shape(value: object) -> object:
    """The names and types of a JSON value, without what differs from one message to the next."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return [shape(each) for each in value] if isinstance(value, list) else type(value)


def test_the_readme_as_it_is_pasted(clone: Clone) -> None:
    text = page("readme")
    run, send, test, with_broker, publish = shown(text, "")
    assert (run, test) == ("make run\n", "make test\n")

    _, terminal = clone.paste(run)
    status, seen = clone.paste(send)
    assert status == 0, seen
    identifier = re.compile(r"0[0-9A-Z]{29}")
    (ident,) = set(identifier.findall(seen))
    replies, listing = shown(text, "text")
    assert identifier.sub(ident, replies) in seen
    listed = [each.split() for each in listing.splitlines()]
    head, row, total = (each.split() for each in seen[seen.index("NO  ") :].splitlines()[:3])
    assert (head, total) == (listed[0], listed[2])
    assert (row[:2], row[-2:]) == (["1", ident], listed[1][-2:])
    message = json.loads(seen[seen.index("\n{\n") :])
    (example,) = shown(text, "json")
    assert shape(message) == shape(json.loads(example))
    assert list(message) == list(json.loads(example))
    assert message["tags"] == ["first"]

    # What make run itself says to paste, in any folder
    by_python, *look = re.findall(
        r"^  ((?:\S*python\S* -c|/\S*fastsmtp) .*)", terminal, re.MULTILINE
    )
    assert len(look) == 2
    status, seen = clone.paste(f"cd /\n{by_python}\n" + "\n".join(look))
    assert status == 0, seen
    assert "Subject: Hello\\r\\n\\r\\nHello, fastsmtp.\\r\\n" in seen
    assert "\n2 messages\n" in seen

    clone.paste(with_broker)
    status, seen = clone.paste(publish)
    assert status == 0, seen
    assert "inbox\t2\n" in clone.broker.ctl("list_queues", "name", "messages")


def test_getting_started_as_it_is_pasted(clone: Clone) -> None:
    text = page("getting started")
    printed = []
    for block in shown(text, ""):
        status, seen = clone.paste(block)
        # The one that shows a mistake in a mail
        assert status == (1 if "--strict" in block else 0), f"{block}{seen}"
        printed.append(seen)
    clone.control_c()
    run, first, by_number, _, again, count, publish, check, _, convert = printed
    assert f"listening on 127.0.0.1:{clone.port}; queue: the queue file" in run
    shows = first[first.index("\n{\n") :]
    assert json.loads(shows) == json.loads(by_number)
    assert "<-  250 2.0.0 " in again
    assert re.search(r"^inbox\t1$", count, re.MULTILINE)
    assert "1 message" in publish
    assert "smtp-maxsize" in check
    assert "guest:guest" not in check
    notes = list(shown(text, "text"))
    assert notes
    for lines in notes:
        assert lines in convert


# Without a compiler


def bare(folder: Path, *more: str) -> dict[str, str]:
    """An environment whose path has what is on every Debian, and no compiler."""
    folder.mkdir()
    for name in ("sh", "make", "find", "sed", "basename", "env", *more):
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    return {"PATH": str(folder)}


def without_build(folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`make run` where nothing is built."""
    for name in ("Makefile", "pyproject.toml", "setup.py", "tests/check-build"):
        target = folder / name
        target.parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(ROOT / name, target)
    (folder / "fastsmtp").mkdir()
    done = subprocess.run(
        ["make", "run", f"PYTHON={sys.executable}"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert not (folder / ".venv").exists()
    return done


def test_without_a_compiler_make_run_names_the_package(tmp_path: Path) -> None:
    done = without_build(tmp_path / "clone", bare(tmp_path / "bin"))
    assert "this is missing: a C compiler (" in done.stderr
    assert "as root:  apt-get install gcc\n" in done.stderr


@pytest.mark.parametrize(
    ("lacks", "module", "package"),
    [
        ("Python's module venv", "raise ImportError", "venv"),
        ("Python's headers (/none/Python.h)", "", "dev"),
    ],
)
def test_what_python_lacks_is_named(tmp_path: Path, lacks: str, module: str, package: str) -> None:
    """Debian packs ensurepip and Python.h apart from Python."""
    modules = tmp_path / "modules"
    modules.mkdir()
    if module:
        (modules / "ensurepip.py").write_text(module)
    else:
        hide = "import sysconfig\nsysconfig.get_path = lambda name: '/none'\n"
        (modules / "sitecustomize.py").write_text(hide)
    done = without_build(tmp_path / "clone", dict(os.environ) | {"PYTHONPATH": str(modules)})
    assert f"this is missing: {lacks}." in done.stderr
    name = Path(sys.executable).name
    assert f"as root:  apt-get install {name}-{package}\n" in done.stderr


def test_the_build_says_what_it_is_doing(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "fastsmtp").mkdir()
    planned = subprocess.check_output(
        ["make", "-n", "run"], cwd=tmp_path, text=True, stderr=subprocess.STDOUT, timeout=60
    )
    steps = re.findall(r'^echo "\[(\d) of 3\] .*: about .*"$', planned, re.MULTILINE)
    assert steps == ["1", "2", "3"]
