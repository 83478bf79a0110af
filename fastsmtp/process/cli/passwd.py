"""`fastsmtp passwd`: the line of a user for the file of `smtp-auth: file:///path`.

The password comes from the terminal, twice, or is the first line of standard input. Status: 0
done, 1 no password, 2 wrong arguments.
"""

import argparse
import getpass
import sys

from fastsmtp.process.cli import options


def register(subparsers: options.Subparsers) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "passwd",
        help="print the line of a user for smtp-auth: file:///path",
        description="Asks for a password, or reads the first line of standard input, and prints "
        "USER and its argon2id hash as a line for the file of smtp-auth: file:///path.",
    )
    parser.add_argument("name", metavar="USER", type=_name, help="who authenticates with it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the line, or say why not."""
    from fastsmtp.net.auth import hashes  # late: other commands need no library for it

    try:
        password = _password()
    except (ValueError, EOFError, KeyboardInterrupt) as error:
        print(f"fastsmtp: {error or 'no password was given'}", file=sys.stderr)
        return 1
    print(f"{args.name}:{hashes.hashed(password)}")
    return 0


def _password() -> bytes:
    """Raises ValueError, whose text says what is wrong."""
    if sys.stdin.isatty():
        given = getpass.getpass("Password: ")
        if given != getpass.getpass("Again: "):
            raise ValueError("they are not the same")
        password = given.encode()
    else:
        password = sys.stdin.buffer.readline().rstrip(b"\r\n")
    if not password:
        raise ValueError("a password must not be empty")
    return password


def _name(text: str) -> str:
    if not text.isprintable() or ":" in text or text != text.strip() or text[:1] in ("", "#"):
        raise argparse.ArgumentTypeError("a name without colon and control characters is needed")
    return text
