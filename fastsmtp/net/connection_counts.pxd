import cython

from fastsmtp.addresses cimport client_network


cdef class ConnectionCounts:
    cdef object _memory, _cells
    cdef unsigned int[::1] _counts
    cdef bytes _key
    cdef Py_ssize_t _slot

    cpdef open(self)
    cpdef close(self)

    @cython.locals(total=cython.Py_ssize_t, count=cython.uint)
    cpdef Py_ssize_t total(self)
