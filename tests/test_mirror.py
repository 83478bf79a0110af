"""Tests stand where the module stands that they are about, or this table says where and why.

The tests of fastsmtp/net/tls.py are tests/net/test_tls.py, and files that begin with the same name
(tests/net/test_tls_certificates.py).
"""

import ast
import re
from pathlib import Path

import pytest

from tests.support.daemon import ROOT
from tests.support.imports import module_of

ELSEWHERE = {
    # Declarations, which have no behaviour of their own
    "declaration": "test_settings.py",
    "envelope": "plain values: test_session.py fills them",
    "needs": "types alone",
    "peer": "plain values: test_payload.py shows them",
    "net.answerer": "types alone",
    "net.server": "plain values",
    "net.auth.base": "an interface: net/auth/test_backends.py implements it",
    "sinks.base": "types alone",
    "sinks.choice": "an interface: sinks/test_table.py implements it",
    "sinks.rabbitmq.confirm_listener": "types alone",
    "availability": "plain values: test_session.py, test_metrics.py",
    "exposed": "plain values: process/test_exposition.py shows them",
    "connection_facts": "test_payload.py shows it",
    # Parts that their users' tests show
    "__init__": "the version: process/test_cli.py",
    "__main__": "process/test_cli.py",
    "_durations": "test_metrics.py",
    "_sizes": "test_metrics.py",
    "_tail": "test_escape.py",
    "counters": "test_metrics.py, process/test_totals.py",
    "refusals": "test_metrics.py, net/test_refusal_log.py",
    "values": "test_settings.py",
    "net.admission": "net/test_access.py, net/test_proxy.py",
    "net.answerers": "test_questions.py",
    "net.proxy_acceptor": "net/test_proxy.py",
    "net.flow": "net/test_connection.py, test_memory_budget.py",
    "net.connection_counts": "net/test_access.py",
    "net.auth.hardcoded": "net/auth/test_authenticator.py, net/auth/test_backends.py",
    "net.auth.hashes": "net/auth/test_file.py, net/auth/test_libcrypt.py",
    "net.auth.pair": "net/auth/test_authenticator.py",
    "process.checks": "process/test_config.py, process/test_privileges.py",
    "process.cli.check": "process/test_cli.py",
    "process.cli.options": "process/test_cli.py",
    "process.cli.passwd": "net/auth/test_file.py",
    "process.cli.publish": "sinks/test_drain.py",
    "process.cli.reload": "process/test_supervisor.py",
    "process.cli.serve": "process/test_supervisor.py",
    "process.control": "process/test_supervisor.py",
    "process.generation": "process/test_workers.py",
    "process.metrics_page": "process/test_exposition.py",
    "process.reading": "process/test_supervisor.py",
    "process.sockets": "process/test_supervisor.py",
    "sinks.btree_cells": "sinks/test_undamaged_rows.py",
    "sinks.database_pages": "sinks/test_undamaged_rows.py",
    "sinks.row_headers": "sinks/test_undamaged_rows.py, sinks/test_row_checksum.py",
    "sinks.file_descriptors": "sinks/test_read_back.py",
    "sinks.file_moves": "sinks/test_repair.py",
    "sinks.recovery": "sinks/test_repair.py, process/cli/test_recover.py",
    "sinks.wal_pages": "sinks/test_undamaged_rows.py",
    "sinks.inserts": "sinks/test_store.py, sinks/test_store_contents.py",
    "sinks.committer": "sinks/test_embedded.py",
    "sinks.second_opinion": "sinks/test_spill.py",
    "sinks.spill_counters": "sinks/test_spill.py",
    "sinks.spill_drain": "sinks/test_spill.py",
    "sinks.spill_file": "sinks/test_spill.py",
    "sinks.queue_counters": "sinks/test_queue_file.py, process/test_exposition.py",
    "sinks.rabbitmq.counters": "sinks/rabbitmq/test_publisher.py, process/test_exposition.py",
    "sinks.store_errors": "sinks/test_store.py",
    "sinks.store_file": "sinks/test_store.py, sinks/test_embedded.py",
    "sinks.broker": "sinks/test_table.py, process/test_cli.py",
    "sinks.rabbitmq.channel": "sinks/rabbitmq/test_failover.py, sinks/rabbitmq/test_link.py",
    "sinks.rabbitmq.examination": "process/test_cli.py",
    "sinks.rabbitmq.presence": "sinks/rabbitmq/test_link.py",
    "sinks.rabbitmq.sink": "sinks/rabbitmq/test_publisher.py",
}
"""Module without a test of its name → the tests that show what it does, or why there is none."""

