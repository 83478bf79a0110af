cdef class MemoryBudget:
    cdef readonly object limit, held
    cdef readonly bint is_full
    cdef object _enough
    cdef dict _receivers

    cpdef hold(self, size)
    cpdef enter(self, receiver)
    cpdef leave(self, receiver)
    cpdef bint goes_on(self, receiver) except -1
    cpdef bint must_wait(self, receiver) except -1
