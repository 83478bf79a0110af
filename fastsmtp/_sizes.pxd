cdef enum:
    SIZES = 10  # len(BOUNDS)


cdef class Sizes:
    cdef long long[SIZES + 1] counts  # the last one: larger than every bound
    cdef long long total  # bytes

    cpdef add(self, long long size)
