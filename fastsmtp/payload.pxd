import cython

from fastsmtp._content cimport HeaderScan
from fastsmtp._escape cimport Measure
from fastsmtp._tail cimport Tail
from fastsmtp.availability cimport Availability
from fastsmtp.connection_facts cimport connection_facts
from fastsmtp.envelope cimport Envelope, Recipient
from fastsmtp.headers cimport Lifted
from fastsmtp.ids cimport Ids
from fastsmtp.peer cimport Peer


cdef class Outgoing:
    cdef public str id, encoding, fingerprint
    cdef public bytes prefix
    cdef public object priority, route
    cdef public Tail tail
    cdef public long long accepted


cdef class Composer:
    cdef object _settings, _metrics, _lifted, _route
    cdef Availability _availability
    cdef Ids _ids
    cdef str _extract
    cdef bint _wants_fingerprints
    cdef bytes _hostname

    @cython.locals(content=bytes, head=bytes, spans=list, lifted=Lifted, scan=HeaderScan,
                   measure=Measure, tail=Tail)
    cpdef list compose(self, Envelope envelope, Peer peer, list pieces)
    cdef tuple _parts(self, Envelope envelope, Peer peer, content, Lifted lifted, HeaderScan scan)
    cdef Tail _tail(self, bytes head, list spans, Measure measure)

    @cython.locals(longest=cython.Py_ssize_t, half=cython.Py_ssize_t)
    cdef Py_ssize_t _longest_text(self) except? -1
    cdef bint _may_lift(self, Peer peer) except -1
    cdef _fingerprints(self, Envelope envelope, Peer peer, HeaderScan scan, Py_ssize_t size)

    @cython.locals(recipient=Recipient, message_id=str, prefix=bytes, shared=bint)
    cdef list _outgoing(
        self, Envelope envelope, Peer peer, Lifted lifted, Tail tail, list recipients, fingerprints
    )
    cdef bytes _shared_properties(self, Envelope envelope, Peer peer, Lifted lifted, now)
    cdef tuple _connection(self, Peer peer)
    cdef _ips(self, Peer peer)


cdef list _without(content, list cuts)
cdef bint _shares_dsn(Envelope envelope, dict lifted) except -1
cdef dict _shared_dsn(Envelope envelope, dict lifted)
cdef bytes _begun_dsn(Recipient recipient, dict lifted, bint shared)
