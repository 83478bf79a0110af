"""`user` and `group`: whom a worker becomes once the sockets are open, and what they may do."""

import errno
import grp
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fastsmtp import own_files
from fastsmtp.needs import Use
from fastsmtp.settings import Settings


class Identity(NamedTuple):
    """Numbers of whom to become."""

    uid: int
    gid: int
    name: str  # for the groups that the user is a member of


def identity(settings: Settings) -> Identity | None:
    """Whom the settings ask for; None: nobody else. Raises ValueError for unknown names."""
    if not settings.user and not settings.group:
        return None
    try:
        user = pwd.getpwnam(settings.user) if settings.user else pwd.getpwuid(os.geteuid())
    except KeyError:
        who = repr(settings.user) if settings.user else f"with the number {os.geteuid()}"
        raise ValueError(f"there is no user {who} on this machine") from None
    gid = user.pw_gid
    if settings.group:
        try:
            gid = grp.getgrnam(settings.group).gr_gid
        except KeyError:
            raise ValueError(f"there is no group {settings.group!r} on this machine") from None
    return Identity(user.pw_uid, gid, user.pw_name)


def become(settings: Settings) -> None:
    """Drop to `user` and `group` for good. Raises OSError or ValueError."""
    wanted = identity(settings)
    if wanted is not None and not is_us(wanted):
        _become(wanted)


def is_us(identity: Identity) -> bool:
    """Nothing need be done to become them, so nobody need be root."""
    return (identity.uid, identity.gid) == (os.geteuid(), os.getegid())


def _become(identity: Identity) -> None:
    os.initgroups(identity.name, identity.gid)
    os.setgid(identity.gid)
    os.setuid(identity.uid)


def refused(uses: Iterable[Use], identity: Identity | None) -> Iterator[tuple[Use, str]]:
    """What `identity` (None: we) may not do, and why; asked in a process that becomes them."""
    uses = list(uses)
    if identity is None or is_us(identity):
        answers = _try(uses)
    else:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "fastsmtp.process.privileges"],
            input=json.dumps([identity, uses]),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        answers = json.loads(done.stdout)
    for use, why in zip(uses, answers, strict=True):
        if why:
            yield use, why


def _try(uses: Iterable[Use]) -> list[str]:
    """Why each is not possible, "" where it is."""
    answers: list[str] = []
    for use in uses:
        try:
            answers.append(_try_writing(use) if use.writes else _try_reading(use.path))
        except OSError as error:
            answers.append(str(error.strerror))
    return answers


def _try_reading(path: str) -> str:
    with open(path, "rb"):
        return ""


def _try_writing(use: Use) -> str:
    """Nothing is made or changed: the rights of the file, or the nearest folder, decide."""
    target = Path(use.path).absolute()
    # Root may be checking for a daemon that another user runs: see `checks.warnings`.
    why = own_files.refusal(use.path, use.widest, any_owner=os.geteuid() == 0)
    if why:
        return f"it {why}"
    if target.exists() and not os.access(target, os.R_OK | os.W_OK):
        return os.strerror(errno.EACCES)
    folder = target.parent
    if not use.makes_folder and not folder.exists():
        return f"the folder {folder} is missing, create it"
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder} is no folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder}: {os.strerror(errno.EACCES)}"
    return ""


if __name__ == "__main__":
    whom, what = json.load(sys.stdin)
    _become(Identity(*whom))
    json.dump(_try([Use(*each) for each in what]), sys.stdout)
