"""The content of a message: its true end, dot-unstuffing, newlines, header fields.

`Content` takes the octets behind 354 or BDAT as they arrive and keeps what the message is, in one
pass over each chunk. `HeaderScan` walks the header block of a finished message. Neither knows a
command, a reply or what a header means.
"""

from libc.string cimport memchr, memcmp, memcpy

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

KEEP = 0
NORMALIZE = 1
REJECT = 2

cdef enum:
    # Pieces below this are gathered, so that a slow sender costs no object an octet.
    SMALL = 8192
    GATHERED = 65536
    BLOCK = 256  # octets that are looked at together
    NAME_LIMIT = 998  # a longer field name cannot be: a line is no longer (RFC 5322 §2.1.1)

cdef enum State:
    LINE_START  # behind CRLF, or at the start
    TEXT
    CARRIAGE_RETURN  # one is held back until the next octet tells what it is
    DOT  # at the start of a line
    DOT_CARRIAGE_RETURN


cdef inline bint is_plain(const char *octets) noexcept nogil:
    """In a block and the octet behind it is nothing but text and CRLF, and no dot begins a line."""
    # Without branches, 0 or -1 an octet: so the compiler looks at 16 octets at once.
    cdef signed char odd = -(octets[0] == c"\n")
    cdef int i
    for i in range(BLOCK):
        odd |= -(
            ((octets[i] == c"\r") ^ (octets[i + 1] == c"\n"))
            | ((octets[i] == c"\n") & (octets[i + 1] == c"."))
        )
    return odd == 0


