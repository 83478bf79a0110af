"""How long things took, counted into buckets: cheap enough for every message.

A duration costs two reads of the monotonic clock and an addition; what was counted is read when
somebody asks.
"""

from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

BOUNDS = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0
)

cdef double[BUCKETS] bounds = BOUNDS


cpdef double now() noexcept:
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec + time.tv_nsec * 1e-9


cdef class Durations:
    cpdef since(self, double begun):
        cdef double ended = now()
        cdef double duration = ended - begun
        cdef int i = 0
        self.last = ended
        while i < BUCKETS and duration > bounds[i]:
            i += 1
        self.counts[i] += 1
        self.total += duration

    def snapshot(self):
        cdef int i
        found = {str(BOUNDS[i]): self.counts[i] for i in range(BUCKETS)}
        found["+Inf"] = self.counts[BUCKETS]
        return {"buckets": found, "sum": self.total}
