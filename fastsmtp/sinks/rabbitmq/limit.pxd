cdef class BodyLimit:
    cdef object _configured, _lowest, _gate
    cdef public Py_ssize_t maximum, proven
