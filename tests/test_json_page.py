"""docs/json.md names every property and every header that the code knows, and no other."""

import re
import smtplib
from collections.abc import Callable

from fastsmtp import headers
from tests.support.daemon import ROOT, Daemon
from tests.support.inbox import EmbeddedInbox

PAGE = (ROOT / "docs" / "json.md").read_text("utf-8")


def rows(after: str) -> list[list[str]]:
    """The cells of the first table behind this heading or line, without its head."""
    table = re.search(r"^\|.*?(?=^[^|]|\Z)", PAGE[PAGE.index(after) :], re.MULTILINE | re.DOTALL)
    assert table
    return [[cell.strip() for cell in row.split(" | ")] for row in lines(table[0])[2:]]


def lines(table: str) -> list[str]:
    return [line.strip().strip("|") for line in table.strip().splitlines()]


def test_every_header_is_in_the_table_with_its_property_and_type() -> None:
    known = {(name, prop, "list") for name, prop in headers.LISTS.items()}
    for name, (group, prop, parse) in headers.SCALARS.items():
        shown = f"{group}.{prop}" if group else prop
        if name == "delayed":
            shown = "delayed, nextattempt.time"
        known.add((name, shown, parse.__name__))
    *table, other = rows("## Headers")
    assert other[0] == "any other `X-MQ-NAME`"
    cells = ([cell.replace("`", "") for cell in row] for row in table)
    told = {(name.lower().removeprefix("x-mq-"), shown, kind) for name, shown, kind in cells}
    assert told == known
    assert {kind for _, _, kind in known} == {row[0] for row in rows("`queues.results` is the")}


def test_every_name_of_the_server_is_listed() -> None:
    listed = re.search(r"These names.*?_total`: (.*?)\.\n", PAGE, re.DOTALL)
    assert listed
    assert set(re.findall(r"`(.*?)`", listed[1])) == headers.RESERVED - {""}


def test_every_property_of_a_message_is_described(start_daemon: Callable[..., Daemon]) -> None:
    inbox = EmbeddedInbox()
    daemon = start_daemon(**inbox.settings)
    with smtplib.SMTP("127.0.0.1", daemon.port, timeout=30) as client:
        client.sendmail(
            "ä@example.com",
            ["b@example.org"],
            b"\r\n\xff",
            ["SMTPUTF8", "BODY=8BITMIME", "RET=HDRS", "ENVID=x"],
            ["NOTIFY=NEVER", "ORCPT=rfc822;b@example.org"],
        )
    [message] = inbox.messages(daemon)
    told = {row[0].strip("`") for row in rows("## Properties")} - {"others"}
    assert told == set(message)
    names = re.findall(r"`(.*?)`", " ".join(row[0] for row in rows("### `connection`")))
    assert set(message["connection"]) <= set(names)
    [dsn] = [row[2] for row in rows("## Properties") if row[0] == "`dsn`"]
    assert set(re.findall(r"`(.*?)`", dsn)) == set(message["dsn"])
