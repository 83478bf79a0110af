"""Whether the compiled modules are made from what the source says now.

The package is compiled: every `.pyx`, and every `.py` that has a `.pxd` beside it. What has no
machine code for the running interpreter, or machine code older than its source, is named here.
"""

import sysconfig
from collections.abc import Iterator
from pathlib import Path

from tests.support.imports import imported_modules, module_of

SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))
"""The end of a machine code file's name: for this interpreter alone."""


def complaints(package: Path) -> Iterator[str]:
    """What the tests would not test as it stands in the source, one line each."""
    declared = {module_of(path, package): path for path in package.rglob("*.pxd")}
    sources = {module_of(path, package): path for path in package.rglob("*.pyx")}
    for module, path in declared.items():
        if (python := path.with_suffix(".py")).exists():
            sources[module] = python
    for module, source in sorted(sources.items()):
        code = source.with_name(source.stem + SUFFIX)
        if not code.exists():
            yield f"{source} is not compiled for this interpreter"
            continue
        made = code.stat().st_mtime
        for path in _read_for(module, source, declared):
            if path.stat().st_mtime > made:
                yield f"{path} is newer than {code.name}"
    for code in sorted(package.rglob(f"*{SUFFIX}")):
        if module_of(code, package) not in sources:
            yield f"{code} is compiled from nothing that is here, and hides a .py: remove it"


def _read_for(module: str, source: Path, declared: dict[str, Path]) -> list[Path]:
    """The files that are read when `source` is compiled: itself, and each .pxd that it leads to."""
    package = source.parents[module.count(".")]
    found = [source]
    waiting = [(module, source)]
    seen: set[str] = set()
    while waiting:
        name, path = waiting.pop()
        # A .py cimports by its .pxd alone.
        is_cython = path.suffix != ".py"
        reads = imported_modules(name, path.read_text(), True, declared) if is_cython else set()
        for each in sorted((reads | {name}) & declared.keys() - seen):
            seen.add(each)
            found.append(declared[each])
            waiting.append((module_of(declared[each], package), declared[each]))
    return found
