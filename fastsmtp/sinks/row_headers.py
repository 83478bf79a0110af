"""The column `headers` of a queue file: AMQP headers of a message that no other column says."""

import orjson

from fastsmtp.payload import Outgoing


def of(row: Outgoing) -> str | None:
    """The headers as JSON; None where there are none."""
    return f'{{"fingerprint":"{row.fingerprint}"}}' if row.fingerprint else None


def fingerprint(headers: str | None) -> str | None:
    """The header fingerprint of a row with these `headers`, or ""; None: they are unreadable."""
    if headers is None:
        return ""
    try:
        return str(orjson.loads(headers).get("fingerprint", ""))
    except (ValueError, AttributeError):
        return None
