import cython


cdef class TlsStream:
    cdef object _transport, _protocol, _incoming, _outgoing, _tls
    cdef bytes _unread
    cdef Py_ssize_t _fed, _rest
    cdef long long _records, _read_records, _octets
    cdef int _header
    cdef bint _done, _busy, _paused, _over, _silent, _ticket_waits

    cdef _go_on(self)
    cdef bint _shake_hands(self) except -1
    cdef _read(self)
    cdef _limit_empty_records(self)
    cdef bint _feed(self) except -1

    @cython.locals(stop=Py_ssize_t, step=Py_ssize_t, left=cython.int)
    cdef Py_ssize_t _pass(self, bytes data, Py_ssize_t at) except -1
    cdef _flush(self)
    cdef _say_goodbye(self)
    cdef _fail(self, error)
    cdef _end(self)
