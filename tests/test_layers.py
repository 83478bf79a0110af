"""Each layer imports only what stands above it, and no modules import each other in a circle.

This table is the architecture.
"""

import graphlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support.imports import imported, imported_modules, module_of

ROOT = Path(__file__).parent.parent

LAYERS = {
    "wire": ["addresses", "_parser", "_content", "_proxy", "xclient"],
    "model": [
        *(
            "replies",
            "route",
            "escaping",
            "envelope",
            "peer",
            "refusals",
            "questions",
            "availability",
            "memory_budget",
            "ids",
            "exposed",
            "counters",
            "metrics",
            "background_tasks",
            "_durations",
            "_sizes",
        ),
        *("settings", "declaration", "values", "needs", "own_files", "rate_limited_log"),
    ],
    "session": ["_session"],
    "payload": [
        *("headers", "payload", "connection_facts", "fingerprint", "trace_field"),
        *("_escape", "_tail"),
    ],
    "sinks": ["sinks"],
    "net": ["net"],
    "process": ["process"],
}
"""Layer → the modules and packages of fastsmtp that are in it."""

MAY_IMPORT = {
    "wire": set(),
    "model": {"wire"},
    "session": {"wire", "model"},
    "payload": {"wire", "model"},
    "sinks": {"model", "payload"},
    "net": {"wire", "model", "session", "payload", "sinks"},
    "process": {"wire", "model", "session", "payload", "sinks", "net"},
}
"""Layer → the other layers that it may import; its own it may always."""

LAYER_OF = {module: layer for layer, modules in LAYERS.items() for module in modules}
SOURCES = sorted(
    path
    for suffix in ("py", "pyi", "pyx", "pxd")
    for path in (ROOT / "fastsmtp").rglob(f"*.{suffix}")
)


def trespasses(module: str, text: str, cython: bool = False) -> list[str]:
    """What `module` imports that its layer may not."""
    layer = LAYER_OF[module.split(".")[0]]
    allowed = MAY_IMPORT[layer] | {layer}
    return [
        f"{module} ({layer}) imports {name}"
        for name in sorted({base or name for base, name in imported(module, text, cython)})
        if LAYER_OF.get(name.split(".")[0]) not in allowed
    ]


def test_every_file_has_a_layer() -> None:
    files = {path.relative_to(ROOT / "fastsmtp").parts[0].split(".")[0] for path in SOURCES}
    assert files - {"__init__", "__main__"} <= LAYER_OF.keys()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_layers_point_one_way(path: Path) -> None:
    module = module_of(path, ROOT / "fastsmtp")
    if module in ("__init__", "__main__"):
        return
    assert trespasses(module, path.read_text(), path.suffix in (".pyx", ".pxd")) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("availability", "from fastsmtp.sinks.base import Sink"),
        ("availability", "from fastsmtp import (\n    payload,\n)"),
        ("availability", "import os, fastsmtp.payload"),
        ("availability", "def late():\n    from fastsmtp.payload import Outgoing"),
        ("availability", "if TYPE_CHECKING:\n    from .payload import Outgoing"),
        ("sinks.base", "from .. import net"),
        ("sinks.rabbitmq.link", "from ...process import worker"),
        ("sinks.store", "from fastsmtp import _parser"),
        ("replies", "from fastsmtp import new_module_without_a_layer"),
    ],
)
def test_the_walk_finds_a_trespass(module: str, text: str) -> None:
    assert len(trespasses(module, text)) == 1
    assert len(trespasses(module, text, cython=True)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "from fastsmtp._session cimport Session",
        "cimport fastsmtp._session",
        "cimport cython, fastsmtp._session as s",
        "from fastsmtp cimport _session",
        "from fastsmtp cimport (\n    _content,  # ours (wire)\n    _session,\n)",
        "from ._session import Session",
    ],
)
def test_the_walk_finds_a_trespass_in_cython(text: str) -> None:
    assert trespasses("_parser", text, cython=True) == ["_parser (wire) imports _session"]


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("availability", "from fastsmtp.replies import Reply\nimport socket"),
        ("sinks.rabbitmq.link", "from fastsmtp.sinks import base\nfrom .underlay import Batch"),
        ("process.worker", "from fastsmtp import __version__, _session\nimport fastsmtp.net.tls"),
    ],
)
def test_the_walk_lets_the_rest_pass(module: str, text: str) -> None:
    assert trespasses(module, text) == trespasses(module, text, cython=True) == []


def circle(texts: Iterable[tuple[str, str, bool]]) -> list[str]:
    """Modules that import each other, the first one again at the end; [] where there are none.

    `texts` holds (module, text, whether it is Cython's), several of a module where it has several
    files. What is imported late, or for types alone, counts: it ties the modules as much.
    """
    texts = [(module.removesuffix(".__init__"), module, *rest) for module, *rest in texts]
    graph: dict[str, set[str]] = {name: set() for name, *_ in texts}
    for name, module, text, cython in texts:
        graph[name] |= imported_modules(module, text, cython, graph.keys()) - {name}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other() -> None:
    texts = [
        (module_of(path, ROOT / "fastsmtp"), path.read_text(), path.suffix in (".pyx", ".pxd"))
        for path in SOURCES
    ]
    assert circle(texts) == []


@pytest.mark.parametrize(
    "texts",
    [
        [
            ("availability", "import fastsmtp.peer", False),
            ("peer", "from fastsmtp import availability", False),
        ],
        [
            ("net.tls", "def late():\n    from fastsmtp.net import proxy", False),
            ("net.proxy", "from .tls import Store", False),
        ],
        [
            ("net.tls", "if TYPE_CHECKING:\n    from fastsmtp.net.proxy import Proxy", False),
            ("net.proxy", "from fastsmtp.net.flow import Flow", False),
            ("net.flow", "from fastsmtp.net.tls import Store", False),
        ],
        [
            ("_confirms", "", True),  # the .pyx, and next the .pyi
            ("_confirms", "from fastsmtp.underlay import Listener", False),
            ("underlay", "from fastsmtp._confirms import Confirms", False),
        ],
        [
            ("availability", "from fastsmtp.peer cimport Peer", True),
            ("peer", "from fastsmtp.availability import Availability", False),
        ],
        [
            ("net.__init__", "from fastsmtp.net.tls import Store", False),
            ("net.tls", "from fastsmtp.net import VERSION", False),
        ],
    ],
)
def test_the_walk_finds_a_circle(texts: list[tuple[str, str, bool]]) -> None:
    assert set(circle(texts)) == {module.removesuffix(".__init__") for module, *_ in texts}
    assert circle(texts[:-1]) == []
