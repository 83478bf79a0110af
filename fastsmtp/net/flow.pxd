import cython

from fastsmtp._session cimport Session
from fastsmtp.memory_budget cimport Claim, MemoryBudget
from fastsmtp.questions cimport Message, Room
from fastsmtp.replies cimport Reply


cdef class Flow:
    cdef readonly Session session
    cdef public object transport
    cdef readonly bint is_blocked, is_paused, waits_for_memory
    cdef public double paused_for
    cdef readonly Claim claim
    cdef MemoryBudget _memory
    cdef object _turns, _go_on, _answered
    cdef Room _room
    cdef bint _going_on
    cdef Py_ssize_t _unwritten, _flat

    cpdef bint is_quiet(self) except -1
    cpdef block(self, bint is_blocked)

    @cython.locals(session=Session, claim=Claim, held=Py_ssize_t)
    cpdef update(self)
    cdef bint _has_backlog(self) except -1
    cpdef share_memory(self)
    cpdef Reply ask(self, Room question, answered)

    @cython.locals(claim=Claim)
    cpdef hand_over(self, Message message)
    cpdef end(self)
    cdef _identify(self)
