from libc.stdint cimport uint8_t


cdef enum Form:  # of the content in the text
    PLAIN  # as it is
    TEXT  # escaped
    BASE64


cdef struct Place:  # how far a reader is; all zero at the beginning
    Py_ssize_t part  # 0 is the head, then the spans, then the end
    Py_ssize_t at  # byte of it
    uint8_t spill[8]  # what had no room
    uint8_t *next
    Py_ssize_t pending  # bytes from there
    uint8_t carry[3]  # bytes that are no group of base64 yet
    int carried


cdef class Tail:
    cdef readonly Py_ssize_t size
    cdef readonly Py_ssize_t held
    cdef readonly str encoding
    cdef Py_ssize_t content  # its bytes
    cdef bytes head, end
    cdef list spans  # (bytes or bytearray, start, stop)
    cdef Form form

    cdef int begin(self, bytes head, list spans, Form form) except -1
    cdef Py_ssize_t fill(self, Place *place, uint8_t *target, Py_ssize_t room) except -1
    cdef Py_ssize_t groups(
        self, Place *place, const uint8_t *source, Py_ssize_t length, uint8_t *target,
        Py_ssize_t room, Py_ssize_t *written
    ) noexcept
    cdef void spill_group(self, Place *place, int digits) noexcept
    cdef void pad(self, Place *place) noexcept


cdef class Reader:
    cdef readonly Tail tail
    cdef readonly Py_ssize_t left
    cdef Place place

    cdef Py_ssize_t fill(self, uint8_t *target, Py_ssize_t octets) except -1
