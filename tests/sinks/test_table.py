"""sinks/table: a new sink takes a class that says when it is chosen, and a row of the table."""

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from types import MappingProxyType

import pytest

from fastsmtp import values
from fastsmtp.availability import Availability
from fastsmtp.counters import IN_A_ROW, Counters
from fastsmtp.declaration import setting
from fastsmtp.exposed import Exposed
from fastsmtp.metrics import Metrics
from fastsmtp.needs import Use
from fastsmtp.process import checks, cli, config, exposition, http, metrics_page
from fastsmtp.process.totals import total
from fastsmtp.settings import Settings
from fastsmtp.sinks import table
from fastsmtp.sinks.choice import Choice, Verdict
from tests.support.held import Inside
from tests.support.wire import Wire

# What would be a package of its own: a sink that appends mail to a file, and its choice.


class MailboxCounters(Counters):
    """A counter, a gauge, and what `/ready` reads."""

    exposed = MappingProxyType(
        {
            "mailbox_mails": Exposed("counter", "fastsmtp_mailbox_mails", "Mails in the mailbox"),
            "mailbox_open": Exposed("gauge", "fastsmtp_mailbox_open", "Workers that write into it"),
        }
    )

    def __init__(self):
        self.mailbox_mails = 0
        self.mailbox_open = 0
        self.failures = {}

    def counted(self):
        return {**super().counted(), "failures": self.failures}


class Mailbox:
    """Appends each recipient's JSON to a file."""

    def __init__(self, path, counters):
        self.path = path
        self.counters = counters
        self.counters.mailbox_open = 1

    async def start(self):
        """Nothing has to be opened."""

    def put(self, message, settle):
        with open(self.path, "ab") as file:
            file.writelines(bytes(row) + b"\n" for row in message)
            file.flush()
            os.fsync(file.fileno())
        self.counters.mailbox_mails += len(message)
        asyncio.get_running_loop().call_soon(settle, [None] * len(message))

    async def close(self, grace=0.0):
        """Nothing is open."""

    def __str__(self):
        return f"the mailbox {self.path}"


class ToMailbox(Choice):
    """Chosen by a setting of its own."""

    reads = ("mailbox_key",)
    counters = MailboxCounters

    def is_chosen(self, settings):
        return bool(settings.mailbox)

    def uses(self, settings):
        yield Use("mailbox", settings.mailbox, writes=True, makes_folder=False)

    def warnings(self, settings):
        yield "a mailbox only grows"

    def make(self, settings, availability, counters, worker):
        return Mailbox(settings.mailbox, counters)

    async def examine(self, settings):
        full = settings.mailbox.endswith("full")
        return Verdict(not full, ["I looked"], ["it is full"] if full else [])

    def snapshot(self, settings):
        return {"queue_octets": os.path.getsize(settings.mailbox)}


@dataclass(frozen=True, kw_only=True, repr=False)
class More(Settings):
    mailbox: str = setting("Mailbox", values.PATH, "", "File that takes the mail.")
    mailbox_key: str = setting("Mailbox", values.PATH, "", "Its key.")


@pytest.fixture
def more(monkeypatch):
    """The table with one row more."""
    monkeypatch.setattr(table, "SINKS", (ToMailbox(), *table.SINKS))
    monkeypatch.setattr("tests.support.held.Settings", More)


@pytest.mark.usefixtures("more")
def test_a_worker_stores_mail_in_a_new_sink(tmp_path):
    path = tmp_path / "mailbox"
    settings = More(smtp_hostname="mx", mailbox=str(path))
    with Inside(make_sink=table.make, mailbox=str(path)) as server:
        assert str(server.sink) == f"the mailbox {path}"  # for the ready line
        with Wire(server.port) as client:
            client.ehlo()
            assert client.mail(b"Subject: Hello\r\n\r\nHi\r\n").code == 250
        assert b"Subject: Hello" in path.read_bytes()
    assert table.chosen(settings).snapshot(settings) == {"queue_octets": path.stat().st_size}


