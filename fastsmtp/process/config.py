"""The sources of the configuration become `Settings`, or a list of everything that is wrong.

Later sources win: defaults, /etc/fastsmtp/config.txt, each --config-file, the environment, the
command line. Opens files for reading only; never prints, and never repeats a secret.
"""

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastsmtp.declaration import Setting
from fastsmtp.net.auth import backends
from fastsmtp.process import checks, mailerq
from fastsmtp.settings import SETTINGS as DECLARED
from fastsmtp.settings import Settings, attribute
from fastsmtp.values import ADDRESSES, BROKER, HOSTS, NETWORKS, Kind, mask_broker, same_broker

SETTINGS = DECLARED | {"smtp-auth": backends.described(DECLARED["smtp-auth"])}
"""What is declared, by key, with what only the back ends of AUTH know."""

DEFAULT_FILE = "/etc/fastsmtp/config.txt"
PREFIX = "FASTSMTP_"

# Variables of that prefix that others set: our own build, and a Docker link called fastsmtp.
_FOREIGN = re.compile(PREFIX + r"(BUILD|NAME|ENV_.*)")

# What Kubernetes (and Docker) tell about a service whose name begins with fastsmtp.
_SERVICE = re.compile(
    r"FASTSMTP(_\w+)?_(SERVICE_(HOST|PORT(_\w+)?)|PORT_[0-9]+_[A-Z]+(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_PORT = re.compile(r"FASTSMTP(_\w+)?_PORT(_[0-9]+_[A-Z]+)?")
_SERVICE_URL = re.compile("(tcp|udp|sctp)://")


_QUOTED = re.compile("\"[^\"]*\"|'[^']*'")


class ConfigError(Exception):
    """The configuration is wrong; `errors` and `warnings` hold one line a finding."""

    def __init__(self, errors: list[str], warnings: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors
        self.warnings = warnings


@dataclass(frozen=True, slots=True)
class Given:
    """One value as a source gave it."""

    source: str  # "config.txt:12", "environment" or "command line"
    key: str
    text: str


@dataclass(slots=True)
class _Findings:
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)  # by key; none for a default
    given: dict[str, Given] = field(default_factory=dict)  # the latest of each key
    ranks: dict[str, int] = field(default_factory=dict)  # of its source: the latest has the highest
    rank: int = 0
    broken: set[str] = field(default_factory=set)  # keys with a value that has no meaning


def load(
    files: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    options: Iterable[tuple[str, str]] = (),
    default_file: str = DEFAULT_FILE,
    allow_empty: bool = True,
) -> tuple[Settings, list[str]]:
    """Read every source; gives the settings and the warnings, one line each.

    `options` are the (key, text) pairs of the command line. `default_file` need not exist. An empty
    file is an error unless `allow_empty`: it may be one that is about to be written.
    Raises ConfigError with every error at once.
    """
    found = _Findings()
    for path in files if _missing(default_file) else [default_file, *files]:
        _take(_file(path, found, allow_empty), found)
    _take(_environment(environment or {}, found), found)
    _take([Given("command line", key, text.strip()) for key, text in options], found)
    _limit_connections(found)
    _make_address(found)
    settings = Settings(**{attribute(key): value for key, value in found.values.items()})
    for keys, problem in checks.errors(settings):
        if found.broken.isdisjoint(keys):
            given = found.given.get(keys[0], Given("default", keys[0], ""))
            found.errors.append(f"{given.source}: {given.key}: {problem}")
    if found.errors:  # what would hold then is not worth a warning
        raise ConfigError(found.errors, found.warnings)
    return settings, found.warnings + list(checks.warnings(settings))


def _missing(path: str) -> bool:
    """A file that may not be looked at is not missing: reading it will tell."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def _file(path: str, found: _Findings, allow_empty: bool) -> Iterator[Given]:
    try:
        content = _content(path)
    except ValueError as error:
        found.errors.append(f"{path}: expected {error}")
        return
    if not content.strip() and not allow_empty:
        found.errors.append(
            f"{path}: expected settings, found an empty file; if that is meant: "
            "fastsmtp reload --force"
        )
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, colon, text = (part.strip() for part in line.partition(":"))
        if re.fullmatch(r"\[.*\]", line.strip()):
            found.errors.append(
                f"{path}:{number}: expected key: value, found a section header: "
                "config files have no sections, remove the line"
            )
        elif key and colon:
            yield Given(f"{path}:{number}", key, text)
        else:
            found.errors.append(f"{path}:{number}: expected key: value, found {_named(key)}")


def _environment(environment: Mapping[str, str], found: _Findings) -> Iterator[Given]:
    services: list[str] = []
    for name, text in environment.items():
        key = name.removeprefix(PREFIX).lower().replace("_", "-")
        if not name.startswith(PREFIX) or _FOREIGN.fullmatch(name):
            continue
        if _is_of_a_service(name, key, text):
            services.append(name)
        else:
            yield Given("environment", key, text.strip())
    if services:
        found.warnings.append(
            "environment: ignored what Kubernetes says of a service (enableServiceLinks: false "
            f"in the pod turns that off): {', '.join(sorted(services))}"
        )


def _is_of_a_service(name: str, key: str, text: str) -> bool:
    """Whether Kubernetes has set the variable; a setting of that name is never an URL."""
    if _SERVICE_URL.match(text):
        return _SERVICE_PORT.fullmatch(name) is not None
    return _SERVICE.fullmatch(name) is not None and not _is_known(key)


def _is_known(key: str) -> bool:
    return key in SETTINGS or key in mailerq.KEYS


def _take(source: Iterable[Given], found: _Findings) -> None:
    """Put one source's values over those of the sources before it."""
    found.rank += 1
    for key, given in _last(source, found).items():
        if key in SETTINGS or key in mailerq.PARTS:
            _take_value(key, given, found)
        elif (warning := mailerq.warning(key, given.text)) is None:
            found.errors.append(f"{given.source}: {_named(key)}: unknown key{_nearest(key)}")
        elif warning not in found.warnings:
            found.warnings.append(warning)


def _last(source: Iterable[Given], found: _Findings) -> dict[str, Given]:
    """The value of each setting that holds within one source."""
    by_name: dict[str, Given] = {}  # in the order of what holds
    for given in source:
        if by_name.pop(given.key, None) is not None:
            found.warnings.append(
                f"{given.source}: {_named(given.key)} is given twice, this value holds"
            )
        by_name[given.key] = given
    last: dict[str, Given] = {}
    for given in by_name.values():
        key = mailerq.ALIASES.get(given.key, given.key)
        before = last.get(key)
        if before is not None and _empty(before) != _empty(given):
            # A file that lists every key MailerQ has ever had: the empty one takes nothing back.
            empty, given = (given, before) if _empty(given) else (before, given)
            found.warnings.append(_still_holds(empty, given))
        elif before is not None:
            named = f"{given.key} ({before.key})"
            found.warnings.append(f"{given.source}: {named} is given twice, this value holds")
        last[key] = given
    return last


def _empty(given: Given) -> bool:
    """Whether the value, or the file that holds it, is empty; reading it will tell what fails."""
    try:
        return not _value(given.text)
    except ValueError:
        return False


def _still_holds(empty: Given, given: Given) -> str:
    return f"{empty.source}: {empty.key} is empty, {given.key} ({given.source}) holds"


def _take_value(key: str, given: Given, found: _Findings) -> None:
    kind = _about(key).kind
    text, shown = given.text, _shown(key, given.text)
    value, broken = None, False
    try:
        if text.startswith("@/"):
            text, shown = _value(text), f"the content of {text[1:]}"
        before = found.given.get(key)
        if not text and before and key in found.values and given.key not in (key, before.key):
            found.warnings.append(_still_holds(given, before))  # only its own name takes it back
            return
        value = kind.parse(text) if text else None
    except ValueError as error:
        hint = _hint(kind, text)
        line = f"{given.source}: {given.key}: expected {error}, found {shown}{hint}"
        if instead := mailerq.foreign(key, text):
            found.warnings.append(f"{line}: {instead}")
        else:
            broken = True
            found.errors.append(line)
    found.given[key], found.ranks[key] = given, found.rank
    found.values.pop(key, None)
    found.broken.discard(key)
    if broken:
        found.broken.add(key)
    elif not text and given.text:
        found.warnings.append(f"{given.source}: {given.key}: {shown} is empty, the default holds")
    elif value is not None:
        found.values[key] = value
        if _QUOTED.fullmatch(text) and not _about(key).secret:
            found.warnings.append(
                f"{given.source}: {given.key}: values take no quotes, these are part of the value"
            )


def _limit_connections(found: _Findings) -> None:
    """The smaller one of MailerQ's limit of incoming connections and ours holds."""
    keys = "smtp-connections", mailerq.CONNECTIONS_IN
    limits = sorted((found.values.pop(key), key) for key in keys if key in found.values)
    if not limits:
        return
    (limit, key), *larger = limits
    found.values[keys[0]] = limit
    if any(found.ranks[other] > found.ranks[key] and limit < value for value, other in larger):
        given = found.given[key]
        found.warnings.append(
            f"{given.source}: {key}: {limit} holds, the smaller one of {' and '.join(keys)}"
        )


def _make_address(found: _Findings) -> None:
    """The broker's address from MailerQ's parts of it, unless it is given later than they are."""
    key, names = "rabbitmq-address", mailerq.BROKER_PARTS
    parts = {name: found.values.pop(name) for name in names if name in found.values}
    if not parts or not found.broken.isdisjoint((key, *names)):
        return
    made = BROKER.parse(mailerq.address(parts))
    address, first = found.values.get(key), found.given[next(iter(parts))]
    if address is None:
        found.values[key], found.given[key] = made, first
    elif found.ranks[key] <= max(found.ranks[name] for name in parts) and not same_broker(
        made, address
    ):
        found.errors.append(
            f"{first.source}: {', '.join(parts)}: expected the broker of {key} "
            f"({found.given[key].source}), {mask_broker(BROKER.write(address))}, found "
            f"{mask_broker(BROKER.write(made))}: remove one of the two"
        )


def _value(text: str) -> str:
    """A value as it was written, or what the file holds that it names as @/path."""
    return _content(text[1:]).strip() if text.startswith("@/") else text


def _content(path: str) -> str:
    """A file's text. Bytes that are not UTF-8 do no harm in a comment; no value takes them."""
    try:
        return Path(path).read_text("utf-8", "surrogateescape").removeprefix("\ufeff")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"a file that can be read ({why})") from None


