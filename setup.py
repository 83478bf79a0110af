"""Builds the Cython modules; everything else about the package stands in pyproject.toml.

FASTSMTP_BUILD chooses how: ``release`` (default), ``debug`` (bounds checks, assertions, no
optimisation) or ``sanitize`` (the same under AddressSanitizer and UndefinedBehaviorSanitizer).
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

BUILDS = {
    "release": (["-O3", "-g0", "-DCYTHON_WITHOUT_ASSERTIONS=1", "-Wno-unused-function"], []),
    "debug": (["-O0", "-g", "-UNDEBUG"], []),
    "sanitize": (
        ["-O1", "-g", "-UNDEBUG", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"],
        ["-fsanitize=address,undefined"],
    ),
}

HOT = [path for path in Path("fastsmtp").rglob("*.py") if path.with_suffix(".pxd").exists()]

build = os.environ.get("FASTSMTP_BUILD", "release")
if build not in BUILDS:
    raise SystemExit(f"FASTSMTP_BUILD is {build!r}; expected one of {', '.join(BUILDS)}")
compile_args, link_args = BUILDS[build]
less = ["-O2"] if build == "release" else []


def extension(name: str, source: str, *more: str) -> Extension:
    """One, or with "*" one for each source, built as FASTSMTP_BUILD says, with `more` arguments."""
    arguments = [*compile_args, *more]
    return Extension(name, [source], extra_compile_args=arguments, extra_link_args=link_args)


# Changed directives alone do not make Cython write its C again, a folder each does.
folder = f"build/cython-{build}"
directives = {"language_level": 3, "embedsignature": False, "autotestdict": False, "binding": False}

setup(
    options={"build_ext": {"parallel": os.cpu_count()}},
    ext_modules=[
        *cythonize(
            [extension("*", "fastsmtp/**/*.pyx")],
            build_dir=folder,
            compiler_directives={
                **directives,
                "boundscheck": build != "release",
                "wraparound": False,
                "cdivision": True,
                "initializedcheck": False,
            },
        ),
        # Typed Python, always compiled: a .pxd beside it gives its classes C attributes. This is
        # what runs for every message. -O3 would take a third longer to compile for nothing.
        *cythonize(
            [extension(".".join(path.with_suffix("").parts), str(path), *less) for path in HOT],
            build_dir=folder,
            compiler_directives={**directives, "annotation_typing": False},
        ),
    ],
)
