"""The table of sinks: where accepted mail may go, and which one the settings choose."""

from typing import Any

from fastsmtp.availability import Availability
from fastsmtp.metrics import Metrics
from fastsmtp.settings import Settings
from fastsmtp.sinks.base import Sink
from fastsmtp.sinks.broker import Broker
from fastsmtp.sinks.choice import Choice
from fastsmtp.sinks.queue_file import QueueFile

SINKS: tuple[Choice[Any], ...] = (Broker(), QueueFile())
"""All of them; the first one that is chosen takes the mail, and the last one always is."""


def chosen(settings: Settings) -> Choice[Any]:
    """The one that the settings choose."""
    return next(choice for choice in SINKS if choice.is_chosen(settings))


def make(settings: Settings, availability: Availability, metrics: Metrics, worker: int = 0) -> Sink:
    """Make the sink that the settings choose; `metrics` take in the counters of all sinks.

    `worker` counts the processes of a generation from 0. Raises OSError or ValueError.
    """
    counters = {choice: choice.counters() for choice in SINKS}
    for each in counters.values():
        metrics.include(each)
    choice = chosen(settings)
    return choice.make(settings, availability, counters[choice], worker)
