cdef enum:
    BUCKETS = 15  # len(BOUNDS)


cdef class Durations:
    cdef long long[BUCKETS + 1] counts  # the last one: longer than every bound
    cdef double total  # seconds
    cdef readonly double last  # monotonic seconds, when the last one ended; 0 before

    cpdef since(self, double begun)


cpdef double now() noexcept
