"""`pytest --in-memory`: a test that would start a process is skipped at the moment when it tries.

So nobody keeps a list of such tests, and none of them can get into `make check`.
"""

import sys
from collections.abc import Generator

import pytest

STARTS = {"subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.system"}
"""Python's own audit events: https://docs.python.org/3/library/audit_events.html."""

SIGNALS = {"os.kill", "os.killpg"}
"""The process that the test means was not started: number 0 would be all of ours."""


class OneProcess:
    """A plugin of pytest: refuses processes while a test runs, not those of pytest-xdist."""

    def __init__(self) -> None:
        self.testing = False
        sys.addaudithook(self.hear)

    def hear(self, event: str, _: tuple[object, ...]) -> None:
        if self.testing and (event in STARTS or event in SIGNALS):
            pytest.skip("starts a process")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        self.testing = True
        try:
            return (yield)
        finally:
            self.testing = False
