from fastsmtp._session cimport Rules
from fastsmtp.availability cimport Availability
from fastsmtp.ids cimport Ids
from fastsmtp.metrics cimport Metrics
from fastsmtp.net._read_block cimport ReadBlock
from fastsmtp.net.admission cimport Admission
from fastsmtp.replies cimport Reply


cdef class Server:
    cdef readonly Rules rules
    cdef readonly Availability availability
    cdef readonly Metrics metrics
    cdef readonly object refusals, certificates, lost, complaints, turns
    cdef readonly Admission admission
    cdef readonly dict answerers
    cdef readonly bint tells
    cdef readonly set open
    cdef public Reply refusal
    cdef readonly Ids ids
    cdef readonly ReadBlock read_block
