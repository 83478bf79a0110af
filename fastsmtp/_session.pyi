from collections.abc import Iterable

from fastsmtp.availability import Availability
from fastsmtp.metrics import Metrics
from fastsmtp.peer import Peer
from fastsmtp.questions import Question
from fastsmtp.refusals import Refusals
from fastsmtp.replies import Reply
from fastsmtp.settings import Settings

NEWLINES: dict[str, int]
"""Each value of smtp-bare-newline as `_content.Content` knows it."""

class Rules:
    """What the settings say to every session of a worker."""

    def __init__(self, settings: Settings, asked: Iterable[type[Question]] = ()) -> None:
        """`asked`: the questions that somebody is configured to answer."""

class Session:
    """One connection's dialogue (RFC 5321). Where a method gives bytes: write them, if any."""

    def __init__(
        self,
        rules: Rules,
        availability: Availability,
        metrics: Metrics,
        refusals: Refusals,
        peer: Peer,
    ) -> None:
        """`refusals` gets the session's own refusals, not those handed to it with an answer."""
    @property
    def peer(self) -> Peer:
        """The connection's facts; `helo` is kept up to date."""
    def flows(self) -> bool:
        """More may come in, nothing is kept: the caller has replies to write and no more."""
    @property
    def stalled(self) -> bool:
        """There is more to be said than one write should hold: write, then `proceed`."""
    @property
    def question(self) -> Question | None:
        """What the session waits for: find out, then call `answer`. Input is kept meanwhile."""
    @property
    def starting_tls(self) -> bool:
        """STARTTLS was accepted: read no more, write, shake hands, then call `secured`."""
    @property
    def refused(self) -> bool:
        """`refuse` was called: nothing but QUIT is answered any more."""
    @property
    def closing(self) -> bool:
        """The dialogue is over: write what was given, then close."""
    @property
    def quit(self) -> bool:
        """It is over because the client said QUIT."""
    @property
    def in_content(self) -> bool:
        """Content is coming in, or the next chunk of BDAT is due."""
    @property
    def filling(self) -> bool:
        """A message's content is coming in and is kept; between two chunks of BDAT, too."""
    @property
    def held(self) -> int:
        """Bytes that are kept: backlog, and envelope and content until the message is finished."""
    @property
    def overhead(self) -> int:
        """Bytes that the envelope takes in memory."""
    @property
    def expected(self) -> int:
        """What `held` may come to until the message is finished."""
    @property
    def idle(self) -> bool:
        """No transaction is open."""
    @property
    def progress(self) -> int:
        """Goes up whenever the time that a client is given begins anew."""
    @property
    def received(self) -> int:
        """Bytes of content from the wire since the session began."""
    @property
    def contents(self) -> int:
        """Messages whose content has begun to come in."""
    @property
    def renewals(self) -> int:
        """Messages that were accepted, or that were deferred at MAIL or at their end."""
    @property
    def backlog(self) -> int:
        """Octets that came while it waited, or was stalled."""
    def greet(self) -> bytes:
        """Give the greeting, or the refusal that takes its place (`Availability.greeting`)."""
    def refuse(self) -> bytes:
        """Give 554 instead of the greeting; from then on only QUIT is answered."""
    def secured(self) -> None:
        """The handshake is done: what was said before is forgotten (RFC 3207 §4.2)."""
    def feed(self, data: bytes) -> bytes:
        """Take what the client sent, give the replies to all of it, unless it is `stalled` then."""
    def proceed(self) -> bytes:
        """Where it is `stalled`: go on with the backlog."""
    def answer(self, question: Question, reply: Reply) -> bytes:
        """Take the answer to `question`, and go on with the backlog.

        Nothing happens where the session does not wait for it any more.
        """
    def abandon(self) -> None:
        """Keep nothing of the content that is coming in: at its end 452 is the `refusal`."""
    def stop(self) -> bytes:
        """Say 421 now where no transaction is open, else when it ends."""
    def close(self, reply: Reply) -> bytes:
        """Say `reply` now, and nothing more."""
