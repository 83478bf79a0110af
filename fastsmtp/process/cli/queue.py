"""`fastsmtp queue`: look at the embedded queue, copy, publish, recover or empty its mail.

Works beside a daemon that writes; finds the file by the daemon's own settings. Status: 0 done,
1 not done (no such queue or message, file unusable, not confirmed), 2 wrong arguments.
"""

import argparse
import base64
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from fastsmtp.escaping import printable
from fastsmtp.payload import Outgoing
from fastsmtp.process.cli import options
from fastsmtp.sinks.recovery import is_queue
from fastsmtp.sinks.store import Entry, Store
from fastsmtp.sinks.store_errors import StoreDamagedError

_PUBLISH = """\
Publishes the messages of the embedded queue to RabbitMQ, oldest first, and deletes each when
RabbitMQ has confirmed it. The daemon may run meanwhile; it ends when the queue is empty. What
RabbitMQ does not take stays in the queue and is told; the exit status is 1 then.

It may be interrupted (Control-C) and run again: nothing is lost. Each message is published at
least once: after a crash, kill -9 or the loss of the broker, those that were on their way are
published a second time, with the same message-id.

Takes the options that fastsmtp --help lists. A daemon that fills the embedded queue is configured
with rabbitmq-address: none, so the address is given here:

  fastsmtp queue publish --config-file /etc/fastsmtp/config.txt \\
      --rabbitmq-address amqp://user:password@localhost/ --rabbitmq-inbox inbox

or --rabbitmq-address @FILE, which holds the address and its password."""

_RECOVER = """\
Brings back the messages of a damaged queue file: all that lie on undamaged pages, whatever else is
damaged. They go into the queue (--queue-file), with the time of their acceptance; those whose id is
there already are left out. The daemon may run meanwhile.

The daemon does so by itself: it sets a damaged file aside as QUEUE.damaged-TIME, goes on with a new
one, and recovers what is set aside. This command is for a file that lies elsewhere, for a daemon
that does not run, and for the queue itself (FILE is QUEUE), which it sets aside first.

FILE itself is not changed. FILE-wal is read where it is there: keep the two together."""

_NAMES = "the message-id, a beginning that no other has, or the number that list shows"


class _NotDoneError(Exception):
    """What to tell the operator instead of doing it."""


