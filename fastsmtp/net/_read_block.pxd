cdef class ReadBlock:
    cdef bytes _data  # what the next read goes into; None: it is made then

    cpdef bytes take(self, Py_ssize_t length)
