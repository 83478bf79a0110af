from fastsmtp._session cimport Session
from fastsmtp.envelope cimport Envelope
from fastsmtp.gate cimport Gate
from fastsmtp.net.intake cimport Intake
from fastsmtp.replies cimport Reply


cdef class Connection:
    cdef object _reception, _transport, _header, _handshake, _attempt
    cdef Gate _gate
    cdef bint _tls_first, _submitted, _blocked, _going_on, _half_closed, _heard
    cdef readonly bint _paused
    cdef str _counted
    cdef Py_ssize_t _held
    cdef readonly Session session
    cdef public bint waits_for_memory
    cdef public double since, paused_for
    cdef public object seen_progress

    cdef _advance(self, bytes out)
    cdef _regulate(self)
    cdef _share_memory(self)
    cdef _hold(self, Py_ssize_t octets)
