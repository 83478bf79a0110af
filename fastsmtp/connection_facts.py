"""The property `connection` of the JSON; made once per connection and change of its facts."""

from typing import Any

from fastsmtp.peer import Peer, Proxy


def connection_facts(peer: Peer) -> dict[str, Any]:
    """The value of the property: who is at the connection's ends and what protects it."""
    connection: dict[str, Any] = {
        "local-ip": peer.local_ip,
        "local-port": peer.local_port,
        "remote-ip": peer.remote_ip,
        "remote-port": peer.remote_port,
        "secure": peer.secure,
    }
    if peer.user:
        connection["user"] = peer.user
    connection["helo"] = peer.helo
    if peer.tls:
        connection["tls"] = peer.tls
        connection["cipher"] = peer.cipher
    if peer.proxy is not None:
        connection["proxy"] = _proxy(peer.proxy)
    return connection


def _proxy(proxy: Proxy) -> dict[str, Any]:
    facts: dict[str, Any] = {"remote-ip": proxy.remote_ip, "version": proxy.version}
    texts = {
        "unique-id": proxy.unique_id,
        "sni": proxy.sni,
        "alpn": proxy.alpn,
        "tls": proxy.tls,
        "client-cn": proxy.client_cn,
    }
    facts.update((key, value) for key, value in texts.items() if value)
    if proxy.client_verified is not None:
        facts["client-verified"] = proxy.client_verified
    return facts
