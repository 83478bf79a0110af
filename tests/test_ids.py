import re
import subprocess
import sys

from fastsmtp import ids


def test_identifiers_are_unique_and_sort_by_time():
    made = ids.Ids()
    fresh = [made.fresh() for _ in range(100_000)]
    assert len(set(fresh)) == len(fresh)
    assert fresh == sorted(fresh)
    assert all(re.fullmatch("[0-9A-Z]{30}", one) for one in fresh)


def test_a_clock_that_stands_still_or_goes_back_repeats_nothing(monkeypatch):
    made = ids.Ids()
    seen = set()
    for clock in (10**18, 10**18, 5 * 10**17, 10**18, 0):
        monkeypatch.setattr(ids.time, "time_ns", lambda clock=clock: clock)
        seen.update(made.fresh() for _ in range(1000))
    assert len(seen) == 5000


def test_two_processes_at_the_same_instant_differ():
    program = (
        "from fastsmtp import ids; ids.time.time_ns = lambda: 0\n"
        "made = ids.Ids(); print(*(made.fresh() for _ in range(100)))"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
        for _ in range(2)
    ]
    assert len(set(b" ".join(outputs).split())) == 200
