from fastsmtp.process.settings_page import page
from tests.support.daemon import ROOT

STORED = ROOT / "docs" / "settings.md"


def test_page_is_what_the_declarations_say() -> None:
    assert STORED.read_text("utf-8") == page(), "run: make docs"