cdef class Content:
    """One message's content while it arrives."""

    def __cinit__(self, int newlines, Py_ssize_t limit):
        self.newlines = newlines
        self.limit = limit
        self.state = LINE_START
        self.pieces = []
        self.gathered = bytearray()

    cdef int begin(self, bytes data, Py_ssize_t start, Py_ssize_t stop) except -1:
        self.data = data
        self.octets = PyBytes_AS_STRING(data)
        self.kept = start
        self.odd_until = start
        self.edited = None
        self.room = 2 * (stop - start) + 2  # every bare LF may grow to CRLF
        return 0

    cdef int copy(self, const char *text, Py_ssize_t length) except -1:
        """Append to this chunk's edited copy."""
        if length == 0 or self.too_large:
            return 0
        if self.edited is None:
            self.edited = PyBytes_FromStringAndSize(NULL, self.room)
            self.written = 0
        assert self.written + length <= self.room
        memcpy(PyBytes_AS_STRING(self.edited) + self.written, text, length)
        self.written += length
        return 0

    cdef int keep_until(self, Py_ssize_t stop, Py_ssize_t next_kept) except -1:
        """The octets up to `stop` are content as they are; more is kept from `next_kept`."""
        self.size += stop - self.kept
        self.copy(self.octets + self.kept, stop - self.kept)
        self.kept = next_kept
        return 0

    cdef int bare(self, unsigned char newline) except -1:
        """A CR or LF alone becomes what the mode says."""
        self.size += 1
        self.has_bare = True
        if self.newlines == NORMALIZE:
            return self.copy(b"\r\n", 2) if newline == c"\n" else self.copy(b" ", 1)
        return self.copy(<const char *> &newline, 1)

    cdef int end(self, Py_ssize_t stop) except -1:
        """Store this chunk's content; `stop` is where it ends."""
        if self.edited is None and not self.too_large:
            # Nothing was changed: the chunk itself, or a slice of it, is the content.
            self.size += stop - self.kept
            if stop > self.kept:
                if self.kept == 0 and stop == PyBytes_GET_SIZE(self.data):
                    self.store(self.data)
                else:
                    self.store(
                        PyBytes_FromStringAndSize(self.octets + self.kept, stop - self.kept)
                    )
        else:
            self.keep_until(stop, stop)
            if self.edited is not None:
                self.store(
                    PyBytes_FromStringAndSize(PyBytes_AS_STRING(self.edited), self.written)
                )
        self.data = self.edited = None
        if self.size > self.limit:
            self.overflow()
        return 0

    cpdef int overflow(self) except -1:
        """More than the limit comes: keep nothing from now on."""
        self.too_large = True
        self.held = 0
        self.pieces = []
        self.gathered = bytearray()
        return 0

    cdef int store(self, bytes piece) except -1:
        self.held += PyBytes_GET_SIZE(piece)
        if not self.pieces or PyBytes_GET_SIZE(piece) >= SMALL:
            self.store_gathered()
            self.pieces.append(piece)
            return 0
        self.gathered += piece
        if len(self.gathered) >= GATHERED:
            self.store_gathered()
        return 0

    cdef int store_gathered(self) except -1:
        if self.gathered:
            self.pieces.append(bytes(self.gathered))
            self.gathered = bytearray()
        return 0

    cpdef Py_ssize_t feed_data(self, bytes data, Py_ssize_t start) except -2:
        """Take what follows 354 from `data[start:]`.

        The end is CRLF "." CRLF, or "." CRLF at the start, and nothing else (RFC 5321 §4.1.1.4);
        dots are unstuffed after CRLF and at the start only (§4.5.2).
        """
        cdef Py_ssize_t length = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t at = start
        self.begin(data, start, length)
        while at < length:
            if self.state == LINE_START:
                if self.octets[at] == c".":
                    if at + 2 < length and memcmp(self.octets + at, b".\r\n", 3) == 0:
                        self.end(at)
                        self.finish()
                        return at + 3
                    self.keep_until(at, at + 1)
                    self.state = DOT
                    at += 1
                    continue
                self.state = TEXT
            elif self.state == DOT:
                self.kept = at
                if self.octets[at] == c"\r":
                    self.state = DOT_CARRIAGE_RETURN
                    at += 1
                    self.kept = at
                    continue
                self.state = TEXT
            elif self.state == DOT_CARRIAGE_RETURN:
                self.kept = at
                if self.octets[at] == c"\n":
                    self.end(at)
                    self.finish()
                    return at + 1
                self.bare(c"\r")
                self.state = TEXT
            at = self.text(at, length)
        # What is held back is no content yet.
        self.end(self.kept if self.state in (DOT, DOT_CARRIAGE_RETURN, CARRIAGE_RETURN) else length)
        return -1

    cpdef int feed_chunk(self, bytes data, Py_ssize_t start, Py_ssize_t stop) except -1:
        """Take `data[start:stop]` of a BDAT chunk: no dots, no end inside (RFC 3030 §2)."""
        cdef Py_ssize_t at = start
        self.begin(data, start, stop)
        while at < stop:
            if self.state == LINE_START:
                self.state = TEXT
            at = self.text(at, stop)
        self.end(self.kept if self.state == CARRIAGE_RETURN else stop)
        return 0

    cpdef int finish(self) except -1:
        """No more comes: what was held back is content too."""
        if self.state == CARRIAGE_RETURN:
            self.begin(b"", 0, 1)
            self.bare(c"\r")
            self.end(0)
        self.store_gathered()
        return 0

    cdef Py_ssize_t text(self, Py_ssize_t at, Py_ssize_t stop) except -2:
        """Go on to the next start of a line or to `stop`; gives where that is."""
        cdef const char *newline = NULL
        cdef const char *here
        cdef const char *edge = self.octets + stop
        if self.state == CARRIAGE_RETURN:
            if self.octets[at] == c"\n":
                self.size += 2
                self.copy(b"\r\n", 2)
                self.kept = at + 1
                self.state = LINE_START
                return at + 1
            self.bare(c"\r")
            self.kept = at
            self.state = TEXT
        while at < stop:
            if at >= self.odd_until and at + BLOCK < stop:
                if is_plain(self.octets + at):
                    at += BLOCK
                    if self.octets[at] == c"\n":
                        self.state = LINE_START
                        return at + 1
                    continue
                self.odd_until = at + BLOCK
            if newline < self.octets + at:
                newline = <const char *> memchr(self.octets + at, c"\n", stop - at)
                if newline == NULL:
                    newline = edge
            here = <const char *> memchr(
                self.octets + at, c"\r", newline - (self.octets + at)
            )
            if here == NULL:
                at = newline - self.octets
                if newline == edge:
                    return stop
                if self.newlines == NORMALIZE:
                    self.keep_until(at, at + 1)
                    self.bare(c"\n")
                else:
                    self.has_bare = True
                at += 1
                continue
            at = here - self.octets + 1
            if here + 1 == newline and newline != edge:
                self.state = LINE_START
                return at + 1
            if here + 1 == edge:
                self.keep_until(at - 1, at)
                self.state = CARRIAGE_RETURN
                return stop
            if self.newlines == NORMALIZE:
                self.keep_until(at - 1, at)
                self.bare(c"\r")
            else:
                self.has_bare = True
        return stop


