"""What a PROXY header means for a connection, and the log lines about headers that are wrong.

Reads no socket (`proxy_acceptor` does); the header's octets are `_proxy`'s.
"""

import logging
import time

from fastsmtp._proxy import Header
from fastsmtp.metrics import Metrics
from fastsmtp.peer import Peer, Proxy

log = logging.getLogger(__name__)

STARTS = (b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n")
"""How a header begins, version 1 and 2."""

LINES, PERIOD = 10, 60.0
"""Log lines about headers within so many seconds; whoever connects can cause them."""


def introduce(peer: Peer, header: Header) -> None:
    """Take from the proxy's header who stands behind it; ends that it does not tell stay."""
    proxy = peer.proxy = Proxy(peer.remote_ip, header.version)
    proxy.unique_id = header.unique_id
    proxy.sni = header.authority
    proxy.alpn = header.alpn
    proxy.tls = header.tls
    proxy.client_cn = header.client_cn
    proxy.client_verified = header.client_verified
    peer.is_hidden = not header.source_ip
    if not peer.is_hidden:
        peer.remote_ip, peer.remote_port = header.source_ip, header.source_port
        peer.local_ip, peer.local_port = header.destination_ip, header.destination_port
    peer.secure = header.secure


class Complaints:
    """Counts, and warns in at most LINES lines within PERIOD: then only how many there were."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._since = -PERIOD
        self._told = 0
        self._withheld = 0

    def refused(self, ip: str, reason: str, why: str) -> None:
        """A proxy's connection was closed for its header; `reason`: of `metrics.PROXY_FAILURES`."""
        self._metrics.proxy_failures[reason] += 1
        self._tell(f"closed a connection from {ip}, which is in smtp-proxy: {why}")

    def unexpected(self, peer: Peer) -> None:
        """A PROXY header came where an SMTP command was due."""
        self._metrics.proxy_failures["unexpected"] += 1
        if peer.proxy is None:
            self._tell(
                f"a PROXY header came from {peer.remote_ip}, which is not in smtp-proxy: "
                "add it there, or take send-proxy from its configuration"
            )
        else:
            self._tell(
                f"a second PROXY header came from {peer.proxy.remote_ip}: one proxy of a chain "
                "alone may send one, or the others must take it off (accept-proxy)"
            )

    def not_tls(self, peer: Peer) -> None:
        """Something else came where a handshake was due, a PROXY header perhaps."""
        self._tell(
            f"what came from {peer.remote_ip} on a TLS port is not TLS: a client without TLS, or "
            "a PROXY header from a proxy that is not in smtp-proxy"
        )

    def _tell(self, line: str) -> None:
        now = time.monotonic()
        if now - self._since >= PERIOD:
            if self._withheld:
                log.warning("%d more lines about PROXY headers were not written", self._withheld)
            self._since = now
            self._told = self._withheld = 0
        if self._told < LINES:
            self._told += 1
            log.warning("%s", line)
        else:
            self._withheld += 1
