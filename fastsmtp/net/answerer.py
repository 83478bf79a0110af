"""The contract of whoever answers a session's questions, and what answerers are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from fastsmtp.availability import Availability
from fastsmtp.metrics import Metrics
from fastsmtp.net.failures import Failures
from fastsmtp.net.received_log import ReceivedLog
from fastsmtp.payload import Composer
from fastsmtp.refusals import Refusals
from fastsmtp.replies import Reply
from fastsmtp.settings import Settings
from fastsmtp.sinks.base import Sink

Answered = Callable[[Any, Reply], None]
"""Called with a question and its answer."""


class Answerer(Protocol):
    """Answers one type of question. All calls come from the event loop."""

    def ask(self, question: Any, answered: Answered) -> Reply | None:
        """Give the answer where it is known at once; else call `answered` with it, once, later.

        An answer that is a refusal has been reported to `Refusals`.
        """


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker has for its answerers."""

    settings: Settings
    availability: Availability
    metrics: Metrics
    refusals: Refusals
    composer: Composer
    sink: Sink
    failures: Failures
    received_log: ReceivedLog | None = None
