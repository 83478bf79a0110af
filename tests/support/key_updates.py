"""A TLS 1.3 client that sends KeyUpdate (RFC 8446 §4.6.3), for which Python's ssl has no call."""

import ctypes
import ssl
from typing import Any

SIZE = 27
"""Octets of a record with one."""


class KeyUpdates:
    """Sends KeyUpdates over `client`, which must not block for `send` not to."""

    def __init__(self, client: ssl.SSLSocket) -> None:
        inside: Any = client
        self._library = ctypes.CDLL("libssl.so.3")
        self._library.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
        self._library.SSL_do_handshake.argtypes = [ctypes.c_void_p]
        # PyObject_HEAD (two words), the socket, then the SSL *
        address = id(inside._sslobj) + 3 * ctypes.sizeof(ctypes.c_void_p)
        self._ssl = ctypes.c_void_p.from_address(address).value

    def send(self, count: int, *, requests: bool = True) -> int:
        """Give how many of `count` were sent; `requests`: each asks for one in return."""
        for sent in range(count):
            self._library.SSL_key_update(self._ssl, int(requests))
            if self._library.SSL_do_handshake(self._ssl) != 1:
                return sent
        return count
