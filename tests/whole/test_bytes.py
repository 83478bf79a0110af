"""From a raw socket to the queue: SHA-256 of what is stored is the oracle's, by DATA and by BDAT.

The daemon is the real one with the embedded queue; content is the corpus, CPython's own e-mail
test data, and what hypothesis makes up.
"""

import hashlib
import itertools
import json
from base64 import b64decode
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.oracle import content as oracle
from tests.oracle import corpus, message, strategies
from tests.support.daemon import Daemon
from tests.support.wire import Reply, Wire

SENDER, RECIPIENT = "sender@example.com", "rcpt@example.org"


class Exchange:
    """One connection that sends messages and remembers what the queue must hold for each id."""

    def __init__(self, daemon: Daemon, mode: str) -> None:
        self.daemon = daemon
        self.mode = mode
        self.expected: dict[str, tuple[str, dict]] = {}
        self.wire = Wire(daemon.port)
        self.wire.ehlo()
        self.peer = message.Peer(
            local_port=daemon.port, remote_port=self.wire.socket.getsockname()[1]
        )

    def begin(self) -> None:
        """MAIL and RCPT in one packet."""
        self.wire.send(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{RECIPIENT}>\r\n".encode())
        assert [reply.code for reply in self.wire.replies(2)] == [250, 250]

    def by_data(self, octets: bytes, name: object = None) -> None:
        """`octets` as they are behind 354; they must hold one end of data, at their end."""
        seen = oracle.by_data(octets, self.mode)
        assert seen is not None
        assert seen.used == len(octets), "the test sends bytes behind the content"
        self.begin()
        assert self.wire.command("DATA").code == 354
        self.wire.send(octets)
        self.check(seen, self.wire.reply(), name)

    def by_bdat(self, text: bytes, sizes: list[int], name: object = None) -> None:
        """`text` in chunks of `sizes` and one for the rest, pipelined."""
        self.begin()
        commands = oracle.bdat(text, sizes)
        self.wire.send(b"".join(commands))
        assert {reply.code for reply in self.wire.replies(len(commands) - 1)} <= {250}
        self.check(oracle.by_bdat([text], self.mode), self.wire.reply(), name)

    def check(self, seen: oracle.Received, reply: Reply, name: object) -> None:
        envelope = message.Envelope(SENDER, [message.Recipient(RECIPIENT)])
        told = message.published(seen.content, envelope, message.Settings(), self.peer)
        refusal = seen.refusal or told.refusal
        if refusal:
            assert (reply.code, reply.lines[0].split()[0]) == refusal, name
            return
        assert reply.code == 250, (name, reply)
        (identifier,) = reply.ids
        digest = hashlib.sha256(told.mime).hexdigest()
        told.objects[0].pop("mime")
        assert identifier not in self.expected
        self.expected[identifier] = (digest, told.objects[0])


def queued(daemon: Daemon) -> Iterable[tuple[str, str, dict]]:
    """(identifier, SHA-256 of the content, the other properties) of everything in the queue."""
    folder = daemon.folder / "export"
    daemon.queue("export", str(folder))
    for path in folder.glob("*.json"):
        stored = json.loads(path.read_bytes())
        text = stored.pop("mime")
        octets = b64decode(text) if stored.get("mime-encoding") == "base64" else text.encode()
        stored.pop("received")
        yield stored.pop("message-id"), hashlib.sha256(octets).hexdigest(), stored


def assert_queue_holds(daemon: Daemon, *exchanges: Exchange) -> None:
    """Exactly what was answered with 250 is in the queue, byte for byte."""
    expected = dict(itertools.chain(*(exchange.expected.items() for exchange in exchanges)))
    found = {identifier: (digest, rest) for identifier, digest, rest in queued(daemon)}
    assert expected
    assert found.keys() == expected.keys()
    wrong = {key: (found[key], expected[key]) for key in found if found[key] != expected[key]}
    assert not wrong


@pytest.fixture(params=oracle.MODES)
def exchange(request, start_daemon):
    daemon = start_daemon(smtp_bare_newline=request.param, smtp_maxerrors=1_000_000)
    made = Exchange(daemon, request.param)
    yield made
    made.wire.close()


def test_the_corpus_arrives(exchange):
    for name, text in corpus.contents():
        exchange.by_bdat(text, [len(text) // 3, 0, 1], name)
        if oracle.fits_data(text):
            exchange.by_data(oracle.data(text), name)
    assert_queue_holds(exchange.daemon, exchange)


@pytest.mark.skipif(not corpus.python_messages(), reason=corpus.NO_PYTHON_MESSAGES)
def test_the_messages_of_cpython_arrive(exchange):
    for name, text in corpus.python_messages():
        exchange.by_bdat(text, [], name)
        whole = text if oracle.fits_data(text) else text + b"\r\n"
        exchange.by_data(oracle.data(whole), name)
    assert_queue_holds(exchange.daemon, exchange)


def test_generated_messages_arrive(exchange):
    @settings(max_examples=150, suppress_health_check=list(HealthCheck), database=None)
    @given(st.one_of(strategies.messages(), strategies.newline_soup()), st.data())
    def send(text, draw):
        exchange.by_bdat(text, draw.draw(st.lists(st.integers(0, 30), max_size=4)))
        # The same octets as hostile wire bytes, up to the end of data that they hold or get.
        octets = text + b"\r\n.\r\n"
        exchange.by_data(octets[: oracle.by_data(octets).used])

    send()
    assert_queue_holds(exchange.daemon, exchange)


def test_content_that_arrives_octet_by_octet_is_the_same(exchange):
    names = ("dots-", "bare-", "headers-")
    pieces = [text for name, text in corpus.contents() if name.startswith(names)]
    small = [text for text in pieces if len(text) < 100 and oracle.fits_data(text)]
    assert small
    for text in small:
        exchange.begin()
        assert exchange.wire.command("DATA").code == 354
        octets = oracle.data(text)
        for octet in octets:
            exchange.wire.send(bytes([octet]))
        exchange.check(oracle.by_data(octets, exchange.mode), exchange.wire.reply(), text)
    assert_queue_holds(exchange.daemon, exchange)
