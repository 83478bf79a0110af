from fastsmtp.replies cimport Reply


cdef class Delivery:
    cdef readonly Py_ssize_t remaining
    cdef list _outcomes
    cdef object _settle
    cdef object _finished

    cpdef settle(self, Py_ssize_t position, Reply refusal)
    cdef _end(self)
