"""`fastsmtp convert`: the JSON that files of mail would become, and what to know of their headers.

Takes files and an envelope; runs the code that every accepted message runs, so what it prints is
what would be published. Sends and stores nothing. Status: 0 done, 1 not (a file that cannot be
read, or mail that would be refused; with --strict also a header to look at), 2 wrong arguments.
"""

import argparse
import difflib
import os
import sys
from functools import partial
from pathlib import Path

import orjson

from fastsmtp import replies
from fastsmtp._content import Content
from fastsmtp._parser import CommandError, parse_mail, parse_rcpt
from fastsmtp._session import NEWLINES
from fastsmtp.availability import Availability
from fastsmtp.envelope import Envelope, Recipient
from fastsmtp.escaping import printable
from fastsmtp.headers import LISTS, SCALARS, Lifted, RefusedError
from fastsmtp.metrics import Metrics
from fastsmtp.payload import Composer, Outgoing
from fastsmtp.peer import Peer
from fastsmtp.process.cli import options
from fastsmtp.process.config import ConfigError
from fastsmtp.settings import Settings

_NAMES = [*LISTS, *SCALARS]

Notes = list[tuple[int, str]]
"""Line of the file, and what to know of the header that begins there."""


def register(subparsers: options.Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "convert",
        help="show the JSON that files of mail would become",
        description="Prints the JSON that would be published for each file, one object a "
        "recipient; on standard error every x-mq-* header that is unknown, malformed or the "
        "server's, with its line. Sends nothing. The connection is made up: a client on this "
        "machine. Takes the options that fastsmtp --help lists.",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="a message: headers, body")
    parser.add_argument(
        "--envelope", metavar="A", required=True, help='the address in MAIL FROM; "" for none'
    )
    parser.add_argument(
        "--recipient",
        metavar="B",
        required=True,
        action="append",
        dest="recipients",
        help="an address in RCPT TO; may be repeated",
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 if there is a header to look at"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print every file's objects and notes."""
    settings, _ = options.load(args)
    envelope = _envelope(args.envelope, args.recipients)
    status = 0
    try:
        for file in args.files:
            notes: Notes = []
            try:
                messages = _convert(_octets(file), envelope, settings, notes)
            except (_UnreadableError, RefusedError) as error:
                print(f"{file}: {_why(error)}", file=sys.stderr)
                status = 1
            else:
                for message in messages:
                    _print(message)
            for line, note in notes:
                print(f"{file}:{line}: {note}", file=sys.stderr)
                status = status or int(args.strict)
        sys.stdout.flush()
    except BrokenPipeError:  # "| head": whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


class _UnreadableError(Exception):
    """A file cannot be read; the text says why."""


def _octets(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise _UnreadableError(error.strerror) from None


def _why(error: _UnreadableError | RefusedError) -> str:
    if isinstance(error, RefusedError):
        return f"would be refused: {error.reply.wire.decode().rstrip()}"
    return f"cannot be read: {error}"


class _Noted(Lifted):
    """Lifted that notes each header that may not be what its author meant."""

    __slots__ = ("_at", "_notes")

    def __init__(
        self, content: bytes | bytearray, metrics: Metrics, peer: Peer, *, notes: Notes
    ) -> None:
        super().__init__(content, metrics, peer)
        self._at = 0  # where the value of the header in hand begins
        self._notes = notes

    def lift(self, name: str, start: int, stop: int, octets: int) -> bool:
        self._at = start
        return super().lift(name, start, stop, octets)

    def reserved(self, name: str) -> None:
        self._note(name, f"the server's, stays in the MIME; {_near(name)}")

    def malformed(self, name: str, value: str, expected: str) -> None:
        found = printable(value)
        self._note(name, f"malformed, stays in the MIME; expected {expected}, found {found!r}")

    def own(self, name: str, value: str) -> None:
        self._note(name, f"unknown, becomes a property of this name; {_near(name)}")
        super().own(name, value)

    def _note(self, name: str, note: str) -> None:
        line = self._content.count(b"\n", 0, self._at) + 1
        self._notes.append((line, f"x-mq-{printable(name)}: {note}"))


def _near(name: str) -> str:
    near = difflib.get_close_matches(name, _NAMES, 1)
    return f"expected x-mq-{near[0]}?" if near else "expected a name that docs/json.md lists"


def _envelope(sender: str, recipients: list[str]) -> Envelope:
    """What MAIL and RCPT would make of the addresses; raises ConfigError."""
    smtputf8 = not "".join([sender, *recipients]).isascii()
    try:
        word, shown = "envelope", sender
        mail = parse_mail(os.fsencode(f"FROM:{sender or '<>'}{' SMTPUTF8' * smtputf8}"))
        envelope = Envelope(mail.sender, smtputf8=smtputf8, ret=mail.ret, envid=mail.envid)
        word = "recipient"
        for shown in recipients:
            rcpt = parse_rcpt(os.fsencode(f"TO:{shown}"), smtputf8)
            envelope.recipients.append(Recipient(rcpt.mailbox, rcpt.notify, rcpt.orcpt))
    except CommandError:
        error = f"command line: {word}: expected an address, found {printable(shown)!r}"
        raise ConfigError([error], []) from None
    return envelope


def _convert(octets: bytes, envelope: Envelope, settings: Settings, notes: Notes) -> list[Outgoing]:
    """A file's messages; raises RefusedError."""
    availability = Availability(settings.smtp_maxsize)
    if settings.rabbitmq_maxsize is not None:
        availability.limit_body(settings.rabbitmq_maxsize)
    content = Content(NEWLINES[settings.smtp_bare_newline], availability.maxsize)
    content.feed_chunk(octets, 0, len(octets))
    content.finish()
    if content.too_large:
        raise RefusedError(replies.TOO_LARGE)
    if content.has_bare and settings.smtp_bare_newline == "reject":
        raise RefusedError(replies.BARE_NEWLINE)
    composer = Composer(settings, availability, Metrics(), partial(_Noted, notes=notes))
    return composer.compose(envelope, _peer(settings), content.pieces)


def _peer(settings: Settings) -> Peer:
    """A client on this machine."""
    local = settings.smtp_ip[0] if settings.smtp_ip else "127.0.0.1"
    port = settings.smtp_port[0] if settings.smtp_port else 25
    peer = Peer(local, port, "127.0.0.1", 0)
    peer.helo = settings.smtp_hostname
    return peer


def _print(message: Outgoing) -> None:
    """Over several lines for a reader, on one line for a program."""
    body = bytes(message)
    if sys.stdout.isatty():
        body = orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2)
    sys.stdout.buffer.write(body + b"\n")
