"""How one setting is declared: the metadata of its field in `Settings`."""

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
    value: object  # the same as a value; None where it is computed
    meaning: str
    words: str  # what the default is where its text does not tell
    secret: bool  # the value is shown nowhere

    @property
    def shown_default(self) -> str:
        """The default in words of the documentation."""
        return self.words or self.default or "empty"


def setting(
    group: str,
    kind: Kind,
    default: str,
    meaning: str,
    *,
    words: str = "",
    compute: Callable[[], str] | None = None,
    secret: bool = False,
) -> Any:
    """The field of one setting; `compute` makes a default that depends on the machine."""
    value = None if compute else kind.parse(default) if default else kind.empty
    about = Setting(
        group=group,
        kind=kind,
        default=default,
        value=value,
        meaning=meaning,
        words=words,
        secret=secret,
    )
    if compute is not None:
        return field(default_factory=compute, metadata={"setting": about})
    return field(default=value, metadata={"setting": about})
