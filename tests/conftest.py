from collections.abc import Callable, Iterator

import pytest

from tests.support import rabbitmq


@pytest.fixture(scope="session")
def broker() -> Iterator[rabbitmq.Broker]:
    """A RabbitMQ that tests share: use own queue names, leave its state as it was."""
    if rabbitmq.MISSING:
        pytest.skip(rabbitmq.MISSING)
    made = rabbitmq.Broker()
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def make_broker() -> Iterator[Callable[..., rabbitmq.Broker]]:
    """Makes brokers that a test may torture; `make_broker()` is not started yet."""
    if rabbitmq.MISSING:
        pytest.skip(rabbitmq.MISSING)
    made: list[rabbitmq.Broker] = []

    def make(**settings: str) -> rabbitmq.Broker:
        made.append(rabbitmq.Broker(**settings))
        return made[-1]

    yield make
    for each in made:
        each.close()
