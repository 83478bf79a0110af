import cython

from fastsmtp.envelope cimport Recipient
from fastsmtp.memory_budget cimport Claim, MemoryBudget
from fastsmtp.metrics cimport Metrics
from fastsmtp.payload cimport Composer, Outgoing
from fastsmtp.questions cimport Message
from fastsmtp.replies cimport Reply


cdef class InFlight:
    cdef Intake _intake
    cdef double _begun
    cdef readonly object answered
    cdef readonly Message message
    cdef public list ids

    @cython.locals(claim=Claim)
    cpdef hold(self, Py_ssize_t octets)

    @cython.locals(message=Message)
    cpdef Reply refuse(self, Reply reply)

    @cython.locals(metrics=Metrics, message=Message, recipient=Recipient,
                   position=cython.Py_ssize_t)
    cdef Reply _accept(self)

    @cython.locals(intake=Intake, message=Message, claim=Claim)
    cdef Reply _end(self, Reply reply, list ids)


cdef class Intake:
    cdef readonly MemoryBudget memory
    cdef readonly Metrics metrics
    cdef readonly object refusals
    cdef readonly object received_log
    cdef readonly bint logs_messages, is_watched
    cdef Composer _composer
    cdef object _sink
    cdef readonly object _tasks
    cdef object _turn

    cpdef Reply ask(self, Message message, answered)

    @cython.locals(each=Outgoing)
    cdef Reply _put(self, list outgoing, InFlight in_flight)


@cython.locals(refusal=Reply, outcome=Reply)
cdef Reply _refusal(outcomes)


@cython.locals(first=Outgoing, each=Outgoing, size=cython.Py_ssize_t)
cpdef Py_ssize_t held(list outgoing) except -1
