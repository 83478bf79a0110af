"""What all connections of a worker share; holds it, and does nothing."""

import asyncio
from typing import TYPE_CHECKING

from fastsmtp._session import Rules
from fastsmtp.gate import Gate
from fastsmtp.ids import Ids
from fastsmtp.metrics import Metrics
from fastsmtp.net.access import Access
from fastsmtp.net.auth.authenticator import Authenticator
from fastsmtp.net.intake import Intake
from fastsmtp.net.places import Places
from fastsmtp.net.proxy import Complaints
from fastsmtp.net.tls import Certificates
from fastsmtp.refusals import Refusals
from fastsmtp.replies import Reply

if TYPE_CHECKING:
    from fastsmtp.net.connection import Connection


class Reception:
    """One a worker."""

    __slots__ = (
        "access",
        "authenticator",
        "certificates",
        "complaints",
        "gate",
        "ids",
        "intake",
        "limit",
        "lost",
        "metrics",
        "open",
        "places",
        "refusal",
        "refusals",
        "rules",
    )

    def __init__(
        self,
        rules: Rules,
        gate: Gate,
        metrics: Metrics,
        refusals: Refusals,
        intake: Intake,
        places: Places,
        limit: int,
        access: Access,
        authenticator: Authenticator,
        certificates: Certificates | None = None,
    ) -> None:
        self.rules = rules
        self.gate = gate
        self.metrics = metrics
        self.refusals = refusals
        self.intake = intake
        self.places = places  # open connections of all workers
        self.limit = limit  # of them at most
        self.access = access
        self.authenticator = authenticator
        self.certificates = certificates
        self.open: set[Connection] = set()
        self.refusal: Reply | None = None  # what new clients are told instead of the greeting
        self.ids = Ids()  # of sessions, for the log
        self.lost = asyncio.Event()  # one of `open` has ended
        self.complaints = Complaints()
