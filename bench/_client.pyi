"""One SMTP client session of the load generator: says its lines, checks every reply, keeps time.

A protocol for an event loop's transport. `Run` is what the sessions of one run share; `Client` is
one connection. Any reply but the expected one ends the run with an error. Opens no connection.
"""

import asyncio
import ssl

class Run:
    """What the sessions of one run share: what is said, how often, and how long replies took."""

    opening: list[tuple[bytes | None, bytes]]
    mail: list[tuple[bytes | None, bytes]]
    reconnect: bool
    context: ssl.SSLContext | None
    stay: bool
    answered: int  # messages that got their 250
    last: float  # monotonic time of the last of those, seconds

    def __init__(
        self,
        opening: list[tuple[bytes | None, bytes]],
        mail: list[tuple[bytes | None, bytes]],
        messages: int,
        *,
        reconnect: bool = False,
        context: ssl.SSLContext | None = None,
        stay: bool = False,
    ) -> None:
        """`opening` begins with the greeting, `mail` is one message, `messages` are sent at most.

        Steps are what is said at once, and the codes of all replies to it (`b"250250354"`); None
        instead of what is said: begin TLS.

        `reconnect`: a connection a message; `stay`: no QUIT when there is no more to send.
        """
    @property
    def is_over(self) -> bool:
        """No message is left to begin."""
    def stop(self) -> None:
        """Begin no further message."""
    def latencies(self) -> list[float]:
        """Seconds from the last step of each message to its reply, in order of the replies."""

class Client(asyncio.Protocol):
    """One connection of a run; takes its first message when it is made."""

    ended: asyncio.Future[None]  # the connection is closed; or the error that ended it
    idle: asyncio.Future[None]  # with `stay`: there is no more to send

    def __init__(self, run: Run) -> None: ...
    def abort(self) -> None:
        """Close the connection without a word."""