NOT_MIRRORED = {
    *("clients", "docs", "faults", "fuzz", "hostile", "mailerq", "oracle", "support", "whole")
}
"""Folders of tests that are about no single module."""

OF_THE_WHOLE = {"test_layers.py", "test_mirror.py"}

TESTS = ROOT / "tests"


def says_nothing(path: Path) -> bool:
    """Whether a package's file holds no more than its docstring."""
    return path.name == "__init__.py" and len(ast.parse(path.read_text()).body) <= 1


def modules_of(package: Path) -> set[str]:
    """The package's modules; a package that says something is one too, by its own name."""
    found = {
        module_of(path, package)
        for suffix in ("py", "pyx")
        for path in package.rglob(f"*.{suffix}")
        if not says_nothing(path)
    }
    return {module.removesuffix(".__init__") for module in found}


def namesake(module: str) -> str:
    """The path of a module's own test in tests/."""
    *folders, name = module.split(".")
    return "/".join([*folders, f"test_{name.strip('_')}.py"])


def faults(modules: set[str], tests: set[str], table: dict[str, str]) -> list[str]:
    """Where modules, tests (paths in tests/) and the table do not agree."""
    namesakes = {namesake(module) for module in modules}
    beginnings = tuple(each.removesuffix("py").replace(".", "_") for each in namesakes)
    named = {word for why in table.values() for word in re.findall(r"[\w/]+\.py", why)}
    return [
        *(
            f"{module}: neither tests/{namesake(module)} nor a row in the table"
            for module in sorted(modules - table.keys())
            if namesake(module) not in tests
        ),
        *(f"the table's {module}: no such module" for module in sorted(table.keys() - modules)),
        *(
            f"the table's {module}: tests/{namesake(module)} exists"
            for module in sorted(table.keys() & modules)
            if namesake(module) in tests
        ),
        *(f"the table names tests/{path}: no such file" for path in sorted(named - tests)),
        *(
            f"tests/{path}: no module of that name"
            for path in sorted(tests)
            if path not in namesakes and not path.startswith(beginnings)
        ),
    ]


def test_tests_mirror_the_package() -> None:
    paths = {path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    mirrored = {str(path) for path in paths if path.parts[0] not in NOT_MIRRORED} - OF_THE_WHOLE
    modules = modules_of(ROOT / "fastsmtp")
    assert {"_session", "net.tls", "process.cli"} <= modules
    assert faults(modules, mirrored, ELSEWHERE) == []


@pytest.mark.parametrize(
    ("module", "tests", "table", "fault"),
    [
        ("a.b", set(), {}, "a.b: neither tests/a/test_b.py nor a row in the table"),
        ("_b", set(), {}, "_b: neither tests/test_b.py nor a row in the table"),
        ("b", {"test_b.py"}, {"c": "types"}, "the table's c: no such module"),
        ("b", {"test_b.py"}, {"b": "types"}, "the table's b: tests/test_b.py exists"),
        ("b", set(), {"b": "test_c.py"}, "the table names tests/test_c.py: no such file"),
        ("b", {"test_b.py", "a/test_b.py"}, {}, "tests/a/test_b.py: no module of that name"),
        ("b", {"test_b.py", "test_bc.py"}, {}, "tests/test_bc.py: no module of that name"),
    ],
)
def test_the_walk_finds_a_fault(
    module: str, tests: set[str], table: dict[str, str], fault: str
) -> None:
    assert faults({module}, tests, table) == [fault]


def test_the_walk_lets_the_rest_pass() -> None:
    modules = {"_b", "a.c", "d"}
    tests = {"test_b.py", "a/test_c.py", "a/test_c_more.py"}
    assert faults(modules, tests, {"d": "types alone, see a/test_c_more.py"}) == []