cdef class HeaderScan:
    """A walk over the header block of `content`, in steps, that cuts out what `lift` takes."""

    def __cinit__(self, object content, object lift):
        PyObject_GetBuffer(content, &self.buffer, PyBUF_SIMPLE)
        self.octets = <const char *> self.buffer.buf
        self.length = self.buffer.len
        self.lift = lift
        self.field = -1
        self.cuts = []

    def __dealloc__(self):
        PyBuffer_Release(&self.buffer)

    cpdef bint run(self, Py_ssize_t octets) except -1:
        """Walk on over at least `octets` more; true when the block's end is reached."""
        cdef Py_ssize_t stop = self.at + octets
        cdef Py_ssize_t line
        while not self.done:
            if self.at >= stop:
                return False
            line = self.at
            if line == self.length:
                self.close_field(line)
                self.needs_more = True
                self.done = True
            elif self.octets[line] == c" " or self.octets[line] == c"\t":
                self.done = self.field < 0  # a continuation of nothing is no field
                if not self.done:
                    self.at = self.line_end(line)
            else:
                self.close_field(line)
                if self.open_field(line):
                    self.at = self.line_end(line)
                else:
                    self.done = True
        return True

    cdef Py_ssize_t line_end(self, Py_ssize_t at) noexcept:
        """Behind the next CRLF, or the end of the content."""
        cdef const char *newline
        while True:
            newline = <const char *> memchr(self.octets + at, c"\n", self.length - at)
            if newline == NULL:
                return self.length
            at = newline - self.octets + 1
            if at > 1 and (newline - 1)[0] == c"\r":
                return at

    cdef bint open_field(self, Py_ssize_t line) noexcept:
        """Read a field's name (RFC 5322 §2.2; white space before the colon is obsolete, §4.5)."""
        cdef Py_ssize_t at = line
        cdef Py_ssize_t limit = min(self.length, line + NAME_LIMIT + 1)
        while at < limit and 33 <= <unsigned char> self.octets[at] <= 126:
            if self.octets[at] == c":":
                break
            at += 1
        if at == line or at - line > NAME_LIMIT:
            return False
        self.name_end = at
        while at < self.length and (self.octets[at] == c" " or self.octets[at] == c"\t"):
            at += 1
        if at == self.length:
            self.needs_more = True
            return False
        if self.octets[at] != c":":
            return False
        self.field = line
        self.value = at + 1
        return True

    cdef bint named(self, const char *name, Py_ssize_t length) noexcept:
        """The open field's name begins with `name` (lower case) in any case."""
        cdef Py_ssize_t i
        if self.name_end - self.field < length:
            return False
        for i in range(length):
            if (self.octets[self.field + i] | 32) != name[i]:
                return False
        return True

    cdef int close_field(self, Py_ssize_t stop) except -1:
        """The open field ends at `stop`: count it, offer it to `lift`, cut it."""
        cdef Py_ssize_t length = self.name_end - self.field
        if self.field < 0:
            return 0
        if self.lift is not None and self.named(b"x-mq-", 5):
            name = self.octets[self.field + 5:self.name_end].decode("ascii").lower()
            if self.lift(name, self.value, stop, stop - self.field):
                self.cuts.append((self.field, stop))
        elif length == 8:
            self.received += self.named(b"received", 8)
        elif length == 4 and self.named(b"date", 4):
            self.has_date = self.has_date or self.has_value(stop)
        elif length == 10 and self.named(b"message-id", 10):
            self.has_message_id = self.has_message_id or self.has_value(stop)
        self.field = -1
        return 0

    cdef bint has_value(self, Py_ssize_t stop) noexcept:
        """There is more than white space in the open field, which ends at `stop`."""
        cdef Py_ssize_t at
        for at in range(self.value, stop):
            if self.octets[at] not in (c" ", c"\t", c"\r", c"\n"):
                return True
        return False


def unfold(object content, Py_ssize_t start, Py_ssize_t stop):
    """A field's value: a line end with the white space behind it is one space (RFC 5322 §2.2.3)."""
    lines = bytes(memoryview(content)[start:stop]).split(b"\r\n")
    return b" ".join([lines[0], *(line.lstrip(b" \t") for line in lines[1:])]).strip(b" \t\r\n")
