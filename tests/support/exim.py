"""Exim, from where tests/install-tools unpacks it: a mail server of one's own, root or not.

The machine's own Exim, its spool and its users' mail are never touched.
"""

import os
import re
import shutil
import subprocess

from tests.support.daemon import ROOT
from tests.support.relay import Relay

_FOLDER = ROOT / ".tools" / "exim" / "usr"
_PROGRAM = _FOLDER / "sbin" / "exim4"
_LIBRARIES = _FOLDER / "lib" / f"{os.uname().machine}-linux-gnu"

_UID = os.geteuid() or 65534
"""Whom Exim runs as: never as root, which it refuses."""

_CONFIG = """\
exim_path = {self.folder}/exim4
spool_directory = {self.folder}/spool
log_file_path = {self.folder}/log/%s
pid_file_path = {self.folder}/pid
keep_environment = LD_LIBRARY_PATH : LD_PRELOAD : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP
deliver_drop_privilege
never_users =
primary_hostname = relay.example.net
disable_ipv6
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.port}
tls_advertise_hosts =
host_lookup =
rfc1413_query_timeout = 0s
acl_smtp_rcpt = accept
allow_utf8_domains
dsn_advertise_hosts = *
smtp_accept_queue_per_connection = 0

begin routers
all:
  driver = manualroute
  route_list = * 127.0.0.1 byname
  self = send
  transport = onward

begin transports
onward:
  driver = smtp
  port = {self.target}
  max_rcpt = 1000

begin retry
* * F,1h,1s
"""


class Exim(Relay):
    """All of Exim; NSS wrapper tells it who Debian's user for it is."""

    missing = (
        "" if _PROGRAM.exists() else f"needs Exim: no {_PROGRAM} (tests/install-tools unpacks it)"
    )
    completed = re.compile(r" Completed$", re.MULTILINE)

    def configure(self) -> None:
        # It starts itself anew, as its user, who may not get at the repository.
        for file in (_PROGRAM, *_LIBRARIES.glob("*.so*")):
            shutil.copy(file, self.folder)
        (self.folder / "config").write_text(_CONFIG.format(self=self))
        (self.folder / "passwd").write_text(f"Debian-exim:x:{_UID}:{_UID}::/:/bin/false\n")
        (self.folder / "group").write_text(f"Debian-exim:x:{_UID}:\n")
        (self.folder / "spool").mkdir()
        for name in (".", "log", "spool"):
            os.chown(self.folder / name, _UID, -1)

    def spawn(self) -> subprocess.Popen[bytes]:
        env = {
            "LD_LIBRARY_PATH": str(self.folder),
            "LD_PRELOAD": "libnss_wrapper.so",
            "NSS_WRAPPER_PASSWD": str(self.folder / "passwd"),
            "NSS_WRAPPER_GROUP": str(self.folder / "group"),
        }
        options = ("--reuid", str(_UID), "--regid", str(_UID), "--clear-groups")
        return self.execute(
            [self.folder / "exim4", "-C", self.folder / "config", "-bdf", "-q1s"],
            env,
            *(options if os.geteuid() == 0 else ()),
        )

    def prod(self) -> None:
        """It forgets nothing."""
