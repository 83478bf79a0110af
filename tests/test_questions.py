"""questions and net/answerers: a new question takes a class, a row of the table and a setting."""

import asyncio
from dataclasses import dataclass

import pytest

from fastsmtp import replies, values
from fastsmtp.declaration import setting
from fastsmtp.memory_budget import FLAT
from fastsmtp.net import answerers
from fastsmtp.questions import Message, Question
from fastsmtp.refusals import Refusal
from fastsmtp.replies import Reply
from fastsmtp.settings import Settings
from tests.support.held import Inside
from tests.support.patience import until
from tests.support.wire import Wire

# What would be a file of its own: the question, who answers it, when somebody is configured to.

BLOCKED = Reply(550, "5.7.1", "Sender is blocked")


class Sender(Question):
    """May mail come from this address?"""

    command = b"MAIL"

    def __init__(self, peer, envelope):
        super().__init__(peer)
        self.envelope = envelope


class Recipient(Question):
    """May mail go to the envelope's last recipient?"""

    command = b"RCPT"

    def __init__(self, peer, envelope):
        super().__init__(peer)
        self.mailbox = envelope.recipients[-1].mailbox


class Blocked:
    """Refuses one address: of senders when the loop comes round, of recipients at once."""

    def __init__(self, parts):
        self.address = parts.settings.smtp_blocked
        self.refusals = parts.refusals

    def ask(self, question, answered):
        if isinstance(question, Recipient):
            return self.reply(question, question.mailbox)
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: answered(question, self.reply(question, question.envelope.sender)))
        return None

    def reply(self, question, address):
        if address != self.address:
            return replies.OK
        self.refusals.tell(Refusal(BLOCKED, question.peer))
        return BLOCKED


def blocked(parts):
    return Blocked(parts) if parts.settings.smtp_blocked else None


@dataclass(frozen=True, kw_only=True, repr=False)
class More(Settings):
    smtp_blocked: str = setting("Access", values.TEXT, "", "Address that is refused.")


@pytest.fixture
def inside(monkeypatch):
    """A worker whose table has two rows more."""
    for question in (Sender, Recipient):
        monkeypatch.setitem(answerers.ANSWERERS, question, blocked)
    monkeypatch.setattr("tests.support.held.Settings", More)
    return Inside


def test_an_answer_lets_a_command_pass_or_takes_it_back(inside):
    with inside(smtp_blocked="bad@example.com") as server, Wire(server.port) as client:
        server.sink.auto = True
        client.ehlo()
        assert client.command("MAIL FROM:<bad@example.com>").raw == BLOCKED.wire
        assert client.command("RCPT TO:<a@example.com>").code == 503
        assert client.command("MAIL FROM:<good@example.com>").raw == replies.SENDER_OK.wire
        assert client.command("RCPT TO:<bad@example.com>").raw == BLOCKED.wire
        assert client.command("DATA").raw == replies.NO_RECIPIENTS.wire
        assert client.command("RCPT TO:<a@example.com>").raw == replies.RECIPIENT_OK.wire
        assert client.command("RCPT TO:<bad@example.com>").raw == BLOCKED.wire
        assert client.data(b"Hi\r\n").code == 250
        assert len(server.sink.messages) == len(server.sink.messages[0]) == 1


def test_recipients_that_are_taken_back_hold_no_memory(inside):
    with (
        inside(smtp_blocked="bad@example.com", smtp_maxerrors=100) as server,
        Wire(server.port) as client,
    ):
        client.ehlo()
        assert client.command("MAIL FROM:<good@example.com>").code == 250
        for _ in range(40):
            assert client.command("RCPT TO:<bad@example.com>").raw == BLOCKED.wire
        assert server.availability.memory.held == FLAT


def test_what_a_client_pipelines_waits_for_the_answer(inside):
    with inside(smtp_blocked="bad@example.com") as server, Wire(server.port) as client:
        server.sink.auto = True
        client.send(
            b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<bad@example.com>\r\n"
            b"RCPT TO:<b@example.com>\r\nRCPT TO:<c@example.com>\r\nDATA\r\nHi\r\n.\r\nNOOP\r\n"
        )
        codes = [reply.code for reply in client.replies(8)]
        assert codes == [250, 250, 550, 250, 250, 354, 250, 250]
        (message,) = server.sink.messages
        assert len(message) == 2


def test_who_hangs_up_meanwhile_harms_nobody(inside):
    with inside(smtp_blocked="bad@example.com") as server:
        for _ in range(20):
            with Wire(server.port) as client:
                client.send(b"EHLO x\r\nMAIL FROM:<bad@example.com>\r\n")
        until(lambda: not server.connections)
        with Wire(server.port) as client:
            client.ehlo()
            assert client.command("MAIL FROM:<bad@example.com>").code == 550


def test_nobody_is_asked_what_nobody_is_configured_to_answer(inside, monkeypatch):
    made = []
    monkeypatch.setattr(Sender, "__init__", lambda *_: made.append(1))
    with inside() as server, Wire(server.port) as client:
        server.sink.auto = True
        client.ehlo()
        assert client.mail(b"Hi\r\n", sender="bad@example.com").code == 250
        assert set(server.listener._server.answerers) == {Message}
    assert made == []
