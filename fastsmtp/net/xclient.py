"""What XCLIENT means for a connection: who its client is from now on.

Reads no socket and says nothing; the command itself is the session's.
"""

from fastsmtp.peer import Peer


def introduce(peer: Peer, said: dict[str, str]) -> None:
    """Take from XCLIENT's attributes (see `xclient.parse`) who the client is; the rest stays.

    A client whose address the peer does not know is hidden behind it, as behind a proxy. A port
    that is not known is 0.
    """
    if "ADDR" in said:
        peer.is_hidden = not said["ADDR"]
        peer.remote_ip = said["ADDR"] or peer.xclient_ip
        peer.remote_port = 0
    if "PORT" in said:
        peer.remote_port = int(said["PORT"] or 0)
    peer.local_ip = said.get("DESTADDR") or peer.local_ip
    peer.local_port = int(said.get("DESTPORT") or peer.local_port)
    peer.is_introduced = True
    peer.described = None
