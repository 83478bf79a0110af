import cython

from fastsmtp.payload cimport Outgoing
from fastsmtp.replies cimport Reply
from fastsmtp.sinks.rabbitmq._amqp cimport Encoder
from fastsmtp.sinks.rabbitmq.counters cimport BrokerCounters
from fastsmtp.sinks.rabbitmq.delivery cimport Delivery
from fastsmtp.sinks.rabbitmq.limit cimport BodyLimit


cdef class Publish:
    cdef readonly Outgoing outgoing
    cdef readonly Py_ssize_t size
    cdef readonly Delivery delivery
    cdef readonly Py_ssize_t position
    cdef public Reply refusal
    cdef public double begun
    cdef readonly double put

    cpdef settle(self, Reply refusal)
    cpdef bint is_older(self, double before)


cdef class Publisher:
    cdef readonly BrokerCounters metrics
    cdef readonly unsigned long long acks, nacks, drains
    cdef readonly bint is_open
    cdef public bint is_doubtful
    cdef readonly bint is_late
    cdef double _patience, _in_time_at
    cdef Publish _sample, _last
    cdef Py_ssize_t _window, _octets, _undrained
    cdef BodyLimit _limit
    cdef object _unstored, _make_encoder, _broken, _loop, _underlay, _waiting, _slices, _drained
    cdef Encoder _encoder
    cdef bint _scheduled, _is_partial
    cdef int _pauses
    cdef dict _sent
    cdef long long _tag
    cdef Publish _probe
    cdef tuple _shared

    @cython.locals(outgoing=Outgoing, position=cython.Py_ssize_t, put=double)
    cpdef put(self, message, Delivery delivery)
    cpdef adopt(self, Publisher other)
    cpdef acked(self, long long tag, bint multiple)
    cpdef nacked(self, long long tag, bint multiple)

    @cython.locals(publish=Publish, sent=dict, tags=list, metrics=BrokerCounters)
    cdef _confirm(self, long long tag, bint multiple, Reply refusal)
    cdef _schedule(self)
    cdef bint _write(self, underlay) except -1
    cdef _rest(self, underlay)

    @cython.locals(publish=Publish, outgoing=Outgoing, encoder=Encoder, begun=double, sent=dict,
                   timestamp=cython.ulonglong)
    cdef _fill(self)
    cdef bint _fits(self, Publish publish)


@cython.locals(found=list, each=cython.longlong)
cdef list _up_to(long long tag, dict sent)
