"""What the JSON bodies of all recipients of a message end with, made as it is read.

A `Tail` holds the message's content as it came, and writes the text of it, escaped or as base64,
into buffers of its readers. No whole copy of either form is ever made.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy

from fastsmtp._escape cimport LONGEST, escape, octets_of

cdef const char *DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
cdef bytes END = b'"}'


cdef inline void write_group(const uint8_t *source, uint8_t *target) noexcept:
    """Three bytes as four digits (RFC 4648 §4)."""
    target[0] = DIGITS[source[0] >> 2]
    target[1] = DIGITS[(source[0] & 3) << 4 | source[1] >> 4]
    target[2] = DIGITS[(source[1] & 15) << 2 | source[2] >> 6]
    target[3] = DIGITS[source[2] & 63]


cdef class Tail:
    """JSON text: `head`, which opens a string, the content, and what closes string and object."""

    @staticmethod
    def of(text):
        """One that is made already."""
        cdef Tail tail = Tail.__new__(Tail)
        cdef Py_ssize_t length
        octets_of(text, &length)
        tail.head = b""
        tail.spans = [(text, 0, length)]
        tail.end = b""
        tail.encoding = ""
        tail.form = PLAIN
        tail.size = tail.held = length
        return tail

    @staticmethod
    def plain(list pieces, bytes end):
        cdef Tail tail = Tail.__new__(Tail)
        tail.begin(b"", [(piece, 0, len(piece)) for piece in pieces], PLAIN)
        tail.encoding = ""
        tail.end = end
        tail.size = tail.content + PyBytes_GET_SIZE(end)
        return tail

    def made(self):
        """The same text, made at once: for several readers."""
        cdef Tail tail = Tail.of(bytes(self))
        tail.encoding = self.encoding
        return tail

    @staticmethod
    def text(bytes head, list spans, Py_ssize_t size):
        cdef Tail tail = Tail.__new__(Tail)
        tail.begin(head, spans, TEXT)
        tail.encoding = ""
        tail.size += size
        return tail

    @staticmethod
    def base64(bytes head, list spans):
        cdef Tail tail = Tail.__new__(Tail)
        tail.begin(head, spans, BASE64)
        tail.encoding = "base64"
        tail.size += (tail.content + 2) // 3 * 4
        return tail

    cdef int begin(self, bytes head, list spans, Form form) except -1:
        cdef Py_ssize_t length, start, stop
        self.head = head
        self.spans = spans
        self.end = END
        self.form = form
        self.size = PyBytes_GET_SIZE(head) + PyBytes_GET_SIZE(END)
        self.held = PyBytes_GET_SIZE(head)
        self.content = 0
        previous = None
        for octets, start, stop in spans:
            octets_of(octets, &length)
            if start < 0 or stop > length or start > stop:
                raise ValueError("outside the content")
            self.content += stop - start
            if octets is not previous:  # spans between fields that were cut out
                self.held += length
                previous = octets
        return 0

    cdef Py_ssize_t fill(self, Place *place, uint8_t *target, Py_ssize_t room) except -1:
        """Write on from `place`; gives how many bytes: fewer than `room` only at the end."""
        cdef Py_ssize_t left = room
        cdef Py_ssize_t length, written, taken
        cdef Py_ssize_t spans = len(self.spans)
        cdef const uint8_t *source
        cdef Form form
        while left > 0:
            if place.pending:
                taken = min(left, place.pending)
                memcpy(target, place.next, taken)
                place.next += taken
                place.pending -= taken
                target += taken
                left -= taken
                continue
            if place.part > spans + 1:
                break
            form = PLAIN
            if place.part == 0:
                source = octets_of(self.head, &length)
            elif place.part <= spans:
                form = self.form
                octets, start, stop = <tuple> self.spans[place.part - 1]
                source = octets_of(octets, &length) + <Py_ssize_t> start
                length = <Py_ssize_t> stop - <Py_ssize_t> start
            else:
                if place.carried:
                    self.pad(place)
                    continue
                source = octets_of(self.end, &length)
            source += place.at
            length -= place.at
            if form == PLAIN:
                taken = written = min(length, left)
                memcpy(target, source, taken)
            elif form == TEXT:
                taken = escape(source, length, target, left, &written)
                if taken < length and written < left:
                    # An escape that is cut here.
                    taken += escape(source + taken, 1, place.spill, LONGEST, &place.pending)
                    place.next = place.spill
            else:
                taken = self.groups(place, source, length, target, left, &written)
            target += written
            left -= written
            place.at += taken
            if taken == length:
                place.part += 1
                place.at = 0
        return room - left

    cdef Py_ssize_t groups(
        self, Place *place, const uint8_t *source, Py_ssize_t length, uint8_t *target,
        Py_ssize_t room, Py_ssize_t *written
    ) noexcept:
        """As base64, as many as have room; what is cut stays at `place`. Gives what was taken."""
        cdef Py_ssize_t taken = 0
        cdef Py_ssize_t _
        written[0] = 0
        if place.carried == 0:
            for _ in range(min(length // 3, room // 4)):
                write_group(source + taken, target)
                taken += 3
                target += 4
                written[0] += 4
            if written[0] == room:
                return taken
        while taken < length and place.carried < 3:
            place.carry[place.carried] = source[taken]
            place.carried += 1
            taken += 1
        if place.carried == 3:
            self.spill_group(place, 4)
        return taken

    cdef void spill_group(self, Place *place, int digits) noexcept:
        write_group(place.carry, place.spill)
        place.carried = 0
        place.next = place.spill
        place.pending = digits

    cdef void pad(self, Place *place) noexcept:
        """The last one or two bytes."""
        cdef int digit, digits = place.carried + 1
        for digit in range(place.carried, 3):
            place.carry[digit] = 0
        self.spill_group(place, 4)
        for digit in range(digits, 4):
            place.spill[digit] = c"="

    def __bytes__(self):
        return Reader(self).read(self.size)


cdef class Reader:
    """Goes through a `Tail` once."""

    def __cinit__(self, Tail tail not None):
        self.tail = tail
        self.left = tail.size

    cdef Py_ssize_t fill(self, uint8_t *target, Py_ssize_t octets) except -1:
        """Write the next `octets` bytes, which must be left."""
        if self.tail.fill(&self.place, target, octets) != octets:
            raise AssertionError("a tail is shorter than it said")
        self.left -= octets
        return 0

    def read(self, Py_ssize_t octets):
        cdef bytes text
        octets = max(0, min(octets, self.left))
        text = PyBytes_FromStringAndSize(NULL, octets)
        self.fill(<uint8_t *> PyBytes_AS_STRING(text), octets)
        return text
