"""`smtp-auth: hardcoded://user:pass,user2:pass2`, as MailerQ has it: users in the settings.

A password may hold a colon and no comma; nothing is percent-encoded.
"""

from fastsmtp.net.auth.base import SchemeBackend
from fastsmtp.net.auth.pair import Pairs


class Hardcoded(Pairs, SchemeBackend):
    """The users of one such value."""

    scheme = "hardcoded://"
    rest = "[^:,]+:[^,]+(,[^:,]+:[^,]+)*"
    form = "hardcoded://user:pass,user2:pass2"

    def __init__(self, url: str) -> None:
        """`url` is what `backends.KIND` has let pass."""
        super().__init__(
            (user.strip(), password)
            for user, _, password in (
                item.partition(":") for item in url.removeprefix(self.scheme).split(",")
            )
        )
