"""`check_wheel.py WHEEL`: install it with this Python in a clean environment and send it a mail.

Nothing but that environment is on the path: no compiler, and no other Python.
"""

import os
import re
import smtplib
import subprocess
import sys
import tempfile
import venv
from pathlib import Path


def main(wheel: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        binaries = Path(folder, "bin")
        kept = {name: text for name, text in os.environ.items() if name[:6] != "PYTHON"}
        environment = kept | {"PATH": str(binaries)}
        install = [binaries / "python", "-m", "pip", "install", "-q", "--only-binary", ":all:"]
        subprocess.check_call([*install, wheel], env=environment)
        settings = [*("--rabbitmq-address", "none", "--queue-file", f"{folder}/queue.db")]
        daemon = subprocess.Popen(
            [binaries / "fastsmtp", "--smtp-ip", "127.0.0.1", "--smtp-port", "0", *settings],
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
        )
        try:
            assert daemon.stderr is not None
            line = daemon.stderr.readline()
            ready = re.search(r"ready: listening on 127\.0\.0\.1:(\d+)", line)
            assert ready, line
            with smtplib.SMTP("127.0.0.1", int(ready[1])) as client:
                client.sendmail("you@example.com", "friend@example.org", "Subject: Hello\n\nHi\n")
        finally:
            daemon.terminate()
            status = daemon.wait(60)
        assert status == 0, status
        listing = [binaries / "fastsmtp", "queue", "list", *settings]
        seen = subprocess.check_output(listing, env=environment)
        assert b"friend@example.org" in seen, seen
        version = subprocess.check_output(
            [binaries / "fastsmtp", "--version"], env=environment, text=True
        )
        assert version.split()[1] == wheel.name.split("-")[1], (version, wheel.name)
    print(f"{wheel.name} works on Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
