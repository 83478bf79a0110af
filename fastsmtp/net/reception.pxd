from fastsmtp._session cimport Rules
from fastsmtp.gate cimport Gate
from fastsmtp.ids cimport Ids
from fastsmtp.metrics cimport Metrics
from fastsmtp.net.access cimport Access
from fastsmtp.net.places cimport Places
from fastsmtp.replies cimport Reply


cdef class Reception:
    cdef readonly Rules rules
    cdef readonly Gate gate
    cdef readonly Metrics metrics
    cdef readonly Places places
    cdef readonly Py_ssize_t limit
    cdef readonly Access access
    cdef readonly object certificates, lost, complaints, refusals
    cdef readonly dict answerers
    cdef readonly set open
    cdef readonly bint tells
    cdef public Reply refusal
    cdef readonly Ids ids
