"""docs/operating.md tells of every refusal; README links to every page."""

import re

from fastsmtp import replies
from tests.support.daemon import ROOT

DOCS = ROOT / "docs"


def test_every_refusal_is_told() -> None:
    page = (DOCS / "operating.md").read_text("utf-8")
    table = page[page.index("## What clients are told") : page.index("## The embedded queue")]
    told = re.findall(r"^\| (\d{3} .*?) \|", table, re.MULTILINE)
    refusals = [
        f"{reply.code} {reply.enhanced} {reply.lines[0]}"
        for reply in vars(replies).values()
        if isinstance(reply, replies.Reply) and reply.code >= 400
    ]
    assert sorted(told) == sorted(refusals)


def test_every_page_is_linked_and_every_link_leads_somewhere() -> None:
    linked = set()
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            target = (page.parent / link).resolve()
            assert target.exists(), f"{page.name}: {link}"
            if page.name == "README.md":
                linked.add(target)
    assert set(DOCS.glob("*.md")) <= linked
