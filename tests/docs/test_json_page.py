"""docs/json.md names every property and every header that the code knows, and no other."""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastsmtp import headers
from tests.net.test_proxy import Proxied
from tests.support import certificates
from tests.support.daemon import ROOT, Daemon
from tests.support.inbox import EmbeddedInbox
from tests.support.wire import Wire
from tests.test_proxy import SSL, TCP4, tlv, v2

PAGE = (ROOT / "docs" / "json.md").read_text("utf-8")

VALUES = {
    "text": "x",
    "upper": "never",
    "list": "192.0.2.1",
    "date": "2026-11-23 08:00:00",
    "integer": "25",
    "integers": "300,600",
    "boolean": "yes",
    "mailbox": "<new@example.com>",
}
"""A good value of every kind that the page knows."""

AUTH = b"AUTH PLAIN " + b64encode(b"\0me\0secret")


def rows(after: str) -> list[list[str]]:
    """The cells of the first table behind this heading or line, without its head and backquotes."""
    table = re.search(r"^\|.*?(?=^[^|]|\Z)", PAGE[PAGE.index(after) :], re.MULTILINE | re.DOTALL)
    assert table
    lines = [line.strip().strip("|") for line in table[0].strip().splitlines()]
    return [[cell.strip().replace("`", "") for cell in row.split(" | ")] for row in lines[2:]]


def header_rows() -> list[list[str]]:
    """Header, property and kind of value, but for the row of any other name."""
    *table, other = rows("## Headers")
    assert other[0] == "any other X-MQ-NAME"
    return table


def kinds() -> dict[str, str]:
    """The JSON type of each kind of value in a header."""
    return {kind: shown.partition(";")[0] for kind, _, shown in rows("`queues.results` is the")}


def described() -> dict[str, str]:
    """The type of each property in the page's tables, by its dotted name."""
    found: dict[str, str] = {}
    for prefix, after in [
        ("", "## Properties"),
        ("connection.", "### `connection`"),
        ("connection.proxy.", "`proxy` has"),
        ("dsn.", "### `dsn`"),
    ]:
        for names, types, *_ in rows(after):
            told, of = names.split(", "), types.split(", ")
            of *= 1 if len(of) == len(told) else len(told)  # one type for all names of the row
            found.update((prefix + name, kind) for name, kind in zip(told, of, strict=True))
    del found["others"]
    for _, names, kind in header_rows():
        for name in names.split(", "):
            assert found.setdefault(name, kinds()[kind]) == kinds()[kind]
            if "." in name:
                found[name.partition(".")[0]] = "object"
    return found


def properties(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and type of everything in an object."""
    types = {str: "string", bool: "boolean", int: "integer", dict: "object"}
    for name, each in value.items():
        if isinstance(each, list):
            (kind,) = {types[type(item)] for item in each}
            yield prefix + name, f"list of {kind}s"
        else:
            yield prefix + name, types[type(each)]
        if isinstance(each, dict):
            yield from properties(each, f"{prefix}{name}.")


def test_every_header_is_in_the_table_with_its_property_and_kind() -> None:
    known = {(name, prop, "list") for name, prop in headers.LISTS.items()}
    for name, (group, prop, parse) in headers.SCALARS.items():
        shown = f"{group}.{prop}" if group else prop
        if name == "delayed":
            shown = "delayed, nextattempt.time"
        known.add((name, shown, parse.__name__))
    assert {
        (row[0].lower().removeprefix("x-mq-"), row[1], row[2]) for row in header_rows()
    } == known
    assert {kind for _, _, kind in known} == kinds().keys() == VALUES.keys()


def test_every_name_of_the_server_is_listed() -> None:
    listed = re.search(r"These names.*?_total`: (.*?)\.\n", PAGE, re.DOTALL)
    assert listed
    assert set(re.findall(r"`(.*?)`", listed[1])) == headers.RESERVED - {""}


@pytest.fixture
def published(start_daemon: Callable[..., Daemon], tmp_path: Path) -> list[dict[str, Any]]:
    """Mail with everything that mail can have: over TLS with AUTH, and through a proxy."""
    files = certificates.make(tmp_path)
    inbox = EmbeddedInbox()
    daemon = start_daemon(
        smtp_username="me",
        smtp_password="secret",
        smtp_proxy="127.0.0.2",
        **files.settings,
        **inbox.settings,
    )
    every = "".join(f"{name}: {VALUES[kind]}\r\n" for name, _, kind in header_rows())
    with Wire(daemon.port) as client:
        client.starttls(certificates.client(files.certificate))
        client.ehlo()
        assert client.command(AUTH).code == 235
        mail = "MAIL FROM:<ä@example.com> SMTPUTF8 BODY=8BITMIME RET=HDRS ENVID=x"
        assert client.command(mail).code == 250
        rcpt = "RCPT TO:<b@example.org> NOTIFY=NEVER ORCPT=rfc822;b@example.org"
        assert client.command(rcpt).code == 250
        assert client.data(every.encode() + b"\r\n\xff\r\n").code == 250
    tlvs = tlv(1, b"smtp") + tlv(2, b"mx.example.com") + tlv(5, b"id-1") + SSL
    with Proxied(daemon.port, v2(TCP4 + tlvs), source="127.0.0.2") as client:
        assert client.reply().code == 220
        client.ehlo()
        assert client.command(AUTH).code == 235
        assert client.mail(b"\r\nplain\r\n").code == 250
    return inbox.messages(daemon)


def test_the_page_describes_what_is_published_and_nothing_else(
    published: list[dict[str, Any]],
) -> None:
    found = {name: kind for message in published for name, kind in properties(message)}
    assert found == described()


def test_the_code_writes_no_property_of_another_name() -> None:
    """One that the mail above did not bring about would be found here."""
    files = [ROOT / "fastsmtp" / name for name in ("payload.py", "connection_facts.py")]
    source = "".join(path.read_text("utf-8") for path in files)
    written = set(re.findall(r'(?<!= )"([a-z][a-z0-9-]*)"(?::|\] =)', source))
    assert {"mime-encoding", "cipher", "client-verified", "envid"} <= written
    assert written <= {name.rpartition(".")[2] for name in described()}
