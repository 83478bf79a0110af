"""The short form of every attack whose bounds hold; `make hostile` makes all of them, whole."""

from collections.abc import Iterator

import pytest

from tests.hostile.arena import Attack
from tests.hostile.attacks import ATTACKS, short
from tests.support import rabbitmq

HELD = [attack for attack in ATTACKS if attack.holds]


@pytest.fixture(scope="module")
def tortured() -> Iterator[rabbitmq.Broker]:
    """A broker that is stopped, blocked and killed."""
    if rabbitmq.MISSING:
        pytest.skip(rabbitmq.MISSING)
    with rabbitmq.running() as made:
        yield made


@pytest.mark.timeout(300)
@pytest.mark.parametrize("attack", HELD, ids=lambda attack: attack.name)
def test_bounds_hold(attack: Attack, request: pytest.FixtureRequest) -> None:
    result = short(attack, request.getfixturevalue("tortured") if attack.broker else None)
    assert result.complaints == [], result


def test_names_tell_attacks_apart() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
