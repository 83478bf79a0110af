"""What the benchmark computes from what it measured, and what it lets pass as right."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load import percentile
from bench.mail import SENDER, content, judge
from bench.noise import Comparison, interval
from bench.verdicts import Expectation, Result, limited

RESULTS = [
    Result("ours", "", [{"cpu": 40.0, "rate": 9.0}, {"cpu": 50.0, "rate": 8.0}, {"cpu": 45.0}]),
    Result("go", "", [{"cpu": 90.0, "rate": 6.0}]),
    Result("node", "", [{"cpu": 100.0, "rate": 5.0}]),
]


@given(st.lists(st.floats(0, 1), min_size=1), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_percentile(values, share):
    values.sort()
    found = percentile(values, share)
    enough = math.ceil(share * len(values))
    assert sum(each <= found for each in values) >= enough
    assert sum(each < found for each in values) < enough


@pytest.mark.parametrize(
    ("expectation", "end"),
    [
        (
            Expectation("cpu", "ours", 0.50, ("go",)),
            "45.00, 0.50 x go; expected at most 0.5 x: met",
        ),
        (Expectation("cpu", "ours", 0.49, ("go",)), "at most 0.49 x: MISSED"),
        (Expectation("cpu", "ours", 0.49, ("go",), plus=1.0), "at most 0.49 x + 1: met"),
        (Expectation("cpu", "ours", 0.49, ("go", "node")), "0.50 x the best of go, node"),
        (Expectation("rate", "ours", 1.4, ("node", "go"), at_least=True), "at least 1.4 x: met"),
        (Expectation("rate", "ours", 1.5, ("node", "go"), at_least=True), "1.5 x: MISSED"),
        (Expectation("cpu", "ours", 45.0), "45.00; expected at most 45: met"),
        (Expectation("cpu", "ours", 44.0), "45.00; expected at most 44: MISSED"),
        (Expectation("cpu", "ours", None, ("go",)), "45.00, 0.50 x go"),
        (Expectation("cpu", "ours", 0.1, ("go", "not here")), "MISSED"),
        (Expectation("cpu", "ours", 0.5, ("not here",)), ""),
        (Expectation("cpu", "not here", 0.5, ("go",)), ""),
    ],
)
def test_an_expectation_is_met_or_missed_or_says_nothing(expectation, end):
    said = expectation.judge(RESULTS)
    assert end in said
    assert bool(said) == bool(end)


def test_a_load_generator_at_its_limit_is_told():
    busy = Result("a", "", [{"load": load, "queued": 6.0} for load in (80.0, 85.0, 95.0)])
    calm = Result("b", "", [{"load": 80.0, "queued": 10.0}])
    (said,) = limited([busy, calm, Result("c", "", [{"cpu": 1.0}])])
    assert said.startswith("a: the load generator worked 85 %")


@given(st.integers(200, 5000))
def test_content_has_its_size_and_needs_no_stuffing(size):
    made = content(size)
    assert len(made) == size
    assert made.endswith(b"\r\n")
    assert b"\r\n." not in made
    assert max(map(len, made.split(b"\r\n"))) < 100


def test_what_came_is_compared_byte_for_byte():
    sent = {"envelope": SENDER, "recipient": "rcpt0@example.org", "mime": content(2048).decode()}
    judge(json.dumps(sent).encode())
    for key, value in (
        ("envelope", "someone@example.com"),
        ("recipient", "rcpt@example.com"),
        ("mime", content(2048).decode()[:-2]),
        ("mime", content(2048).decode().replace("x" * 62, "x" * 61 + "y", 1)),
        ("mime", ""),
    ):
        with pytest.raises(AssertionError):
            judge(json.dumps(sent | {key: value}).encode())


@pytest.mark.parametrize(
    ("count", "low", "high"), [(6, 1, 6), (7, 1, 7), (9, 2, 8), (15, 4, 12), (20, 6, 15)]
)
def test_the_interval_of_a_median_is_the_sign_tests(count, low, high):
    """Tables of the sign test have these ranks for 95 %."""
    assert interval([float(each) for each in range(count, 0, -1)]) == (low, high)


def test_five_rounds_say_nothing():
    with pytest.raises(ValueError, match="too few"):
        interval([1.0] * 5)


@pytest.mark.parametrize(
    ("ratios", "slower", "end"),
    [
        ([1.02, 1.03, 1.05, 1.02, 1.04, 1.03, 1.02], True, "SLOWER"),
        ([1.02, 1.03, 1.05, 0.99, 1.04, 1.03, 1.02], False, "no difference"),
        ([1.02, 1.03, 1.05, 0.99, 1.04, 1.03, 1.02, 1.02, 1.06], True, "SLOWER"),
        ([0.97, 0.99, 0.95, 0.98, 0.96, 0.97, 0.98], False, "faster"),
        ([1.0] * 7, False, "no difference"),
    ],
)
def test_a_revision_is_slower_only_beyond_noise(ratios, slower, end):
    base = [40.0 * (1 + number % 3) for number in range(len(ratios))]  # slow minutes hit both
    compared = Comparison.of(base, [a * b for a, b in zip(base, ratios, strict=True)])
    assert compared.slower is slower
    assert str(compared).endswith(end)
