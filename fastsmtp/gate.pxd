from fastsmtp.replies cimport Reply


cdef class Gate:
    cdef object _maxsize, _enough
    cdef dict _arriving
    cdef readonly object maxsize, body_limit, maxmemory
    cdef public Reply refusal, greeting
    cdef readonly object granted
    cdef readonly bint is_full

    cpdef hold(self, octets)
    cpdef enter(self, arriving)
    cpdef leave(self, arriving)
    cpdef bint goes_on(self, arriving) except -1
    cpdef bint must_wait(self, arriving) except -1
