cdef class Counters:
    pass
