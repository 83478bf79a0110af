"""deploy/fastsmtp.service without systemd: its own directives, applied to a process.

Root only. /etc, /opt, /root, /run, /tmp, /var/lib and /var/log are of a mount namespace of its own,
the network, too: nothing of the machine changes, and port 25 is free. What systemd promises for a
directive (systemd.exec(5)) is done here with mount, setpriv and prlimit.
"""

import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.daemon import ROOT

FOLDERS = {"StateDirectory": "/var/lib", "LogsDirectory": "/var/log", "RuntimeDirectory": "/run"}
UNIT = "/etc/systemd/system/fastsmtp.service"
CREDENTIALS = "/run/credentials/fastsmtp.service"
NOTIFY = "/opt/fastsmtp/notify/socket"

_COMMAND = """#!/bin/sh
PYTHONPATH=/opt/fastsmtp/src exec /opt/fastsmtp/venv/bin/python -m fastsmtp "$@"
"""

# Everything is bound before what would hide it: sources and Python may be below /tmp and /root.
_HOUSE = """set -e
{interpreter} -c '
import fcntl, socket, struct
with socket.socket() as any:  # SIOCSIFFLAGS: the loopback interface is up
    fcntl.ioctl(any, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
'
mount --bind {source} {tree}/opt/fastsmtp/src
mount --bind {venv} {tree}/opt/fastsmtp/venv
mount --bind {python} {tree}/python
mount --bind {tree}/var/lib /var/lib
mount --bind {tree}/var/log /var/log
mount --bind {tree}/etc /etc
mount --rbind {tree}/opt /opt
mount -t tmpfs -o mode=755 tmpfs /run
case {python} in /root/*|/home/*|/tmp/*)
    mount --bind {tree}/python /mnt
    mount -t tmpfs -o mode=755 tmpfs {top}
    mkdir -p {python}
    mount --move /mnt {python}
esac
[ {top} = /tmp ] || mount -t tmpfs -o mode=1777 tmpfs /tmp
echo there
exec sleep infinity
"""

_STRICT = """set -e
for each in {writable}; do mount --bind $each $each; done
awk '{{ print $5 }}' /proc/self/mountinfo | while read -r each; do
    case " {writable} /proc /dev /sys /tmp " in *" $each "*) continue;; esac
    case $each in /proc/*|/dev/*|/sys/*) continue;; esac
    mount -o remount,bind,ro "$each" 2>/dev/null || true
done
exec "$@"
"""


