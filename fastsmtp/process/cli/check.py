"""`fastsmtp check`: every error of the configuration, or the settings that hold.

With `--connect` also whether mail would be accepted at the broker now: status 0, else 1.
"""

import argparse
import sys

from fastsmtp.process import config
from fastsmtp.process.cli import options
from fastsmtp.process.config import ConfigError
from fastsmtp.settings import Settings
from fastsmtp.sinks import table


def register(subparsers: options.Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "check",
        help="show every error of the configuration, or the effective settings",
        description="Reads all sources of the configuration. Prints the effective settings as a "
        "config file, passwords masked; or every error, and exits 2. Takes the options that "
        "fastsmtp --help lists.",
    )
    parser.add_argument(
        "--connect",
        action="store_true",
        help="also log in to RabbitMQ at every address and say what mail would meet there; "
        "creates and publishes nothing. Exits 1 where mail would not be accepted",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the settings that hold, and warnings to standard error."""
    settings, warnings = options.load(args)
    for line in warnings:
        print(f"fastsmtp: warning: {line}", file=sys.stderr)
    print(config.written(settings), end="")
    return _connect(settings) if args.connect else 0


def _connect(settings: Settings) -> int:
    """Say what mail would meet: good news as comments of the config file, the rest as errors."""
    import uvloop  # late: it takes a while to import

    try:
        accepted, good, bad = uvloop.run(table.chosen(settings).examine(settings))
    except (OSError, ValueError) as error:
        raise ConfigError([str(error)], []) from error
    if good:
        print()
    for line in good:
        print(f"# {line}")
    sys.stdout.flush()
    for line in bad:
        print(f"fastsmtp: {'warning' if accepted else 'error'}: {line}", file=sys.stderr)
    return 0 if accepted else 1
