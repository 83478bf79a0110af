cdef class Content:
    cdef readonly bint has_bare
    cdef readonly bint too_large
    cdef readonly Py_ssize_t size
    cdef readonly Py_ssize_t held  # octets that are kept
    cdef readonly list pieces

    cdef int newlines
    cdef Py_ssize_t limit
    cdef int state
    cdef bytearray gathered  # small pieces that are not in `pieces` yet

    # The chunk at hand
    cdef bytes data
    cdef const char *octets
    cdef Py_ssize_t kept  # content from here on is not stored yet
    cdef Py_ssize_t odd_until  # octets up to here are looked at line by line
    cdef bytes edited  # the chunk's content where it is not a slice of `data`
    cdef Py_ssize_t room  # octets that `edited` can take
    cdef Py_ssize_t written

    cpdef Py_ssize_t feed_data(self, bytes data, Py_ssize_t start) except -2
    cpdef int feed_chunk(self, bytes data, Py_ssize_t start, Py_ssize_t stop) except -1
    cpdef int finish(self) except -1
    cpdef int overflow(self) except -1

    cdef int begin(self, bytes data, Py_ssize_t start, Py_ssize_t stop) except -1
    cdef int copy(self, const char *text, Py_ssize_t length) except -1
    cdef int keep_until(self, Py_ssize_t stop, Py_ssize_t next_kept) except -1
    cdef int bare(self, unsigned char newline) except -1
    cdef int end(self, Py_ssize_t stop) except -1
    cdef int store(self, bytes piece) except -1
    cdef int store_gathered(self) except -1
    cdef Py_ssize_t text(self, Py_ssize_t at, Py_ssize_t stop) except -2


cdef class HeaderScan:
    cdef readonly Py_ssize_t received
    cdef readonly bint has_message_id, has_date
    cdef readonly bint needs_more
    cdef readonly list cuts

    cdef Py_buffer buffer
    cdef const char *octets
    cdef Py_ssize_t length
    cdef object lift
    cdef bint done
    cdef Py_ssize_t at  # the next line
    cdef Py_ssize_t field  # where the open field begins, or -1
    cdef Py_ssize_t name_end
    cdef Py_ssize_t value

    cpdef bint run(self, Py_ssize_t octets) except -1

    cdef Py_ssize_t line_end(self, Py_ssize_t at) noexcept
    cdef bint open_field(self, Py_ssize_t line) noexcept
    cdef bint named(self, const char *name, Py_ssize_t length) noexcept
    cdef bint has_value(self, Py_ssize_t stop) noexcept
    cdef int close_field(self, Py_ssize_t stop) except -1
