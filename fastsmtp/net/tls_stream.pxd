cdef class TlsStream:
    cdef object _transport, _protocol, _incoming, _outgoing, _tls
    cdef bytes _unread
    cdef Py_ssize_t _fed
    cdef bint _done, _busy, _paused, _over, _silent, _ticket_waits

    cdef _go_on(self)
    cdef bint _shake_hands(self) except -1
    cdef _read(self)
    cdef bint _feed(self) except -1
    cdef _flush(self)
    cdef _say_goodbye(self)
    cdef _fail(self, error)
    cdef _end(self)
