"""docs/security.md: the tests that it names exist, and its limits are those of the settings."""

import re

import pytest

from tests.support.daemon import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
SETTINGS = (ROOT / "docs" / "settings.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
LIMITS = re.findall(r"^\| [^|]*`([a-z-]+)` \| ([\d.]+\w*)", PAGE, re.MULTILINE)


def test_there_is_something_to_look_at() -> None:
    assert len(NAMED) > 25
    assert len(LIMITS) == 10
    promises = PAGE.split("## What is promised")[1].split("## What is not promised")[0]
    rows = re.findall(r"^\| (?!promise|---)(.*) \| (.*) \|$", promises, re.MULTILINE)
    assert len(rows) > 20
    assert all("::test_" in shown for _, shown in rows), "a promise without a test"


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    source = (ROOT / path).read_text("utf-8")
    assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE)


@pytest.mark.parametrize(("key", "default"), LIMITS)
def test_a_limit_is_the_setting_s_default(key: str, default: str) -> None:
    assert f"| `{key}` | `{default}` |" in SETTINGS
