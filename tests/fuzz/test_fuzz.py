"""Every fuzz target survives its seeds and a moment of chance, and can fail."""

import itertools
import random

import pytest

from fastsmtp import _content
from tests.fuzz import inputs, targets


@pytest.mark.parametrize("name", targets.TARGETS)
def test_target_survives(name):
    for data in inputs.seeds(name):
        targets.TARGETS[name](data)
    for data in itertools.islice(inputs.endless(name, random.Random(1)), 1500):
        targets.TARGETS[name](data)


def test_a_difference_is_found(monkeypatch):
    monkeypatch.setitem(targets.MODES, "keep", _content.NORMALIZE)
    with pytest.raises(AssertionError):
        targets.content(b"a\nb\r\n.\r\n")


def test_a_difference_in_the_text_is_found(monkeypatch):
    monkeypatch.setattr(targets, "TEXT_OF", lambda data: data.decode(errors="replace"))
    with pytest.raises(AssertionError):
        targets.escape(b"a\xffb")
