cdef class Ids:
    cdef str _high, _nonce, _time
    cdef unsigned long long _count, _millisecond

    cpdef str fresh(self)
