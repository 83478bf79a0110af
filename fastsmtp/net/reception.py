"""What all connections of a worker share; holds it, and does nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
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
from fastsmtp.replies import Reply

if TYPE_CHECKING:
    from fastsmtp.net.connection import Connection


@dataclass(slots=True)
class Reception:
    """One a worker."""

    rules: Rules
    gate: Gate
    metrics: Metrics
    intake: Intake
    places: Places  # open connections of all workers
    limit: int  # of them at most
    access: Access
    authenticator: Authenticator
    certificates: Certificates | None = None
    open: set[Connection] = field(default_factory=set)
    refusal: Reply | None = None  # what new clients are told instead of the greeting
    ids: Ids = field(default_factory=Ids)  # of sessions, for the log
    lost: asyncio.Event = field(default_factory=asyncio.Event)  # one of `open` has ended
    complaints: Complaints = field(default_factory=Complaints)
