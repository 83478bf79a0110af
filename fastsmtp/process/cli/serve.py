"""`fastsmtp serve`: accept mail until a signal ends it."""

import argparse
import logging

from fastsmtp.process import logs
from fastsmtp.process.cli import options


def register(subparsers: options.Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "serve",
        allow_abbrev=False,
        usage="fastsmtp serve [--SETTING VALUE ...]",
        help="accept mail; what fastsmtp does where no command is given",
        description="Accepts mail until SIGTERM or SIGINT; SIGHUP reloads (fastsmtp reload).",
    )
    options.add(parser)  # for --help
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check the configuration, then serve with it."""
    settings, warnings = options.load(args)
    logs.setup(settings)
    for line in warnings:
        logging.getLogger(__name__).warning("%s", line)
    from fastsmtp.process import supervisor  # late: other commands start without its libraries
    from fastsmtp.process.reading import Sources

    return supervisor.run(settings, Sources(args.config_file, args.options))
