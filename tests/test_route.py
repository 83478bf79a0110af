"""route: one object per exchange and routing key, and only names that AMQP has room for."""

import pytest

from fastsmtp.route import Route


def test_one_object_per_pair() -> None:
    assert Route.of("mail", "inbox") is Route.of("mail", "inbox")
    assert Route.of("mail", "inbox") == Route("mail", "inbox") != Route.of("", "inbox")


@pytest.mark.parametrize("names", [("x" * 256, "inbox"), ("", "é" * 128)])
def test_a_name_that_is_too_long_is_an_error(names: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="is longer than 255 bytes"):
        Route.of(*names)


def test_the_longest_names() -> None:
    assert Route.of("x" * 255, "é" * 127).routing_key == "é" * 127


def test_as_logs_name_it() -> None:
    assert str(Route.of("", "inbox")) == "queue 'inbox'"
    assert str(Route.of("mail", "inbox")) == "queue 'inbox' through exchange 'mail'"
