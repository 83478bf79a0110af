"""Builds the Cython modules; everything else about the package stands in pyproject.toml.

FASTSMTP_BUILD chooses how: ``release`` (default), ``debug`` (bounds checks, assertions, no
optimisation) or ``sanitize`` (the same under AddressSanitizer and UndefinedBehaviorSanitizer).
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

BUILDS = {
    "release": (["-O3", "-DCYTHON_WITHOUT_ASSERTIONS=1"], []),
    "debug": (["-O0", "-g", "-UNDEBUG"], []),
    "sanitize": (
        ["-O1", "-g", "-UNDEBUG", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"],
        ["-fsanitize=address,undefined"],
    ),
}

build = os.environ.get("FASTSMTP_BUILD", "release")
if build not in BUILDS:
    raise SystemExit(f"FASTSMTP_BUILD is {build!r}; expected one of {', '.join(BUILDS)}")
compile_args, link_args = BUILDS[build]

setup(
    ext_modules=cythonize(
        [
            Extension(
                "*",
                ["fastsmtp/**/*.pyx"],
                extra_compile_args=compile_args,
                extra_link_args=link_args,
            )
        ],
        # Changed directives alone do not make Cython write its C again, a folder each does.
        build_dir=f"build/cython-{build}",
        compiler_directives={
            "language_level": 3,
            "boundscheck": build != "release",
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": False,
            "autotestdict": False,
            "binding": False,
        },
    )
)
