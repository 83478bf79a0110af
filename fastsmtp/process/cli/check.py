"""`fastsmtp check`: every error of the configuration, or the settings that hold."""

import argparse
import sys

from fastsmtp.process import config
from fastsmtp.process.cli import options


def register(subparsers: options.Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "check",
        help="show every error of the configuration, or the effective settings",
        description="Reads all sources of the configuration. Prints the effective settings as a "
        "config file, passwords masked; or every error, and exits 2. Takes the options that "
        "fastsmtp --help lists.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the settings that hold, and warnings to standard error."""
    settings, warnings = options.load(args)
    for line in warnings:
        print(f"fastsmtp: warning: {line}", file=sys.stderr)
    print(config.written(settings), end="")
    return 0
