"""usage: a process tells of itself what its machine would."""

import os
import time

from fastsmtp.process.usage import usage
from tests.support.watcher import SETTINGS, Scrape


def test_it_is_what_the_machine_says():
    found = {name: value["worker-1 7"] for name, value in usage("worker-1", 7).items()}
    with open("/proc/self/status") as status:
        resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) * 1024
    assert abs(found["process_resident"] - resident) < 8 << 20
    assert 0 < found["process_cpu"] <= time.process_time()
    assert 3 <= found["process_open_fds"] < found["process_max_fds"]
    assert time.time() - 24 * 3600 < found["process_start"] < time.time()


def test_descriptors_are_counted():
    def count():
        return usage("worker-1", 1)["process_open_fds"]["worker-1 1"]

    before = count()
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(10)]
    assert count() == before + 10
    for each in opened:
        os.close(each)


def test_every_process_of_a_daemon_has_its_series(start_daemon):
    begun = time.time()
    daemon = start_daemon(smtp_threads=2, **SETTINGS)
    seen = Scrape(daemon)
    of = {
        (sample.labels["process"], sample.labels["generation"])
        for sample in seen.samples
        if sample.name == "process_resident_memory_bytes"
    }
    assert of == {("supervisor", "0"), ("worker-1", "1"), ("worker-2", "1")}
    for process, _ in of:
        assert seen("process_cpu_seconds_total", process=process) > 0
        assert seen("process_resident_memory_bytes", process=process) > 10 << 20
        assert seen("process_open_fds", process=process) > 3
        assert begun - 2 < seen("process_start_time_seconds", process=process) < time.time()
