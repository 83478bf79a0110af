cdef class Header:
    cdef readonly int version
    cdef readonly str command
    cdef readonly str family
    cdef readonly Py_ssize_t size
    cdef readonly str source_ip
    cdef readonly int source_port
    cdef readonly str destination_ip
    cdef readonly int destination_port
    cdef readonly str unique_id
    cdef readonly str authority
    cdef readonly str alpn
    cdef readonly bint secure
    cdef readonly str tls
    cdef readonly str client_cn
    cdef readonly object client_verified
