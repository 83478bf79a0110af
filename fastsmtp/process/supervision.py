"""What the supervisor itself tells whoever watches: what runs here, since when, and reloads."""

import platform
import ssl
import time

from fastsmtp import __version__
from fastsmtp.counters import Counters, Snapshot
from fastsmtp.exposed import Exposed
from fastsmtp.process import usage

EXPOSED = {
    "build": Exposed(
        "gauge",
        "fastsmtp_build_info",
        "1: versions of the supervisor, of Python and of OpenSSL",
        ("version", "python", "openssl"),
    ),
    "start_time": Exposed(
        "gauge",
        "fastsmtp_start_time_seconds",
        "When the supervisor was started, in seconds since 1970",
    ),
    "reload_successful": Exposed(
        "gauge",
        "fastsmtp_config_last_reload_successful",
        "1 where the last reload succeeded, or there was none; 0 where it was refused",
    ),
    "reload_success_time": Exposed(
        "gauge",
        "fastsmtp_config_last_reload_success_timestamp_seconds",
        "When the last start or reload succeeded, in seconds since 1970",
    ),
    "restarts": Exposed(
        "counter", "fastsmtp_worker_restarts", "Workers that died, and were replaced"
    ),
}


class Supervision(Counters):
    """Told of every reload."""

    exposed = EXPOSED

    def __init__(self) -> None:
        openssl = ssl.OPENSSL_VERSION.split()[1]
        self.build = {f"{__version__} {platform.python_version()} {openssl}": 1}
        self.start_time = usage.STARTED
        self.reload_successful = 1
        self.reload_success_time = time.time()

    def reloaded(self, successful: bool) -> None:
        """A reload has ended."""
        self.reload_successful = int(successful)
        if successful:
            self.reload_success_time = time.time()

    def snapshot(self) -> Snapshot:
        """Everything, as it is now."""
        return self.counted() | usage.usage("supervisor", 0)
