"""The envelope of one message, as MAIL and RCPT gave it (RFC 5321 §2.3.1); checks nothing."""


class Recipient:
    """One accepted RCPT: who, and what it asked of delivery reports (RFC 3461)."""

    __slots__ = ("mailbox", "notify", "orcpt")

    def __init__(self, mailbox: str, notify: str | None = None, orcpt: str | None = None) -> None:
        self.mailbox = mailbox  # without "<>" and source route, as sent
        self.notify = notify  # NOTIFY in upper case
        self.orcpt = orcpt  # "type;address", xtext decoded


class Envelope:
    """One accepted MAIL and its recipients."""

    __slots__ = ("envid", "recipients", "ret", "sender", "size", "smtputf8")

    def __init__(
        self,
        sender: str,
        *,
        size: int = 0,
        smtputf8: bool = False,
        ret: str | None = None,
        envid: str | None = None,
    ) -> None:
        self.sender = sender  # without "<>" and source route, as sent; "" is the null path
        self.size = size  # octets, as SIZE= said; 0 where it said nothing
        self.smtputf8 = smtputf8
        self.ret = ret  # "FULL" or "HDRS"
        self.envid = envid  # xtext decoded
        self.recipients: list[Recipient] = []
