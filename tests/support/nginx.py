"""A real nginx in front of a daemon, with a configuration of docs/nginx.md.

Debian's, from where tests/install-tools unpacks it; no service is installed or started.
"""

import re
import signal
import subprocess
from pathlib import Path

from tests.support.daemon import ROOT
from tests.support.patience import until
from tests.support.ports import lasting_port
from tests.support.wire import Wire

_FOLDER = ROOT / ".tools" / "nginx" / "usr"
_PROGRAM = _FOLDER / "sbin" / "nginx"
_MODULES = _FOLDER / "lib" / "nginx" / "modules"

MISSING = "" if _PROGRAM.exists() else "needs nginx: run tests/install-tools"
"""Why it cannot be used here; "" where it can."""


def documented(heading: str) -> str:
    """The first configuration of docs/nginx.md behind this heading."""
    page = (ROOT / "docs" / "nginx.md").read_text("utf-8")
    return re.findall(r"```nginx\n(.*?)```", page[page.index(f"# {heading}\n") :], re.S)[0]


class Nginx:
    """One process; `port` is where clients come in."""

    def __init__(self, folder: Path, heading: str, server: int) -> None:
        """With the documented configuration, and a daemon on the port `server`."""
        self.port = lasting_port()
        self.folder = folder
        where = lasting_port()
        kind = "stream" if "\nstream {" in documented(heading) else "mail"
        text = documented(heading).replace("127.0.0.1:8025", f"127.0.0.1:{where}")
        for old, new in (
            ("listen 25;", f"listen 127.0.0.1:{self.port};"),
            ("Auth-Server 192.0.2.11;", "Auth-Server 127.0.0.1;"),
            ("Auth-Port 25;", f"Auth-Port {server};"),
            ("192.0.2.11:25;", f"127.0.0.1:{server};"),
            ("http {", f"http {{\n    access_log off;\n{self._temporary()}"),
        ):
            text = text.replace(old, new)
        self.text = (
            f"load_module {_MODULES}/ngx_{kind}_module.so;\n"
            f"daemon off;\nmaster_process off;\npid {folder}/pid;\n{text}"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def _temporary(self) -> str:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        return "".join(f"    {kind}_temp_path {self.folder}/{kind};\n" for kind in kinds)

    def start(self) -> None:
        """Start and wait until clients are greeted."""
        (self.folder / "nginx.conf").write_text(self.text)
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", str(_PROGRAM)),
                    *("-p", str(self.folder), "-c", "nginx.conf", "-e", "stderr"),
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        until(lambda: self.process is None or self.process.poll() is not None or self._greets())
        assert self.process.poll() is None, self.output

    def _greets(self) -> bool:
        try:
            with Wire(self.port) as client:
                return client.greeting.code in (220, 554)
        except (OSError, EOFError):
            return False

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def close(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10)
