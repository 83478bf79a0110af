import cython

from fastsmtp.payload cimport Outgoing
from fastsmtp.sinks.rabbitmq.counters cimport BrokerCounters
from fastsmtp.sinks.rabbitmq.delivery cimport Delivery
from fastsmtp.sinks.rabbitmq.limit cimport BodyLimit
from fastsmtp.sinks.rabbitmq.publisher cimport Publisher


cdef class RabbitMQ:
    cdef object _settings, _cluster, _presence, _unstored, _bulk, _drained, _loop
    cdef object _large_compression, _compressing
    cdef BrokerCounters _metrics
    cdef BodyLimit _limit
    cdef bint _in_order, _gzip
    cdef list _links
    cdef Py_ssize_t _turn, _due

    @cython.locals(largest=Py_ssize_t, outgoing=Outgoing)
    cdef _publish(self, message, Delivery delivery)
    cdef _link_for(self, Py_ssize_t size)


cdef bint takes(Publisher publisher)
