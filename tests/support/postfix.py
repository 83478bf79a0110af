"""Postfix's load generators, from where tests/install-tools unpacks them."""

import os

from tests.support.daemon import ROOT

_FOLDER = ROOT / ".tools" / "postfix" / "usr"
SMTP_SOURCE = str(_FOLDER / "sbin" / "smtp-source")
SMTP_SINK = str(_FOLDER / "sbin" / "smtp-sink")
ENV = os.environ | {"LD_LIBRARY_PATH": str(_FOLDER / "lib" / "postfix")}

MISSING = (
    ""
    if os.path.exists(SMTP_SOURCE)
    else f"needs Postfix's smtp-source: no {SMTP_SOURCE} (tests/install-tools unpacks it)"
)
"""Why they cannot be used here; "" where they can."""
