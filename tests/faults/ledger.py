"""The ledger: what was sent, what was answered, what the queue holds at the end.

Every message carries a token of its own and is sent once. Whoever sends tells `sent` before the
last byte leaves and `answered` when a reply came; `found` takes what was drained. The judgement:

- lost: answered with 250, and some recipient's copy is not in the queue;
- damaged: in the queue with another content or envelope than was sent, or never sent at all;
- duplicates: copies that are in the queue more than once;
- strangers: of these, those whose message-id is not that of the first;
- deferred: messages that were refused before their content;
- ambiguous: never answered, or refused, and yet in the queue; a client would send it again.
"""

import hashlib
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Mail:
    """One message that was sent."""

    token: str
    sender: str
    recipients: tuple[str, ...]
    digest: bytes


@dataclass(frozen=True)
class Report:
    """What became of all mail; counts of messages, `duplicates` and `damaged` of copies."""

    seed: int
    sent: int
    acknowledged: int
    refused: int
    unanswered: int
    lost: int
    damaged: int
    duplicates: int
    strangers: int
    ambiguous: int
    deferred: int
    longest: float  # seconds between the end of a content and its 250

    def __str__(self) -> str:
        return " · ".join(
            f"{name} {value:.1f} s" if isinstance(value, float) else f"{name} {value}"
            for name, value in vars(self).items()
        )


def digest(content: bytes) -> bytes:
    """What the ledger keeps of a content."""
    return hashlib.sha256(content).digest()


@dataclass
class Ledger:
    """Written by the load, read by the test."""

    seed: int
    mails: dict[str, Mail] = field(default_factory=dict)
    replies: dict[str, int] = field(default_factory=dict)  # token → code
    copies: Counter[tuple[str, str]] = field(default_factory=Counter)  # (token, recipient)
    ids: dict[tuple[str, str], str] = field(default_factory=dict)  # of the first copy
    strangers: int = 0
    deferred: int = 0
    longest: float = 0.0
    times: dict[str, float] = field(default_factory=dict)  # when a token was sent, monotonic
    damaged: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # how connections ended that no reply ended
    acknowledged: int = 0
    last_acknowledged: float = 0.0  # seconds of time.monotonic

    def sent(self, mail: Mail) -> None:
        """`mail` is about to leave whole."""
        self.mails[mail.token] = mail
        self.times[mail.token] = time.monotonic()

    def answered(self, token: str, code: int) -> None:
        """The reply after the end of `token`'s data."""
        self.replies[token] = code
        if code == 250:
            self.acknowledged += 1
            self.last_acknowledged = time.monotonic()
            self.longest = max(self.longest, self.last_acknowledged - self.times[token])

    @property
    def in_flight(self) -> int:
        """Messages sent and not answered, those whose connection broke included."""
        return len(self.mails) - len(self.replies)

    def found(self, token: str, sender: str, recipient: str, content: bytes, id: str = "") -> None:
        """One message of the queue."""
        mail = self.mails.get(token)
        if (
            mail is None
            or (mail.sender, mail.digest) != (sender, digest(content))
            or recipient not in mail.recipients
        ):
            self.damaged.append(f"{token} {sender} {recipient} {content[:200]!r}")
        else:
            self.copies[token, recipient] += 1
            self.strangers += self.ids.setdefault((token, recipient), id) != id

    def report(self) -> Report:
        """The judgement, once everything is drained."""
        acknowledged = {token for token, code in self.replies.items() if code == 250}
        return Report(
            seed=self.seed,
            sent=len(self.mails),
            acknowledged=len(acknowledged),
            refused=len(self.replies) - len(acknowledged),
            unanswered=self.in_flight,
            lost=sum(
                any(not self.copies[token, each] for each in self.mails[token].recipients)
                for token in acknowledged
            ),
            damaged=len(self.damaged),
            duplicates=sum(count - 1 for count in self.copies.values()),
            strangers=self.strangers,
            ambiguous=len({token for token, _ in self.copies} - acknowledged),
            deferred=self.deferred,
            longest=self.longest,
        )
