from fastsmtp.replies cimport Reply


cdef class Delivery:
    cdef Py_ssize_t _remaining
    cdef object _done
    cdef Reply _failure
    cdef object _finished

    cpdef settle(self, Reply failure)
    cdef _tell(self)
