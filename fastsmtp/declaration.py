"""How one setting is declared: what stands in the metadata of its field in `Settings`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastsmtp.values import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is declared about one setting: the metadata of its field."""

    group: str
    kind: Kind
    default: str  # as a config file has it; "" where it is empty or computed
    meaning: str
    words: str  # what the default is where its text does not tell
    secret: bool  # the value is shown nowhere
    unbuilt: bool  # any value but the default is refused for now
    unbuilt_values: tuple[str, ...]  # these values are refused for now


def setting(
    group: str,
    kind: Kind,
    default: str,
    meaning: str,
    *,
    words: str = "",
    compute: Callable[[], str] | None = None,
    secret: bool = False,
    unbuilt: bool = False,
    unbuilt_values: tuple[str, ...] = (),
) -> Any:
    """The field of one setting; `compute` makes a default that depends on the machine."""
    about = Setting(
        group=group,
        kind=kind,
        default=default,
        meaning=meaning,
        words=words,
        secret=secret,
        unbuilt=unbuilt,
        unbuilt_values=unbuilt_values,
    )
    if compute is not None:
        return field(default_factory=compute, metadata={"setting": about})
    value = kind.parse(default) if default else kind.empty
    return field(default=value, metadata={"setting": about})
