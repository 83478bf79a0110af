cdef enum:
    BUCKETS = 15  # len(BOUNDS)


cdef class Durations:
    cdef long long[BUCKETS + 1] counts  # the last one: longer than every bound
    cdef double total  # seconds

    cpdef since(self, double begun)


cpdef double now() noexcept
