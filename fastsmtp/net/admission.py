"""Whether a client may come in: by its address, and by how many are in already.

One object per worker. It judges a `Peer`, and judges it again where the peer turns out to be
somebody else. It says and logs nothing.
"""

from fastsmtp import replies
from fastsmtp.net.access import Access
from fastsmtp.net.connection_counts import ConnectionCounts
from fastsmtp.peer import Peer
from fastsmtp.replies import Reply


class Admission:
    """Access by address, `smtp-connections` and `smtp-connections-per-ip`, over all workers."""

    def __init__(self, access: Access, counts: ConnectionCounts, limit: int) -> None:
        self.access = access
        self._counts = counts  # open connections of all workers
        self.limit = limit  # of them at most

    def admit(self, peer: Peer) -> Reply | None:
        """Give the reply to refuse `peer` with, or None where it may come in.

        With ACCESS_DENIED, as with None, `peer` counts as a connection until `leave`. A peer that
        is counted already counts once, under the address that it has now.
        """
        admitted = self.access.judge(peer)
        if not peer.is_counted and self._counts.total() >= self.limit:
            return replies.TOO_MANY_CONNECTIONS
        self._uncount(peer)
        limit = self.access.per_ip
        if limit and not peer.is_unnamed:  # whose address is hidden shares no limit of it
            peer.counted_address = peer.remote_ip
            if self._counts.open_from(peer.remote_ip) > limit:
                self.leave(peer)
                return replies.TOO_MANY_FROM_ADDRESS
        if not peer.is_counted:
            peer.is_counted = True
            self._counts.open()
        return None if admitted else replies.ACCESS_DENIED

    def leave(self, peer: Peer) -> None:
        """Count `peer` no longer."""
        self._uncount(peer)
        if peer.is_counted:
            peer.is_counted = False
            self._counts.close()

    def _uncount(self, peer: Peer) -> None:
        if peer.counted_address:
            self._counts.close_from(peer.counted_address)
            peer.counted_address = ""
