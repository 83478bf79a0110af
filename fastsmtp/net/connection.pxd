from fastsmtp._session cimport Session
from fastsmtp.gate cimport Gate
from fastsmtp.net.reception cimport Reception
from fastsmtp.peer cimport Peer
from fastsmtp.questions cimport Message, Question
from fastsmtp.replies cimport Reply


cdef class Connection:
    cdef Reception _reception
    cdef object _transport, _header
    cdef Question _asked
    cdef Gate _gate
    cdef bint _tls_first, _blocked, _going_on, _half_closed, _heard
    cdef readonly bint _paused
    cdef str _counted
    cdef Py_ssize_t _held
    cdef readonly Session session
    cdef public bint waits_for_memory
    cdef readonly bint is_shaking_hands
    cdef public double since, paused_for
    cdef public object seen_progress

    cdef _welcome(self)
    cdef _refuse_unheard(self, Peer peer, Reply reply)
    cdef Reply _too_many(self, Peer peer)
    cdef _leave(self)
    cdef _begin(self)
    cdef _say(self, bytes out)
    cdef _advance(self, bytes out)
    cdef _finish(self)
    cdef _regulate(self)
    cdef _share_memory(self)
    cdef _hold(self, Py_ssize_t octets)
