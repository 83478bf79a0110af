cdef class Lifted:
    cdef readonly object _content
    cdef object _metrics, _peer
    cdef Py_ssize_t _count, _octets, _malformed
    cdef public dict dsn, properties