def _about(key: str) -> Setting | mailerq.Part:
    return SETTINGS[key] if key in SETTINGS else mailerq.PARTS[key]


def _shown(key: str, text: str) -> str:
    """How an error shows what was found."""
    about = _about(key)
    if text.startswith("@/"):
        return text
    if about.kind is backends.KIND and (scheme := re.match("[a-z]+://", text, re.IGNORECASE)):
        return f"{scheme[0]}…"
    if about.secret:
        return "a value that is not shown"
    return repr(mask_broker(text) if about.kind in (BROKER, HOSTS) else text)


def _hint(kind: Kind, text: str) -> str:
    """What whoever knows other config files has to know of ours."""
    if _QUOTED.fullmatch(text):
        return " (values take no quotes)"
    if re.search("[\\udc80-\\udcff]", text):  # what is no UTF-8, as `_content` reads it
        return " (the file is not UTF-8)"
    if re.search(r"\s#", text):
        return " (comments stand on lines of their own)"
    if kind in (NETWORKS, ADDRESSES) and "," in text:
        return ' (divided by ";", not by ",")'
    return ""


def _named(key: str) -> str:
    """How an error names a key: the rest of a malformed line may be a password."""
    match = re.match(r"[\w-]+", key)
    return match[0] if match else "no key"


def _nearest(key: str) -> str:
    key = key.lower().replace("_", "-")
    near = [key] if _is_known(key) else difflib.get_close_matches(key, SETTINGS, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def texts(settings: Settings) -> dict[str, str]:
    """The text of every setting, by key: what `from_texts` reads. It holds passwords."""
    return {
        key: about.kind.write(getattr(settings, attribute(key))) for key, about in SETTINGS.items()
    }


def from_texts(texts: Mapping[str, str]) -> Settings:
    """The settings of another process; keys that this version does not know are passed over."""
    return Settings(
        **{
            attribute(key): SETTINGS[key].kind.parse(text)
            for key, text in texts.items()
            if key in SETTINGS and text
        }
    )


def written(settings: Settings) -> str:
    """The effective settings as a config file, passwords masked."""
    lines: list[str] = []
    group = ""
    shown = texts(settings)
    for key, about in SETTINGS.items():
        if about.group != group:
            group = about.group
            lines += ["", f"# {group}"]
        text = mask_broker(shown[key]) if about.kind is BROKER else shown[key]
        lines.append(f"{key}: {'***' if about.secret and text else text}".rstrip())
    return "\n".join(lines[1:]) + "\n"