class Machine:
    """A machine's folders, on which docs/operating.md is followed and the unit is started."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        for name in ("opt/fastsmtp/src", "opt/fastsmtp/venv", "opt/fastsmtp/bin", "python"):
            (tree / name).mkdir(parents=True)
        for name in ("opt/fastsmtp/notify", "var/lib", "var/log"):
            (tree / name).mkdir(parents=True)
        subprocess.run(["cp", "-a", "/etc", tree / "etc"], check=True)
        shutil.rmtree(tree / "etc" / "fastsmtp", ignore_errors=True)
        (tree / "etc/systemd/system").mkdir(parents=True, exist_ok=True)
        command = tree / "opt/fastsmtp/bin/fastsmtp"
        command.write_text(_COMMAND)
        command.chmod(0o755)
        python = os.path.realpath(sys.base_prefix)
        house = _HOUSE.format(
            interpreter=sys.executable,
            source=ROOT,
            venv=sys.prefix,
            tree=tree,
            python=python,
            top=f"/{python.split('/')[1]}",
        )
        self.house = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "-m", "-n", "sh", "-c", house],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.house.stdout is not None
        assert self.house.stdout.readline() == "there\n"
        self.service: subprocess.Popen[bytes] | None = None

    def root(self, script: str, **environment: str) -> str:
        """What a script of root's prints, in the folder of the sources."""
        done = subprocess.run(
            [*self._enter(self.house.pid), "sh", "-ec", f"cd /opt/fastsmtp/src\n{script}"],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def client(self, script: str) -> str:
        """What a Python program prints that runs on this machine's network."""
        command = ["nsenter", "-t", str(self.house.pid), "-n", sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def directives(self, name: str) -> list[str]:
        """The values of a directive of the unit that was installed."""
        unit = (self.tree / UNIT[1:]).read_text()
        return re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)

    def start(self, log: Path, *environment: str) -> int:
        """ExecStart under the unit's directives; the process id."""
        (user,), (group,) = self.directives("User"), self.directives("Group")
        assert self.directives("ProtectSystem") == ["strict"]
        writable = []
        for name, above in FOLDERS.items():
            (folder,), (mode,) = self.directives(name), self.directives(f"{name}Mode")
            path = f"{above}/{folder}"
            self.root(f"mkdir -p {path}; chown -R {user}:{group} {path}; chmod {mode} {path}")
            writable.append(path)
        for name in self.directives("ConfigurationDirectory"):
            self.root(f"mkdir -p /etc/{name}")
        self.root(f"mkdir -p {CREDENTIALS}")
        for name in self.directives("LoadCredential"):
            # root reads it, the service has a copy: owned by the user, for reading alone
            self.root(
                f"if [ -e /etc/credstore/{name} ]; then"
                f" install -m 400 -o {user} /etc/credstore/{name} {CREDENTIALS}/{name}; fi"
            )
        self.root(f"chown {user} {CREDENTIALS}; chmod 500 {CREDENTIALS}")
        with log.open("ab") as output:
            self.service = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", *self._enter(self.house.pid)),
                    *("unshare", "-m", "sh", "-c", _STRICT.format(writable=" ".join(writable))),
                    *("sh", *self._as_user(environment), *self._command("ExecStart")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
            )
        return self.service.pid

    def inside(self, *command: str, environment: tuple[str, ...] = ()) -> tuple[int, str]:
        """Exit status and output of a command that runs as the service does."""
        assert self.service is not None
        done = subprocess.run(
            [*self._enter(self.service.pid), *self._as_user(environment), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout

    def reload(self) -> tuple[int, str]:
        """ExecReload."""
        assert self.service is not None
        command = self._command("ExecReload")
        pid = str(self.service.pid)
        return self.inside(*(pid if each == "$MAINPID" else each for each in command))

    def close(self) -> None:
        for process in (self.service, self.house):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        if self.house.stdout is not None:
            self.house.stdout.close()

    def _command(self, name: str) -> list[str]:
        (line,) = self.directives(name)
        return shlex.split(line)

    def _as_user(self, environment: tuple[str, ...]) -> list[str]:
        """What systemd gives a process of the unit, apart from its mounts."""
        (user,), (group,) = self.directives("User"), self.directives("Group")
        (mask,), (files,) = self.directives("UMask"), self.directives("LimitNOFILE")
        assert self.directives("NoNewPrivileges") == ["yes"]
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # a container may not raise it
        files = files if most == resource.RLIM_INFINITY else str(min(int(files), most))
        ambient, bounding = (
            ",".join(["-all", *(f"+{each[4:].lower()}" for each in caps.split())])
            for caps in (
                *self.directives("AmbientCapabilities"),
                *self.directives("CapabilityBoundingSet"),
            )
        )
        return [
            *("prlimit", f"--nofile={files}", "setpriv", "--no-new-privs"),
            *("--reuid", user, "--regid", group, "--init-groups"),
            *("--bounding-set", bounding, "--inh-caps", ambient, "--ambient-caps", ambient),
            *("env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", f"NOTIFY_SOCKET={NOTIFY}"),
            *("RUNTIME_DIRECTORY=/run/fastsmtp", f"CREDENTIALS_DIRECTORY={CREDENTIALS}"),
            *(*self.directives("Environment"), *environment),
            *("sh", "-c", f'umask {mask}; exec "$@"', "sh"),
        ]

    @staticmethod
    def _enter(pid: int) -> list[str]:
        return ["nsenter", "-t", str(pid), "-m", "-n"]
