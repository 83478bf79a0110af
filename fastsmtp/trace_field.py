"""The Received field that `smtp-received` puts in front of a message.

Takes what a client said of itself, and gives a field in which that cannot read as our own words.
"""

import re
from datetime import UTC, datetime
from email.utils import format_datetime

from fastsmtp.envelope import Envelope
from fastsmtp.peer import Peer

_NAME = r"[\w-]+(?:\.[\w-]+)*\.?|\[[0-9A-Za-z:.]+\]"
_ASCII_NAME, _UTF8_NAME = re.compile(_NAME, re.ASCII), re.compile(_NAME)
"""Domain or address-literal (RFC 5321 §4.1.2); with underscores, which many names have."""


def received_field(hostname: str, envelope: Envelope, peer: Peer, now: int) -> bytes:
    """A trace field (RFC 5321 §4.4, protocol names RFC 3848, RFC 6531 §4.3); `now` since 1970.

    Extended-Domain begins with a Domain or an address-literal: a HELO that is neither is left out,
    and the client's address stands in its place. JSON has it in `connection` all the same.
    """
    protocol = "UTF8SMTP" if envelope.smtputf8 else "ESMTP"
    protocol += ("S" if peer.secure else "") + ("A" if peer.user else "")
    literal = f"[IPv6:{peer.remote_ip}]" if ":" in peer.remote_ip else f"[{peer.remote_ip}]"
    name = _UTF8_NAME if envelope.smtputf8 else _ASCII_NAME
    helo = peer.helo if name.fullmatch(peer.helo) else literal
    return (
        f"Received: from {helo} ({literal})\r\n"
        f"\tby {hostname} (fastsmtp) with {protocol};\r\n"
        f"\t{format_datetime(datetime.fromtimestamp(now, UTC))}\r\n"
    ).encode()
