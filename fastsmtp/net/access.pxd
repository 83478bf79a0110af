from fastsmtp.addresses cimport packed
from fastsmtp.peer cimport Peer


cdef class Access:
    cdef readonly Py_ssize_t per_ip
    cdef object _range, _trusted, _proxies, _xclient

    cpdef bint admits(self, str ip) except -1
    cpdef bint judge(self, Peer peer) except -1
