import cython

from fastsmtp._session cimport Session
from fastsmtp.envelope cimport Envelope, Recipient
from fastsmtp.gate cimport Gate
from fastsmtp.metrics cimport Metrics
from fastsmtp.payload cimport Composer, Outgoing
from fastsmtp.peer cimport Peer
from fastsmtp.replies cimport Reply


cdef class Arrival:
    cdef Intake _intake
    cdef double _begun
    cdef Py_ssize_t _held
    cdef readonly object answer
    cdef readonly Peer peer
    cdef readonly Envelope envelope
    cdef readonly Py_ssize_t size
    cdef public list outgoing

    cpdef hold(self, Py_ssize_t octets)
    cpdef Reply rejected(self, Reply reply)

    @cython.locals(metrics=Metrics, outgoing=Outgoing, recipient=Recipient,
                   position=cython.Py_ssize_t)
    cdef Reply _stored(self)

    @cython.locals(intake=Intake)
    cdef Reply _ended(self, Reply reply, list stored)


cdef class Intake:
    cdef readonly Gate gate
    cdef readonly Metrics metrics
    cdef readonly object refusals
    cdef readonly object received_log
    cdef readonly bint tells
    cdef Composer _composer
    cdef object _sink
    cdef readonly set _tasks
    cdef object _turn

    cpdef Reply accept(self, Session session, answer, Py_ssize_t held)

    @cython.locals(first=Outgoing)
    cdef Reply _put(self, list outgoing, Arrival arrival)
