cdef class Ids:
    cdef str _nonce, _time
    cdef unsigned long long _count, _millisecond

    cpdef str fresh(self)
