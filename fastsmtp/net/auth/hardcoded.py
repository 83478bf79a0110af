"""`smtp-auth: hardcoded://user:pass,user2:pass2`, as MailerQ has it: users in the settings.

A password may hold a colon and no comma; nothing is percent-encoded.
"""

from fastsmtp.net.auth.pair import Pairs

SCHEME = "hardcoded://"


class Hardcoded(Pairs):
    """The users of one such value."""

    def __init__(self, text: str) -> None:
        """`text` is what `values.AUTH` has let pass."""
        super().__init__(
            (user.strip(), password)
            for user, _, password in (
                item.partition(":") for item in text.removeprefix(SCHEME).split(",")
            )
        )
