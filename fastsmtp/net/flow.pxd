from fastsmtp._session cimport Session
from fastsmtp.memory_budget cimport MemoryBudget


cdef class Flow:
    cdef readonly Session session
    cdef public object transport
    cdef readonly bint is_blocked, is_paused, waits_for_memory
    cdef public double paused_for
    cdef MemoryBudget _memory
    cdef object _go_on
    cdef bint _going_on
    cdef Py_ssize_t _held

    cpdef bint is_quiet(self) except -1
    cpdef block(self, bint is_blocked)
    cpdef update(self)
    cpdef share_memory(self)
    cpdef Py_ssize_t hand_over(self) except -1
    cpdef end(self)
    cdef _hold(self, Py_ssize_t octets)
