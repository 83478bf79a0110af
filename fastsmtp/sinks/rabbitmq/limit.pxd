cdef class BodyLimit:
    cdef object _configured, _lowest, _availability
    cdef public Py_ssize_t maximum, proven
