import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.support import machine_code, rabbitmq
from tests.support.daemon import ROOT, Daemon
from tests.support.inbox import EmbeddedInbox, Inbox, RabbitmqInbox
from tests.support.one_process import OneProcess

if TYPE_CHECKING:
    from tests.support.sources import Sources

# A test machine is busy: how long one example takes says nothing.
settings.register_profile("tests", deadline=None)
settings.register_profile("fuzz", deadline=None, max_examples=10_000)
settings.load_profile("tests")

SLOW = (
    *("tests/faults/", "tests/whole/", "tests/net/auth/test_authenticator", "tests/clients/"),
    *("tests/sinks/rabbitmq/", "tests/sinks/test_drain.py", "tests/hostile/", "tests/docs/"),
)
"""What takes long comes first: at the end, no process is left alone with half a minute of work."""

BUILD = "python setup.py build_ext --inplace, or make lint"


def pytest_addoption(parser: pytest.Parser) -> None:
    about = "skip every test that starts a process (a broker, a daemon, a command)"
    parser.addoption("--in-memory", action="store_true", help=about)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--in-memory"):
        config.pluginmanager.register(OneProcess())


def pytest_sessionstart() -> None:
    """What was compiled must be what stands in the source."""
    wrong = list(machine_code.complaints(ROOT / "fastsmtp"))
    if wrong:
        raise pytest.UsageError("\n".join([f"compile first: {BUILD}", *wrong]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first; those of a file stay together, since they share daemons."""
    items.sort(key=lambda item: not item.nodeid.startswith(SLOW))


@pytest.fixture
def sources(tmp_path: Path) -> "Sources":
    """Sources of a configuration of the test's own."""
    # Not above: nothing of fastsmtp is imported before `pytest_sessionstart` has looked at it.
    from tests.support.sources import Sources

    return Sources(tmp_path)


@pytest.fixture(scope="session")
def broker() -> Iterator[rabbitmq.Broker]:
    """A RabbitMQ that tests share: use own queue names, leave its state as it was."""
    if rabbitmq.MISSING:
        pytest.skip(rabbitmq.MISSING)
    with rabbitmq.running() as made:
        yield made


@pytest.fixture(scope="session")
def _spare() -> Iterator[rabbitmq.Broker]:
    if rabbitmq.MISSING:
        pytest.skip(rabbitmq.MISSING)
    made = rabbitmq.Broker()
    yield made
    made.close()


@pytest.fixture
def killable(_spare: rabbitmq.Broker) -> rabbitmq.Broker:
    """A running broker that a test may kill, stop and start: tests share it one after the other.

    Like `broker`, but nobody else's connections end with it. Use own queue names. `launch` it in
    the main thread: it ends with the thread that started it.
    """
    if _spare.process is None:
        _spare.start()
    return _spare


@pytest.fixture
def paused(broker: rabbitmq.Broker) -> Iterator[rabbitmq.Broker]:
    """The shared broker for a test that stops it (`pause`); it goes on afterwards."""
    yield broker
    broker.resume()


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> str:
    """A queue name of the test's own."""
    return re.sub(r"\W+", "-", request.node.name)


@pytest.fixture
def make_broker() -> Iterator[Callable[..., rabbitmq.Broker]]:
    """Makes brokers that a test may torture; `make_broker()` is not started yet."""
    if rabbitmq.MISSING:
        pytest.skip(rabbitmq.MISSING)
    made: list[rabbitmq.Broker] = []

    def make(**settings: str) -> rabbitmq.Broker:
        made.append(rabbitmq.Broker(**settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons with the given settings; each must end in order when the test is over."""
    started: list[Daemon] = []

    def start(**settings: object) -> Daemon:
        folder = tmp_path / f"daemon{len(started)}"
        folder.mkdir()
        started.append(Daemon(folder, **settings))
        started[-1].start()
        return started[-1]

    yield start
    try:
        for each in started:
            each.close()
    finally:
        for each in started:
            each.kill()


@pytest.fixture(params=["rabbitmq", "embedded"])
def inbox(request: pytest.FixtureRequest) -> Inbox:
    """Both places that mail can go to, one after the other: `start_daemon(**inbox.settings)`."""
    if request.param == "rabbitmq":
        return RabbitmqInbox(request.getfixturevalue("broker"))
    return EmbeddedInbox()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The ledgers' judgements are part of every run's output."""
    lines = [
        f"{test.nodeid.rpartition('::')[2]}: {value}"
        for tests in terminalreporter.stats.values()
        for test in tests
        if isinstance(test, pytest.TestReport) and test.when == "call"
        for name, value in test.user_properties
        if name == "ledger"
    ]
    if lines:
        terminalreporter.section("ledger of lost mail")
        terminalreporter.write_line("\n".join(lines))
