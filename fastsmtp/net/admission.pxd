from fastsmtp.net.access cimport Access
from fastsmtp.net.connection_counts cimport ConnectionCounts
from fastsmtp.peer cimport Peer
from fastsmtp.replies cimport Reply


cdef class Admission:
    cdef readonly Access access
    cdef ConnectionCounts _counts
    cdef readonly Py_ssize_t limit

    cpdef Reply admit(self, Peer peer)
    cpdef leave(self, Peer peer)
    cdef _uncount(self, Peer peer)
