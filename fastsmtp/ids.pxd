import cython


cdef class Ids:
    cdef str _counted, _nonce, _time
    cdef unsigned long long _count, _second

    @cython.locals(nanosecond=cython.ulonglong, millisecond=cython.ulonglong,
                   count=cython.ulonglong)
    cpdef str fresh(self)
