"""All attacks, family by family, and the two forms in which they are made."""

from tests.hostile import (
    copies,
    envelopes,
    expansion,
    fairness,
    floods,
    headers,
    patience,
    queue_file,
)
from tests.hostile.arena import Arena, Attack, Result
from tests.support.rabbitmq import Broker

ATTACKS = [
    attack
    for family in (headers, envelopes, expansion, floods, fairness, queue_file, copies, patience)
    for attack in family.ATTACKS
]


def whole(attack: Attack, broker: Broker | None, seconds: float = 30) -> Result:
    """With the sizes that the attack's name tells."""
    with Arena(attack, broker, seconds=seconds) as arena:
        return arena.measure()


def short(attack: Attack, broker: Broker | None) -> Result:
    """With an eighth of the memory and of all that is sent: a few seconds."""
    with Arena(attack, broker, memory=32, seconds=5) as arena:
        return arena.measure()
