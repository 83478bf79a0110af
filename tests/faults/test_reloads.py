"""Reloads and stops under load: no connection ends without a reply, no mail is lost."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fastsmtp
from tests.faults.kills import FLOW_TIMEOUT, settle
from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.test_kills import ROUNDS, Record, judge
from tests.support.daemon import COMMAND, ROOT, Daemon
from tests.support.inbox import EmbeddedInbox, RabbitmqInbox
from tests.support.patience import until
from tests.support.ports import lasting_port
from tests.support.rabbitmq import Broker
from tests.support.watcher import SETTINGS, Scrape

BETWEEN = 30
"""Messages acknowledged between two reloads."""

NEXT_VERSION = f"{fastsmtp.__version__}.post1"


def install(folder: Path, version: str) -> None:
    """A copy of the package that calls itself `version`, in a folder for PYTHONPATH."""
    unused = shutil.ignore_patterns("__pycache__", "*.c", "*.pyx")
    shutil.copytree(ROOT / "fastsmtp", folder / "fastsmtp", ignore=unused)
    init = folder / "fastsmtp" / "__init__.py"
    text, found = re.subn('(__version__ = )".*"', rf'\1"{version}"', init.read_text())
    assert found == 1
    init.write_text(text)
    # As pip does: compiled files are made once, not by each process that finds none.
    subprocess.run([sys.executable, "-m", "compileall", "-q", folder], check=True)


def switch(link: Path, folder: Path) -> None:
    """From one moment to the next, `link` is `folder`."""
    new = link.with_name("new")
    new.symlink_to(folder)
    new.rename(link)


@pytest.mark.timeout(200 * ROUNDS)
def test_reloads_and_an_upgrade(
    broker: Broker,
    start_daemon: Callable[..., Daemon],
    ledger: Ledger,
    tmp_path: Path,
    record_property: Record,
) -> None:
    inbox = RabbitmqInbox(broker)
    installed = tmp_path / "installed"
    for version in (fastsmtp.__version__, NEXT_VERSION):
        install(tmp_path / version, version)
    switch(installed, tmp_path / fastsmtp.__version__)
    command = ("env", f"PYTHONPATH={installed}", *COMMAND)
    daemon = start_daemon(
        command=command,
        smtp_port=lasting_port(),
        smtp_threads=2,
        **SETTINGS,
        **inbox.settings,
    )
    times = 4 * ROUNDS
    with Load(daemon.port, ledger, sessions=8) as load:
        for number in range(times):
            load.wait_for(BETWEEN, FLOW_TIMEOUT)
            if number == times // 2:
                assert versions(daemon) == {fastsmtp.__version__}
                switch(installed, tmp_path / NEXT_VERSION)
            status, said = daemon.reload(smtp_maxsize=f"{number + 1}MB")
            assert status == 0, said
        load.wait_for(BETWEEN, FLOW_TIMEOUT)
        until(lambda: versions(daemon) == {NEXT_VERSION}, 30)
    assert ledger.broken == []
    judge(settle(daemon, inbox, ledger), record_property)


def versions(daemon: Daemon) -> set[str]:
    """Of the workers that run."""
    samples = Scrape(daemon).samples
    return {each.labels["version"] for each in samples if each.name == "fastsmtp_workers"}


@pytest.mark.timeout(200 * ROUNDS)
def test_a_stop_under_load(
    start_daemon: Callable[..., Daemon], ledger: Ledger, record_property: Record
) -> None:
    inbox = EmbeddedInbox()
    daemon = start_daemon(smtp_port=lasting_port(), smtp_threads=2, **inbox.settings)
    with Load(daemon.port, ledger, sessions=8) as load:
        for _ in range(3 * ROUNDS):
            load.wait_for(5 * BETWEEN, FLOW_TIMEOUT)
            daemon.stop()
            daemon.start()
        load.wait_for(BETWEEN, FLOW_TIMEOUT)
    assert {each.partition("(")[0] for each in ledger.broken} <= {"ConnectionRefusedError"}
    judge(settle(daemon, inbox, ledger), record_property)
