"""Sources of the configuration in a folder of the test's, and what is made of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from fastsmtp.process import config
from fastsmtp.process.config import ConfigError
from fastsmtp.settings import Settings

QUIET = "smtp-ip: 127.0.0.1\n"
"""A configuration about which nothing is to be said."""


class Sources:
    """Configuration files of one test, and what `config.load` makes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.default = str(folder / "default.txt")

    def file(self, content: str | bytes, name: str = "config.txt") -> str:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def load(
        self,
        content: str | bytes = "",
        environment: Mapping[str, str] | None = None,
        options: Sequence[tuple[str, str]] = (),
    ) -> tuple[Settings, list[str]]:
        return config.load([self.file(content)], environment, options, self.default)

    def errors(
        self,
        content: str | bytes = "",
        environment: Mapping[str, str] | None = None,
        options: Sequence[tuple[str, str]] = (),
    ) -> list[str]:
        with pytest.raises(ConfigError) as error:
            self.load(content, environment, options)
        return [line.replace(f"{self.folder}/", "") for line in error.value.errors]

    def warnings(
        self,
        content: str | bytes = "",
        environment: Mapping[str, str] | None = None,
        options: Sequence[tuple[str, str]] = (),
    ) -> list[str]:
        warnings = self.load(content, environment, options)[1]
        return [line.replace(f"{self.folder}/", "") for line in warnings]
