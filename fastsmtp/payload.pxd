import cython

from fastsmtp.envelope cimport Envelope, Recipient
from fastsmtp.ids cimport Ids
from fastsmtp.peer cimport Peer


cdef class Outgoing:
    cdef public str id, encoding
    cdef public bytes prefix
    cdef public object priority, tail


cdef class Composer:
    cdef object _settings, _gate, _metrics, _lifted
    cdef Ids _ids
    cdef str _extract
    cdef bytes _hostname

    cdef bint _may_lift(self, Peer peer) except -1

    @cython.locals(recipient=Recipient, message_id=str, prefix=bytes)
    cdef list _outgoing(self, Envelope envelope, lifted, str encoding, tail)
    cdef bytes _shared_properties(self, Envelope envelope, Peer peer, lifted, now)
    cdef tuple _connection(self, Peer peer)
    cdef _ips(self, Peer peer)
