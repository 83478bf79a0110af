"""`fastsmtp reload`: new workers, with the configuration and the code that are on disk now."""

import argparse
import sys

from fastsmtp.process import control
from fastsmtp.process.cli import options


def register(subparsers: options.Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "reload",
        help="let new workers take over, with the configuration and code that are on disk now",
        description="Tells the running daemon to read its configuration and start new workers; "
        "the old ones finish what is begun. Where anything is wrong it is printed, nothing "
        "changes, and the exit status is 1, or 2 where it is the configuration. The same as "
        "SIGHUP, which tells it in the log.",
    )
    parser.add_argument(
        "--pid", type=int, help="process id of the daemon, where several run on this machine"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="take over even with an empty configuration file, or where RabbitMQ refuses the new "
        "workers' login and the old ones are connected",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask the one daemon, or the one that was named."""
    pid = args.pid
    if pid is None:
        found = control.running()
        if len(found) != 1:
            which = ", ".join(map(str, found))
            print(
                f"fastsmtp: several run here, choose one with --pid: {which}"
                if found
                else "fastsmtp: none is running on this machine",
                file=sys.stderr,
            )
            return 1
        (pid,) = found
    try:
        status, said = control.ask_to_reload(pid, args.force)
    except OSError as error:
        print(f"fastsmtp: process {pid} cannot be asked: {error}", file=sys.stderr)
        return 1
    for line in said:
        print(f"fastsmtp: {line}", file=sys.stderr if status else sys.stdout)
    return status
