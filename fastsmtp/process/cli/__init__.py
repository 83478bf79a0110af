"""The command `fastsmtp`: one module a subcommand, each with `register` and `run`.

`register(subparsers)` adds the subcommand's parser and its own arguments, and ends with
`parser.set_defaults(run=run)`. `run(args)` does the work and returns the exit status. Settings
are options of every subcommand; `options.load(args)` turns them into `Settings`.
"""

import argparse
import sys
from collections.abc import Sequence

from fastsmtp import __version__
from fastsmtp.process.cli import check, convert, options, passwd, queue, reload, serve
from fastsmtp.process.config import ConfigError

COMMANDS = (serve, reload, check, convert, queue, passwd)

_DESCRIPTION = """\
Accepts mail over SMTP, turns each message into JSON and publishes it to RabbitMQ, or puts it
into an embedded queue. A client hears 250 when the broker, or the disk, has the mail.

examples:
  fastsmtp --smtp-port 2525 --rabbitmq-address amqp://guest:guest@localhost/
      serve on port 2525; without a broker: --rabbitmq-address none
  fastsmtp check --config-file /etc/fastsmtp/config.txt
      show every error of a configuration, or the settings that hold
  fastsmtp queue list
      show the mail in the embedded queue
  fastsmtp convert mail.eml --envelope you@example.com --recipient friend@example.org
      show the JSON that a message would become

A setting is a line "key: value" of a config file, a variable FASTSMTP_SMTP_PORT of the
environment, or an option --smtp-port; a later source wins, in this order.
A value @/path/to/file stands for what the file holds: use it for passwords, as everybody on
the machine can read a command line."""


_USAGE = "fastsmtp [COMMAND] [--SETTING VALUE ...]"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit status (2: wrong arguments or configuration)."""
    settings = argparse.ArgumentParser("fastsmtp", _USAGE, add_help=False, allow_abbrev=False)
    options.add(settings)
    settings.set_defaults(config_file=[], options=[])
    given, rest = settings.parse_known_args(argv)  # before and behind the subcommand
    if not rest or (rest[0].startswith("-") and rest[0] not in ("-h", "--help", "--version")):
        rest.insert(0, "serve")
    args, unknown = _parser().parse_known_args(rest, given)
    options.add_unknown(args, unknown)
    try:
        status: int = args.run(args)
    except ConfigError as error:
        for line in error.warnings:
            print(f"fastsmtp: warning: {line}", file=sys.stderr)
        for line in error.errors:
            print(f"fastsmtp: error: {line}", file=sys.stderr)
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "fastsmtp",
        _USAGE,
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fastsmtp {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", prog="fastsmtp")
    for command in COMMANDS:
        command.register(subparsers)
    options.add(parser)  # for --help
    return parser
