from libc.stdint cimport uint8_t


cdef const uint8_t *octets_of(object octets, Py_ssize_t *length) except NULL

# Takes from `source` what has room at `target`, never half an escape (LONGEST bytes at most). Gives
# how many bytes were taken.
cdef Py_ssize_t escape(
    const uint8_t *source, Py_ssize_t length, uint8_t *target, Py_ssize_t room, Py_ssize_t *written
) noexcept

cdef enum:
    LONGEST = 6


cdef class Measure:
    cdef readonly Py_ssize_t size
    cdef bint is_valid  # as far as it was looked at
    cdef int missing  # bytes of the character that was begun
    cdef uint8_t lowest, highest  # of the next one of them

    cpdef int add(self, object octets, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef Py_ssize_t look(self, const uint8_t *source, Py_ssize_t length) noexcept
