"""How large things were, counted into buckets: a few comparisons and two additions each."""

BOUNDS = tuple(1024 << 2 * i for i in range(SIZES))  # 1 KiB to 256 MiB, by four


cdef class Sizes:
    cpdef add(self, long long size):
        cdef int i = 0
        cdef long long bound = 1024
        while i < SIZES and size > bound:
            bound <<= 2
            i += 1
        self.counts[i] += 1
        self.total += size

    def snapshot(self):
        cdef int i
        found = {str(BOUNDS[i]): self.counts[i] for i in range(SIZES)}
        found["+Inf"] = self.counts[SIZES]
        return {"buckets": found, "sum": self.total}
