"""The table of who answers which question of a session."""

from collections.abc import Callable

from fastsmtp.net import intake
from fastsmtp.net.answerer import Answerer, Parts
from fastsmtp.net.auth import authenticator
from fastsmtp.questions import Credentials, Message, Question

ANSWERERS: dict[type[Question], Callable[[Parts], Answerer | None]] = {
    Message: intake.answerer,
    Credentials: authenticator.answerer,
}
"""Question type → what makes its answerer; None where the settings configure nobody."""


def configured(parts: Parts) -> dict[type[Question], Answerer]:
    """Who answers what in this worker. Raises OSError or ValueError: the settings cannot work."""
    made = {question: make(parts) for question, make in ANSWERERS.items()}
    return {question: answerer for question, answerer in made.items() if answerer is not None}
