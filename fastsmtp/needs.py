"""What a part that the settings choose (a sink, a back end of AUTH) says about what it needs."""

from typing import NamedTuple

from fastsmtp.own_files import OURS

Problem = tuple[tuple[str, ...], str]
"""The keys that do not fit, the one to blame first, and why."""


class Use(NamedTuple):
    """A file that a setting names."""

    key: str
    path: str
    writes: bool  # it is made where it is missing
    makes_folder: bool = True  # and its folder too
    widest: int = OURS  # the widest rights that a file which is written may have