@pytest.mark.usefixtures("more")
def test_counters_of_a_new_sink_are_shown_summed_over_workers(tmp_path):
    def snapshot(server):  # as it goes to the supervisor
        found = server.do(lambda: server.metrics.snapshot(server.availability))
        return json.loads(json.dumps(found))

    def shown(snapshot):
        return exposition.text(snapshot).decode().splitlines()

    mailbox = {"make_sink": table.make, "mailbox": str(tmp_path / "mailbox")}
    with Inside(**mailbox) as first, Inside(**mailbox) as second:
        for server, mails in ((first, 1), (second, 2)):
            with Wire(server.port) as client:
                client.ehlo()
                for _ in range(mails):
                    assert client.mail(b"Subject: Hello\r\n\r\nHi\r\n").code == 250
        page = shown(total([snapshot(first), snapshot(second)]))
        assert "# HELP fastsmtp_mailbox_mails_total Mails in the mailbox" in page
        assert "fastsmtp_mailbox_mails_total 3.0" in page
        assert "fastsmtp_mailbox_open 2.0" in page
        assert "fastsmtp_broker_confirmed_total 0.0" in page
        # What an ended worker counted stays, what it was does not.
        page = shown(total([snapshot(first)], [snapshot(second)]))
        assert "fastsmtp_mailbox_mails_total 3.0" in page
        assert "fastsmtp_mailbox_open 1.0" in page
        first.sink.counters.failures = {f"{time.monotonic():.6f} the mailbox is gone": IN_A_ROW}
        assert http.trouble(snapshot(first)) == "mail is not stored: the mailbox is gone"
    with Inside(make_sink=table.make, queue_file=str(tmp_path / "q"), rabbitmq_address=()) as other:
        assert "fastsmtp_mailbox_mails_total 0.0" in shown(snapshot(other))
    row = "| `fastsmtp_mailbox_open` | gauge |  | Workers that write into it |"
    assert row in metrics_page.page()


@pytest.mark.usefixtures("more")
def test_check_asks_a_new_sink_what_it_needs(tmp_path):
    def found(**given):
        settings = More(smtp_hostname="mx", smtp_ip=("127.0.0.1",), **given)
        return list(checks.errors(settings)), list(checks.warnings(settings))

    queue = {"rabbitmq_address": (), "queue_file": str(tmp_path / "gone" / "queue.db")}
    assert found(mailbox=str(tmp_path / "m"), **queue) == ([], ["a mailbox only grows"])
    ((keys, why),), _ = found(mailbox=str(tmp_path / "gone" / "m"))
    assert (keys, "is missing, create it" in why) == (("mailbox",), True)
    ((keys, why),), _ = found(mailbox_key=str(tmp_path / "gone"))
    assert (keys, "expected a file that can be read" in why) == (("mailbox_key",), True)
    ((keys, _),), warnings = found(**queue)
    assert (keys, warnings) == (("queue-file",), [])


@pytest.mark.usefixtures("more")
def test_check_connect_looks_at_a_new_sink(monkeypatch, capsys):
    for name, status in (("mailbox", 0), ("full", 1)):
        settings = More(smtp_hostname="mx", mailbox=name)
        monkeypatch.setattr(
            "fastsmtp.process.cli.options.load", lambda _, settings=settings: (settings, [])
        )
        assert cli.main(["check", "--connect"]) == status
    said = capsys.readouterr()
    assert said.out.count("\n# I looked\n") == 2
    assert said.err == "fastsmtp: error: it is full\n"


@pytest.mark.parametrize(
    ("address", "shown"),
    [("amqp://me:hunter2@h/v", "RabbitMQ at amqp://me@h/v"), ("none", "the queue file /q")],
)
def test_the_address_of_the_broker_chooses(address, shown):
    settings = config.from_texts({"rabbitmq-address": address, "queue-file": "/q"})

    async def name():
        return str(table.make(settings, Availability(1), Metrics()))

    assert asyncio.run(name()) == shown


def test_commands_that_read_settings_import_no_library_of_a_sink():
    code = """
import sys
from fastsmtp.process import config
config.load()
print(*({"aio_pika", "aiormq", "uvloop"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
