"""One line an event, whatever a client sent."""

import json
import logging
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsmtp.peer import Peer
from fastsmtp.process.logs import JsonLines, TextLines
from tests.support.wire import Wire

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ (debug|info|warning|error) (.*)")


def record(message: str, *args: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("fastsmtp.test", level, __file__, 1, message, args, None)


def with_error(message: str) -> logging.LogRecord:
    try:
        raise RuntimeError("first\nsecond")
    except RuntimeError:
        made = record(message)
        made.exc_info = sys.exc_info()
        return made


def test_what_python_ignores_is_one_line():
    code = (
        "import sys\nsys.unraisablehook = logs.ignored\n"
        "class Broken:\n"
        "    def __del__(self): raise RuntimeError('first\\nsecond')\n"
        "Broken()\n"
    )
    (line,) = logged(code, "info", "text")
    assert " error an error was ignored in " in line
    assert "first" in line


def logged(code: str, level: str, kind: str) -> list[str]:
    """What a process that logs so writes to standard error."""
    program = (
        "import logging, warnings\n"
        "from fastsmtp.process import logs\n"
        "from fastsmtp.settings import Settings\n"
        f"logs.setup(Settings(log_level={level!r}, log_format={kind!r}))\n"
        "log = logging.getLogger('fastsmtp.net')\n" + code
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_a_text_line() -> None:
    made = record("message %d", 1)
    made.created, made.msecs = 1795395723.9, 900.7
    assert TextLines().format(made) == "2026-11-23T01:02:03.900Z info message 1"
    assert TextLines(2).format(made) == "2026-11-23T01:02:03.900Z info message 1 worker=2"


def test_a_json_line() -> None:
    made = record('a "b" \u00e9', level=logging.ERROR)
    made.created, made.msecs = 1795395723.9, 900.7
    assert JsonLines().format(made) == (
        '{"time":"2026-11-23T01:02:03.900Z","level":"error","message":"a \\"b\\" \u00e9"}'
    )


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("a\r\n2026-11-23T01:02:03Z info forged", "a\\r\\n2026-11-23T01:02:03Z info forged"),
        ("a\x1b[2Jb\x9b1m\x00\x7f", "a\\x1b[2Jb\\x9b1m\\x00\\x7f"),
        ("a\u2028b\u2029c\u0085d\u202e", "a\\u2028b\\u2029c\\x85d\\u202e"),
        ("caf\u00e9 \udce9", "caf\u00e9 \\udce9"),
    ],
)
def test_what_a_client_sent_is_escaped(sent: str, shown: str) -> None:
    assert LINE.fullmatch(TextLines().format(record("%s", sent)))[2] == shown


@given(st.text(st.characters()))
def test_any_message_is_one_printable_line(message: str) -> None:
    text = TextLines().format(record("%s", message))
    assert text.isprintable()
    line = JsonLines().format(record("%s", message))
    assert line.isprintable()
    assert json.loads(line)["level"] == "info"


def test_a_traceback_stays_in_its_line() -> None:
    text = TextLines().format(with_error("failed"))
    assert text.isprintable()
    assert "info failed\\nTraceback" in text
    assert text.endswith("RuntimeError: first\\nsecond")
    message = json.loads(JsonLines().format(with_error("failed")))["message"]
    assert message.startswith("failed\nTraceback")
    assert message.endswith("RuntimeError: first\nsecond")


def test_events_go_to_standard_error_from_the_level_up() -> None:
    code = (
        "log.debug('1'); log.info('2'); log.warning('3'); log.error('4')\n"
        "logging.getLogger('aiormq').info('2')\n"
        "logging.getLogger('aiormq').warning('3')\n"
    )
    for level, expected in {
        "debug": ["debug 1", "info 2", "warning 3", "error 4", "warning 3"],
        "info": ["info 2", "warning 3", "error 4", "warning 3"],
        "warning": ["warning 3", "error 4", "warning 3"],
        "error": ["error 4"],
    }.items():
        assert [line[25:] for line in logged(code, level, "text")] == expected


def test_libraries_are_heard_from_warning_up() -> None:
    code = (
        "for name in ('aiormq.connection', 'asyncio'):\n"
        "    logging.getLogger(name).debug('a frame'); logging.getLogger(name).warning('trouble')\n"
        "warnings.warn('old')"
    )
    lines = logged(code, "debug", "json")
    messages = [json.loads(line)["message"] for line in lines]
    assert messages[:2] == ["trouble", "trouble"]
    assert "UserWarning: old" in messages[2]
    assert len(messages) == 3


@pytest.mark.parametrize(
    "sent",
    [
        "x user=admin",
        'x" user=admin',
        "x\u00a0user=admin",
        "x\u2028user=admin",
        "x\\ user=admin",
        "user=admin",
        '"',
        "\\",
        "x\r\n2026-11-23T01:02:03.000Z info y user=admin",
    ],
)
def test_nothing_that_a_client_sends_reads_as_another_field(sent: str) -> None:
    peer = Peer("127.0.0.1", 25, "127.0.0.1", 4000)
    peer.session = "s1"
    made = record("said %s", sent)
    made.peer, made.envelope, made.recipient, made.value = peer, sent, sent, sent
    line = TextLines(1).format(made)
    assert line.isprintable()
    names = ["worker", "session", "client", "envelope", "recipient", "value"]
    assert re.findall(r"\b(\w+)=", line) == names
    assert line.count("=") == len(names)
    found = json.loads(JsonLines(1).format(made))
    assert (found["worker"], found["envelope"], found["message"]) == (1, sent, f"said {sent}")


@pytest.mark.parametrize("log_messages", [True, False])
def test_accepted_messages_have_a_line_each_where_that_is_set(start_daemon, log_messages):
    daemon = start_daemon(log_messages=log_messages)
    with Wire(daemon.port) as client:
        client.ehlo()
        ids = client.mail(b"Hi\r\n", recipients=["a@example.org", "b@example.org"]).ids
    daemon.stop()
    found = re.findall(r" info accepted worker=1 session=\w+ (.*)", daemon.log)
    expected = (
        f"client=127.0.0.1 envelope=sender@example.com size=4 recipients=2 ids={','.join(ids)}"
    )
    assert found == [expected] * log_messages


def test_a_worker_names_itself_in_each_line(start_daemon):
    daemon = start_daemon(smtp_threads=2, log_level="debug")
    with Wire(daemon.port) as client:
        client.ehlo()
        assert client.command('MAIL FROM:<a@b>" user=x').code >= 500
    daemon.stop()
    lines = [LINE.fullmatch(line) for line in daemon.log.splitlines()]
    assert all(lines)
    own = [found[2] for found in lines if "session=" in found[2]]
    assert own
    assert all(re.search(r" worker=[12] session=", line) for line in own)
    assert not any("worker=" in found[2] for found in lines if "ready" in found[2])
