"""What the files of the package import, read from their text; nothing is imported to find out."""

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path

FROM = re.compile(r"^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+c?import[ \t]+(.+)", re.MULTILINE)
IMPORT = re.compile(r"^[ \t]*c?import[ \t]+(.+)", re.MULTILINE)
IN_PARENTHESES = re.compile(r"import[ \t]*\(([^)]*)\)")


def module_of(path: Path, package: Path) -> str:
    """The module that a file of `package` belongs to, without the package's own name."""
    relative = path.relative_to(package)
    return ".".join([*relative.parent.parts, relative.name.split(".")[0]])


def _python_imports(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """Every import statement as (dots, module, names); `import a.b` has no names."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [alias.name for alias in node.names]


def _cython_imports(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """The same for Cython, where `ast` does not help."""
    text = re.sub(r"#.*", "", text).replace("\\\n", " ")
    text = IN_PARENTHESES.sub(lambda found: "import " + " ".join(found[1].split()), text)
    for dots, module, names in FROM.findall(text):
        yield len(dots), module, [name.split()[0] for name in names.split(",") if name.strip()]
    for names in IMPORT.findall(text):
        yield from ((0, name.split()[0], []) for name in names.split(","))


def imported(module: str, text: str, cython: bool) -> set[tuple[str, str]]:
    """What the package module `module` ("sinks.base") takes from fastsmtp: (module, name) pairs.

    The module is "" for the package itself, the name "" where a whole module is imported.
    """
    found = set()
    for dots, base, names in (_cython_imports if cython else _python_imports)(text):
        if dots:
            parents = ["fastsmtp", *module.split(".")][:-dots]
            base = ".".join([*parents, base] if base else parents)
        if base == "fastsmtp" or base.startswith("fastsmtp."):
            inside = base.removeprefix("fastsmtp").removeprefix(".")
            found.update((inside, name) for name in names or [""])
    return {(base, name) for base, name in found if base or not name.startswith("__")}


def imported_modules(module: str, text: str, cython: bool, modules: Collection[str]) -> set[str]:
    """Those of `modules` that `module` imports: of a name in a package, the module it names."""
    found = set()
    for base, name in imported(module, text, cython):
        inner = f"{base}.{name}" if base and name else base or name
        found.add(inner if inner in modules else base)
    return (found & set(modules)) - {module}
