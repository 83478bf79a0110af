"""Whether a client may come in: by its address, and by how many are in already.

One object per worker. It judges a `Peer`, and judges it again where the peer turns out to be
somebody else. It says and logs nothing.
"""

from fastsmtp import replies
from fastsmtp.net.access import Access
from fastsmtp.net.places import Places
from fastsmtp.peer import Peer
from fastsmtp.replies import Reply


class Admission:
    """Access by address, `smtp-connections` and `smtp-connections-per-ip`, over all workers."""

    def __init__(self, access: Access, places: Places, limit: int) -> None:
        self.access = access
        self._places = places  # open connections of all workers
        self.limit = limit  # of them at most

    def admit(self, peer: Peer) -> Reply | None:
        """Give the reply to refuse `peer` with, or None where it may come in.

        With ACCESS_DENIED, as with None, `peer` has its place until `leave`; a peer that has one
        keeps it, and is counted under the address that it has now.
        """
        admitted = self.access.judge(peer)
        if not peer.has_place and self._places.taken() >= self.limit:
            return replies.TOO_MANY_CONNECTIONS
        self._uncount(peer)
        limit = self.access.per_ip
        if limit and not peer.is_hidden:  # whose address is hidden shares no limit of it
            peer.counted = peer.remote_ip
            if self._places.enter_from(peer.remote_ip) > limit:
                self.leave(peer)
                return replies.TOO_MANY_FROM_ADDRESS
        if not peer.has_place:
            peer.has_place = True
            self._places.enter()
        return None if admitted else replies.ACCESS_DENIED

    def leave(self, peer: Peer) -> None:
        """Take back whatever place `peer` has."""
        self._uncount(peer)
        if peer.has_place:
            peer.has_place = False
            self._places.leave()

    def _uncount(self, peer: Peer) -> None:
        if peer.counted:
            self._places.leave_from(peer.counted)
            peer.counted = ""
