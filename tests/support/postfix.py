"""Postfix, from where tests/install-tools unpacks it: load generators, a mail server of one's own.

The machine's own Postfix, its queue and its users' mail are never touched.
"""

import os
import pwd
import re
import subprocess

from tests.support.daemon import ROOT
from tests.support.relay import Relay

_FOLDER = ROOT / ".tools" / "postfix" / "usr"
_LIBRARIES = _FOLDER / "lib" / "postfix"
SMTP_SOURCE = str(_FOLDER / "sbin" / "smtp-source")
SMTP_SINK = str(_FOLDER / "sbin" / "smtp-sink")
POSTCONF = str(_FOLDER / "sbin" / "postconf")
ENV = os.environ | {"LD_LIBRARY_PATH": f"{_LIBRARIES}:{_FOLDER}/lib/{os.uname().machine}-linux-gnu"}

MISSING = (
    ""
    if os.path.exists(SMTP_SOURCE)
    else f"needs Postfix's smtp-source: no {SMTP_SOURCE} (tests/install-tools unpacks it)"
)
"""Why they cannot be used here; "" where they can."""

_OWNER = "mail"
"""Whose the queue is: any user but root and nobody (base-passwd has it everywhere in Debian)."""
_OWNED = "active bounce corrupt defer deferred flush hold incoming maildrop private public"
_OWNED += " saved trace"

_MAIN = """\
compatibility_level = 3.6
queue_directory = {self.folder}/queue
data_directory = {self.folder}/data
meta_directory = {self.folder}
daemon_directory = {libraries}/sbin
command_directory = {programs}/sbin
shlib_directory = {libraries}
import_environment = MAIL_CONFIG LD_LIBRARY_PATH
maillog_file = {self.log_file}
maillog_file_prefixes = {self.folder}
mail_owner = {owner}
setgid_group = utmp
default_privs = nobody
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = relay.example.net
mydestination =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
local_recipient_maps =
alias_maps =
alias_database =
relayhost = [127.0.0.1]:{self.target}
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
message_size_limit = 0
smtp_destination_recipient_limit = 1000
in_flow_delay = 0
minimal_backoff_time = 1s
maximal_backoff_time = 1s
queue_run_delay = 1s
transport_retry_time = 1s
"""

_MASTER = """\
127.0.0.1:{self.port} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
proxymap unix - - n - - proxymap
"""


class Postfix(Relay):
    """All of Postfix, without its set-gid commands: mail comes in by SMTP. Needs root."""

    missing = MISSING or ("" if os.geteuid() == 0 else "Postfix's master needs root")
    completed = re.compile(r"qmgr\[\d+\]: \w+: removed$", re.MULTILINE)

    def configure(self) -> None:
        words = {"self": self, "libraries": _LIBRARIES, "programs": _FOLDER, "owner": _OWNER}
        for name, text in (("main.cf", _MAIN), ("master.cf", _MASTER)):
            file = self.folder / name
            file.write_text(text.format(**words))
            # Postfix waits for seconds until it takes a file that was written just now.
            os.utime(file, (0, 0))
        owner = pwd.getpwnam(_OWNER).pw_uid
        for name in ("queue", "queue/pid"):
            (self.folder / name).mkdir()
        for name in ("data", *(f"queue/{each}" for each in _OWNED.split())):
            (self.folder / name).mkdir()
            os.chown(self.folder / name, owner, -1)

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_LIBRARY_PATH": ENV["LD_LIBRARY_PATH"], "MAIL_CONFIG": str(self.folder)}

    def spawn(self) -> subprocess.Popen[bytes]:
        master = _LIBRARIES / "sbin" / "master"
        return self.execute([master, "-c", self.folder, "-d"], self.environment)

    def prod(self) -> None:
        """What it has "skipped, still being delivered" it leaves alone for too long."""
        kick = [_FOLDER / "sbin" / "postkick", "public", "qmgr", "FADI"]
        subprocess.run(kick, env=self.environment, check=False, timeout=10)
