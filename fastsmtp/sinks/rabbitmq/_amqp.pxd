from libc.stdint cimport uint8_t, uint64_t

from fastsmtp._tail cimport Tail


cdef class Encoder:
    cdef bytes method  # the whole Basic.Publish frame where there is no route
    cdef dict routed  # that of other routes
    cdef bytes leading  # content-type and content-encoding
    cdef bytes trailing  # app-id
    cdef int flags
    cdef int channel
    cdef uint8_t delivery_mode
    cdef Py_ssize_t room  # octets of body in one frame
    cdef str encoding  # what `headers` is for
    cdef bytes headers  # the table with mime-encoding
    cdef bytearray buffer
    cdef Py_ssize_t capacity
    cdef Py_ssize_t usual  # octets that a buffer is made for: those of the last one
    cdef readonly Py_ssize_t size

    cdef bytes method_frame(self, str exchange, str routing_key)
    cdef bytes routed_method(self, route)
    cdef int begin(self) except -1
    cdef uint8_t *reserve(self, Py_ssize_t octets) except NULL
    cdef int use_encoding(self, str encoding) except -1
    cdef bytes table_with(self, str encoding, str fingerprint)
    cdef uint8_t *frame(self, uint8_t *at, uint8_t kind, Py_ssize_t octets) noexcept
    cdef uint8_t *body(self, uint8_t *at, const uint8_t *octets, Py_ssize_t length) noexcept
    cdef Py_ssize_t framed(self, Py_ssize_t length) noexcept
    cpdef bint publish(
        self, str id, priority, str encoding, bytes prefix, Tail tail, uint64_t timestamp, route=*,
        str fingerprint=*
    ) except -1
    cpdef bytearray take(self)
