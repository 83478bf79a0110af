"""A test that sleeps says why, in a comment behind it: most of them wait for something instead."""

import ast
from collections.abc import Iterator

import pytest

from tests.support.daemon import ROOT

TESTS = ROOT / "tests"


def bare_sleeps(text: str) -> Iterator[int]:
    """Lines of a module that sleep without a comment; a turn of the loop, `sleep(0)`, is none."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "sleep":
            is_turn = [ast.unparse(each) for each in node.args] == ["0"]
            if not is_turn and "#" not in lines[(node.end_lineno or 0) - 1]:
                yield node.lineno


def test_every_sleep_has_its_reason() -> None:
    paths = [path for path in TESTS.rglob("*.py") if path.parent.name != "support"]
    assert len(paths) > 50
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in paths
        for line in bare_sleeps(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("time.sleep(1)", [1]),
        ("async def f():\n    await asyncio.sleep(0.1)", [2]),
        ("sleep(1)", [1]),
        ("time.sleep(1)  # longer than the timeout", []),
        ("asyncio.sleep(0)", []),
        ("'time.sleep(1)'", []),
    ],
)
def test_the_walk_finds_them(text: str, lines: list[int]) -> None:
    assert list(bare_sleeps(text)) == lines
