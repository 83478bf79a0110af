"""The table of the back ends of AUTH, and the values of `smtp-auth` that follow from it."""

import re
from collections.abc import Iterator
from dataclasses import replace

from fastsmtp.declaration import Setting
from fastsmtp.net.auth.base import Backend, SchemeBackend
from fastsmtp.net.auth.file import File
from fastsmtp.net.auth.hardcoded import Hardcoded
from fastsmtp.net.auth.pair import Pair
from fastsmtp.settings import Settings
from fastsmtp.values import SECRET, Kind

BACKENDS: tuple[type[Backend], ...] = (Pair, File, Hardcoded)
"""All of them, in the order in which they are asked: the cheap ones first."""


def configured(settings: Settings) -> list[type[Backend]]:
    """Those that the settings ask for."""
    return [backend for backend in BACKENDS if backend.is_configured(settings)]


def _by_scheme() -> Iterator[type[SchemeBackend]]:
    return (backend for backend in BACKENDS if issubclass(backend, SchemeBackend))


def _expected() -> str:
    return " or ".join(backend.form for backend in _by_scheme())


def _read(text: str) -> str:
    patterns = (re.escape(backend.scheme) + backend.rest for backend in _by_scheme())
    try:
        SECRET.parse(text)
    except ValueError:
        raise ValueError(_expected()) from None
    if not any(re.fullmatch(pattern, text) for pattern in patterns):
        raise ValueError(_expected())
    return text


KIND = Kind(_expected(), _read, str, empty="")
"""The type of `smtp-auth`."""


def described(about: Setting) -> Setting:
    """`smtp-auth` as it is declared, with the type and the meaning that the back ends give it."""
    forms = " or ".join(backend.form + backend.note for backend in _by_scheme())
    return replace(about, kind=KIND, meaning=f"{about.meaning.removesuffix('.')}: {forms}.")