def register(subparsers: options.Subparsers) -> None:
    """Add the subcommand and its own ones."""
    parser = subparsers.add_parser(
        "queue",
        help="list, show, export, publish, recover or purge the mail in the embedded queue",
        description="Looks into the embedded queue; the daemon may run meanwhile. Takes the "
        "options that fastsmtp --help lists; --queue-file and --config-file say which queue.",
    )
    parser.set_defaults(run=run, work=None, parser=parser)
    actions = parser.add_subparsers(title="commands", metavar="COMMAND")

    action = actions.add_parser("list", help="a line for each message, oldest first")
    action.add_argument("--limit", type=_number, metavar="N", help="show the first N only")
    action.set_defaults(work=_list)

    action = actions.add_parser("show", help="print one message as JSON")
    action.add_argument(
        "id", metavar="ID", help=f"{_NAMES}; last: the message that was stored last"
    )
    action.add_argument("--mime", action="store_true", help="the content alone, byte for byte")
    action.set_defaults(work=_show)

    action = actions.add_parser("export", help="write each message into a file ID.json")
    action.add_argument("folder", metavar="DIR", type=Path, help="made where it is missing")
    action.add_argument("--eml", action="store_true", help="its content into ID.eml, too")
    action.set_defaults(work=_export)

    action = actions.add_parser(
        "publish",
        help="send everything to RabbitMQ, deleting what it has confirmed",
        description=_PUBLISH,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    action.set_defaults(work=_publish)

    action = actions.add_parser(
        "recover",
        help="bring back what is whole in a damaged queue file",
        description=_RECOVER,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    action.add_argument("file", metavar="FILE", help="the damaged file")
    action.set_defaults(work=_recover)

    action = actions.add_parser("purge", help="delete messages; they are lost")
    action.add_argument("ids", metavar="ID", nargs="*", help=f"these only: {_NAMES}. Without: all")
    action.add_argument("--yes", action="store_true", help="do not ask")
    action.set_defaults(work=_purge)


def run(args: argparse.Namespace) -> int:
    """Do what was asked for, or say why not."""
    if args.work is None:
        args.parser.print_help()
        return 2
    args.settings, _ = options.load(args)
    status: int | None
    try:
        if args.work is _recover:
            return int(_recover(args))
        store = _open(args.settings.queue_file)
        try:
            status = args.work(store, args)
            sys.stdout.flush()
        finally:
            store.close()
    except BrokenPipeError:  # "| head": whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except StoreDamagedError as error:
        print(f"fastsmtp: {error}{_advice(args.settings.queue_file)}", file=sys.stderr)
        return 1
    except (_NotDoneError, OSError) as error:
        print(f"fastsmtp: {error}", file=sys.stderr)
        return 1
    return status or 0


def _advice(path: str) -> str:
    """What to do about a queue that is damaged, where it was a queue."""
    if not is_queue(path):
        return ""
    return f'; "fastsmtp queue recover {path}" sets it aside and brings back what is whole'


def _open(path: str) -> Store:
    try:
        return Store(path)
    except FileNotFoundError:
        raise _NotDoneError(
            f"no queue at {path}: no mail has been put there yet, or it is elsewhere "
            "(--queue-file, --config-file)"
        ) from None


def _list(store: Store, args: argparse.Namespace) -> None:
    total = store.count()
    if not total:
        print(f"The queue {store.path} is empty.")
        return
    shown = 0
    print(f"{'NO':<6}  {'ID':30}  {'RECEIVED (UTC)':19}  {'SIZE':>10}  {'ENVELOPE':30}  RECIPIENT")
    for entry in _entries(store, args.limit):
        known = _properties(store, entry)
        envelope = f"<{printable(str(known.get('envelope', '')))}>"
        recipient = f"<{printable(str(known.get('recipient', '')))}>"
        received = known.get("received", "")
        print(
            f"{entry.seq:<6}  {entry.id:30}  {received:19}  {entry.size:>10}  {envelope:30}  "
            f"{recipient}"
        )
        shown += 1
    print(f"{total} {_messages(total)}" + (f", {shown} shown" if shown < total else ""))


def _show(store: Store, args: argparse.Namespace) -> None:
    last = args.id.lower() == "last"
    message = _message(store, _newest_id(store) if last else _whole_id(store, args.id))
    body = _body(message)
    out = _content(body) if args.mime else orjson.dumps(body, option=orjson.OPT_INDENT_2) + b"\n"
    sys.stdout.buffer.write(out)


def _export(store: Store, args: argparse.Namespace) -> None:
    args.folder.mkdir(parents=True, exist_ok=True)
    total = store.count()
    watched = sys.stderr.isatty()
    done = 0
    for entry in _entries(store):
        message = store.get(entry.id)
        if message is None:  # deleted meanwhile
            continue
        _write(args.folder / f"{message.id}.json", bytes(message))
        if args.eml:
            _write(args.folder / f"{message.id}.eml", _content(_body(message)))
        done += 1
        if watched and done % 100 == 0:
            print(f"\r{done} of {total} {_messages(total)}", end="", file=sys.stderr, flush=True)
    if watched and done >= 100:
        print(file=sys.stderr)
    print(f"{done} {_messages(done)} exported to {args.folder}")


def _publish(store: Store, args: argparse.Namespace) -> int:
    from fastsmtp.process.cli import publish  # late: the others start without its libraries

    return publish.run(store, args.settings)


def _recover(args: argparse.Namespace) -> int:
    from fastsmtp.process.cli import recover  # late, as above

    return recover.run(args.settings.queue_file, args.file, args.settings.rabbitmq_spill)


def _purge(store: Store, args: argparse.Namespace) -> None:
    ids = {_whole_id(store, one) for one in args.ids}
    number = len(ids) if ids else store.count()
    if not number:
        print(f"The queue {store.path} is empty.")
        return
    what = f"{number} {_messages(number)}"
    if not args.yes:
        if not sys.stdin.isatty():
            raise _NotDoneError(f"{what} would be deleted: add --yes if they should")
        answer = input(f"Delete {what} from {store.path}? They are lost then. [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            raise _NotDoneError("nothing was deleted")
    deleted = store.delete(ids) if ids else store.purge()
    print(f"{deleted} {_messages(deleted)} deleted")


def _entries(store: Store, limit: int | None = None) -> Iterator[Entry]:
    """All rows, or the first `limit`, in short reads: a long one would keep the WAL growing."""
    after, left = 0, sys.maxsize if limit is None else limit
    while left and (entries := store.entries(after, min(left, 500))):
        yield from entries
        after = entries[-1].seq
        left -= len(entries)


def _properties(store: Store, entry: Entry) -> dict[str, Any]:
    """What stands before `mime`, which is the last property: the rest need not be read."""
    head, mime, _ = entry.head.partition(b',"mime":"')  # in a string, quotes have backslashes
    if mime:
        return dict(orjson.loads(head + b"}"))
    message = store.get(entry.id)
    return {} if message is None else _body(message)


def _message(store: Store, id: str) -> Outgoing:
    message = store.get(id)
    if message is None:
        raise _NotDoneError(f"message {id} is no longer in the queue")
    return message


def _body(message: Outgoing) -> dict[str, Any]:
    return dict(orjson.loads(bytes(message)))


def _content(body: dict[str, Any]) -> bytes:
    """The content of the message as it was received, less lifted headers."""
    if body.get("mime-encoding") == "base64":
        return base64.b64decode(body["mime"])
    return str(body["mime"]).encode()


def _newest_id(store: Store) -> str:
    for entry in store.entries(store.newest() - 1, 1):
        return entry.id
    raise _NotDoneError(f"the queue {store.path} is empty")


def _whole_id(store: Store, name: str) -> str:
    """The id of the message that has this number, or of the only one whose id begins so."""
    # A number has no leading zero, and an id begins with one until the year 3084.
    if re.fullmatch(r"[1-9][0-9]{0,17}", name):
        for entry in store.entries(int(name) - 1, 1):
            if entry.seq == int(name):
                return entry.id
    found = store.matching(name.upper())
    if len(found) == 1 or name.upper() in found:
        return found[0]  # the shortest comes first
    if found:
        raise _NotDoneError(
            f"{name} begins more than one id ({', '.join(found)}): give more of it, "
            'or the number that "queue list" shows'
        )
    raise _NotDoneError(f"no message {printable(name)} in {store.path}")


def _write(path: Path, *pieces: bytes | bytearray) -> None:
    """A new file, mode 0600, whole or not at all; never over an old one."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise _NotDoneError(f"{path} exists: export to another folder, or remove it") from None
    try:
        with open(descriptor, "wb") as file:
            file.writelines(pieces)
    except BaseException:
        path.unlink()
        raise


def _messages(number: int) -> str:
    return "message" if number == 1 else "messages"


def _number(text: str) -> int:
    if not re.fullmatch("0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, found {text!r}")
    return int(text)
