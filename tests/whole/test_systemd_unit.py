"""deploy/fastsmtp.service where docs/operating.md, tls.md and auth.md were followed."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import certificates
from tests.support.daemon import ROOT
from tests.support.unit import NOTIFY, Machine

DOCS = ROOT / "docs"
NAME = "mx1.example.com"
NO_BROKER = "FASTSMTP_RABBITMQ_ADDRESS=none"

SEND = """
import smtplib
with smtplib.SMTP("127.0.0.1", 25, timeout=30) as client:
    client.login("relay", "change-me")
    client.sendmail("you@example.com", "friend@example.org", "Subject: Hello\\n\\nHi\\n")
"""

SERIAL = """
import hashlib, socket, ssl
context = ssl._create_unverified_context()
with socket.create_connection(("127.0.0.1", 465), 30) as plain:
    with context.wrap_socket(plain, server_hostname="mx1.example.com") as client:
        print(hashlib.sha256(client.getpeercert(True)).hexdigest())
"""


def commands(page: str, first: str, behind: str) -> list[str]:
    """The fenced blocks of a part of a page."""
    text = (DOCS / page).read_text("utf-8")
    part = text[text.index(first) : text.index(behind)]
    return re.findall(r"^```\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)


def can_unshare() -> bool:
    done = subprocess.run(["unshare", "-m", "-n", "true"], capture_output=True, check=False)
    return done.returncode == 0


pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not can_unshare(),
    reason="needs root, and the right to make namespaces",
)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "machine")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def manager(machine: Machine) -> Iterator[socket.socket]:
    """systemd's end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        path = machine.tree / NOTIFY[1:]
        # A path to a socket has at most 107 bytes.
        folder = os.open(path.parent, os.O_RDONLY)
        made.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)
        path.chmod(0o666)
        made.settimeout(30)
        yield made


def install(machine: Machine) -> None:
    """What docs/operating.md says, but for the build: /opt/fastsmtp has this checkout."""
    build, *rest = commands("operating.md", "## systemd", "## Exit codes")
    assert "/opt/fastsmtp/bin/pip install ." in build
    for block in rest:
        machine.root("systemctl() { :; }\n" + block)


def renew(machine: Machine, folder: Path) -> Path:
    """certbot has a new certificate, and runs the hook of docs/tls.md."""
    (hook,) = commands("tls.md", "## A new certificate", "## What is checked")
    folder.mkdir()
    pair = certificates.make(folder, NAME)
    live = machine.tree / "etc/letsencrypt/live" / NAME
    shutil.rmtree(live, ignore_errors=True)
    live.mkdir(parents=True)
    shutil.copy(pair.certificate, live / "fullchain.pem")
    shutil.copy(pair.key, live / "privkey.pem")
    live.parent.chmod(0o700)
    machine.root(hook, RENEWED_LINEAGE=f"/etc/letsencrypt/live/{NAME}")
    return Path(pair.certificate)


def test_the_unit_serves_what_the_docs_configure(
    machine: Machine, manager: socket.socket, tmp_path: Path
) -> None:
    install(machine)
    log = tmp_path / "log"
    pid = machine.start(log, NO_BROKER)
    heard = manager.recv(4096).decode()
    assert heard.startswith("READY=1\n"), log.read_text()
    assert ":25; " in heard
    machine.client(SEND)  # with the password that came as a credential

    user = int(machine.root("id -u fastsmtp"))
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    assert status["Uid"].split() == [str(user)] * 4
    assert int(status["CapBnd"], 16) == 1 << 10  # CAP_NET_BIND_SERVICE alone
    queue = (machine.tree / "var/lib/fastsmtp/queue.db").stat()
    assert (queue.st_uid, stat.S_IMODE(queue.st_mode)) == (user, 0o600)
    received = machine.tree / "var/log/fastsmtp/received.log"
    assert stat.S_IMODE(received.stat().st_mode) == 0o600
    listed = machine.root("/opt/fastsmtp/bin/fastsmtp queue list")  # as root finds it
    assert "<friend@example.org>" in listed

    # Root's secrets stay root's; the broker's address comes as a credential, too.
    assert machine.inside("cat", "/etc/credstore/fastsmtp.rabbitmq-url")[0] == 1
    assert machine.inside("touch", "/etc/fastsmtp/new", "/usr/new")[0] == 1
    code, said = machine.inside("/opt/fastsmtp/bin/fastsmtp", "check")
    assert code == 0, said
    assert re.search(r"^rabbitmq-address: +amqp://guest:", said, re.MULTILINE), said

    os.kill(pid, signal.SIGTERM)
    assert machine.service is not None
    assert machine.service.wait(60) == 0, log.read_text()
    assert "\tfriend@example.org\t" in received.read_text()
    assert "\trelay\t250 " in received.read_text()


def test_a_renewed_certificate_and_a_file_of_users_reach_the_service(
    machine: Machine, manager: socket.socket, tmp_path: Path
) -> None:
    install(machine)
    first = renew(machine, tmp_path / "first")
    (configured, *_) = commands("tls.md", "# TLS", "## Several names")
    config = machine.tree / "etc/fastsmtp/config.txt"
    users = "smtp-auth: file:///etc/fastsmtp/users\n"
    config.write_text(config.read_text() + configured + users)
    (passwd,) = [
        block
        for block in commands("auth.md", "## Users in a file", "## Users in the configuration")
        if block.startswith("fastsmtp passwd")
    ]
    machine.root(f"PATH=/opt/fastsmtp/bin:$PATH\necho change-me | {passwd}")
    for command in ("chgrp fastsmtp /etc/fastsmtp/users", "chmod 640 /etc/fastsmtp/users"):
        assert f"`{command}`" in (DOCS / "auth.md").read_text()
        machine.root(command)
    log = tmp_path / "log"
    machine.start(log, NO_BROKER)
    heard = manager.recv(4096).decode()
    assert heard.startswith("READY=1\n"), log.read_text()
    assert "TLS: STARTTLS and port 465" in heard
    assert machine.client(SERIAL).strip() == fingerprint(first)
    machine.client(SEND)

    second = renew(machine, tmp_path / "second")
    code, said = machine.reload()
    assert code == 0, said
    assert machine.client(SERIAL).strip() == fingerprint(second)
    machine.client(SEND)


def fingerprint(certificate: Path) -> str:
    command = ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", certificate]
    line = subprocess.check_output(command, text=True)
    return line.split("=")[1].strip().replace(":", "").lower()
