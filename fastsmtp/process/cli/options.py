"""Every setting as an option of the command line, MailerQ's keys too, and `--config-file`."""

import argparse
import os
from collections.abc import Sequence
from typing import Any

from fastsmtp.process import config, mailerq
from fastsmtp.process.config import SETTINGS
from fastsmtp.settings import Settings

Subparsers = Any
"""What `ArgumentParser.add_subparsers` gives; argparse has no public name for it."""


class _Keep(argparse.Action):
    """Keeps (key, text) in the order given, so that a key given twice is seen."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        kept = [*getattr(namespace, self.dest, []), (self.option_strings[0][2:], values)]
        setattr(namespace, self.dest, kept)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options, grouped as in the documentation; those of MailerQ are not listed.

    They have no defaults, so that the parser of a subcommand takes back nothing that was given.
    """
    parser.add_argument(
        "--config-file",
        metavar="PATH",
        action="append",
        default=argparse.SUPPRESS,
        help=f"read settings from this file, after {config.DEFAULT_FILE}; may be repeated",
    )
    groups: dict[str, Any] = {}
    for key, about in SETTINGS.items():
        if about.group not in groups:
            groups[about.group] = parser.add_argument_group(about.group)
        groups[about.group].add_argument(
            f"--{key}",
            metavar="VALUE",
            action=_Keep,
            dest="options",
            default=argparse.SUPPRESS,
            help=f"{about.meaning} Default: {about.shown_default}.".replace("%", "%%"),
        )
    for key in mailerq.KEYS:
        parser.add_argument(
            f"--{key}",
            action=_Keep,
            dest="options",
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )


def add_unknown(args: argparse.Namespace, unknown: list[str]) -> None:
    """Let `load` report what no parser knows, beside all other errors."""
    previous = ""
    for word in unknown:
        if word.startswith("-"):
            args.options = [*args.options, (word.lstrip("-").partition("=")[0], "")]
        elif not previous.startswith("-") or "=" in previous:  # else it is the option's value
            args.options = [*args.options, (word, "")]
        previous = word


def load(args: argparse.Namespace) -> tuple[Settings, list[str]]:
    """The settings of all sources, and warnings; raises ConfigError."""
    return config.load(args.config_file, os.environ, args.options)
