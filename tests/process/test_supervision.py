"""supervision: what runs, since when, and what became of the last reload."""

import platform
import signal
import time

from fastsmtp import __version__
from tests.support import certificates
from tests.support.patience import until
from tests.support.ports import lasting_port
from tests.support.watcher import SETTINGS, Scrape
from tests.support.wire import Wire

RELOAD = "fastsmtp_config_last_reload"


def test_the_build_and_the_start(start_daemon):
    begun = time.time()
    seen = Scrape(start_daemon(**SETTINGS))
    python = platform.python_version()
    assert seen("fastsmtp_build_info", version=__version__, python=python) == 1
    assert begun - 2 < seen("fastsmtp_start_time_seconds") < time.time()


def test_reloads_are_told(start_daemon):
    daemon = start_daemon(smtp_port=lasting_port(), **SETTINGS)
    before = Scrape(daemon)
    assert before(f"{RELOAD}_successful") == 1
    started = before(f"{RELOAD}_success_timestamp_seconds")
    daemon.settings["smtp_maxsize"] = "huge"
    daemon.write_config()
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: Scrape(daemon)(f"{RELOAD}_successful") == 0)
    assert Scrape(daemon)(f"{RELOAD}_success_timestamp_seconds") == started
    assert daemon.reload(smtp_maxsize="1MB")[0] == 0
    seen = Scrape(daemon)
    assert seen(f"{RELOAD}_successful") == 1
    assert started < seen(f"{RELOAD}_success_timestamp_seconds") <= time.time()


def test_certificates_sizes_and_the_oldest_message(start_daemon, tmp_path):
    pair = certificates.make(tmp_path, ends=20)
    daemon = start_daemon(smtp_threads=2, smtp_maxsize="64KB", **pair.settings, **SETTINGS)
    with Wire(daemon.port) as client:
        client.ehlo()
        assert Scrape(daemon)("fastsmtp_queue_oldest_seconds") == 0
        assert client.mail(b"x" * 998 + b"\r\n").code == 250
        assert client.mail(b"x" * 2000 + b"\r\n").code == 250
        assert client.mail(b"x" * 70_000 + b"\r\n").code == 552
    seen = Scrape(daemon)
    expires = seen(
        "fastsmtp_certificate_expiry_timestamp_seconds", certificate=str(pair.certificate)
    )
    assert abs(expires - time.time() - 20 * 86400) < 60
    assert seen("fastsmtp_size_limit_bytes") == 64 * 1024
    assert seen("fastsmtp_message_size_bytes_bucket", le="1024") == 1
    assert seen("fastsmtp_message_size_bytes_bucket", le="4096") == 2
    assert seen("fastsmtp_message_size_bytes_count") == 2
    assert seen("fastsmtp_message_size_bytes_sum") == 1000 + 2002
    until(lambda: 0 < Scrape(daemon)("fastsmtp_queue_oldest_seconds") < 60)
