"""What the broker says of publishes, taken out of the octets that it sends (AMQP 0-9-1 §2.3.5).

Acks, nacks and returns of one channel are told at once; every other frame goes on to whoever else
reads the connection. Reads no socket and knows no publish. Of a frame that is not whole it keeps
a content header at most, whatever the broker sends. Frames that are larger than may be, and what is
said of publishes behind the end of their channel, are errors.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    FRAME_METHOD = 1
    FRAME_HEADER = 2
    FRAME_BODY = 3
    FRAME_END = 0xCE
    FRAME_START = 7  # type, channel, size
    FRAME_OVERHEAD = 8  # and the end octet
    METHOD_ID = 4  # class, method
    CONFIRM_SIZE = 13  # class, method, delivery tag, bits
    HEADER_LIMIT = 65536  # octets; the properties of what we publish are far fewer
    RETURN_LIMIT = 774  # octets; class, method, reply-code and three strings of 255 at most
    KEPT_LIMIT = 131072  # octets of a frame that whoever else reads keeps; methods are far smaller
    RETURN_TEXT = 6  # class, method, reply-code: what stands before the length of reply-text

cdef enum Method:  # class and method as one number
    CONNECTION_CLOSE = 10 << 16 | 50
    CHANNEL_CLOSE = 20 << 16 | 40
    BASIC_RETURN = 60 << 16 | 50
    BASIC_ACK = 60 << 16 | 80
    BASIC_NACK = 60 << 16 | 120

cdef enum:
    MULTIPLE = 1  # the first bit of an ack or nack

# What becomes of a frame.
cdef enum Fate:
    UNKNOWN  # its beginning is not whole
    OTHERS
    NOBODYS  # the body of a message that came back
    OURS


cdef inline uint64_t number(const uint8_t *at, int octets) noexcept:
    """Big endian (AMQP 0-9-1 §4.2.5.1)."""
    cdef uint64_t found = 0
    cdef int i
    for i in range(octets):
        found = found << 8 | at[i]
    return found


cdef str why(const uint8_t *method, Py_ssize_t size):
    """Reply-code and reply-text of a Basic.Return (AMQP 0-9-1 §1.8.3.9), "312 NO_ROUTE"."""
    if size <= RETURN_TEXT or size <= RETURN_TEXT + method[RETURN_TEXT]:
        raise ValueError("a return without a reason")
    text = (<const char *>method + RETURN_TEXT + 1)[:method[RETURN_TEXT]]
    return f"{number(method + METHOD_ID, 2)} {text.decode(errors='replace')}"


cdef class Confirms:
    cdef readonly uint64_t channel  # 0: none, everything is others'
    cdef public uint64_t frame_max  # octets of a whole frame, as it was negotiated
    cdef bint closed  # the broker has closed the channel or the connection
    cdef object listener  # None: nobody is told
    cdef bytes begun  # of a frame that is not whole enough; None where there is none
    cdef Py_ssize_t left  # octets of a frame that has begun, and is not ours
    cdef bint passing  # they are others'
    cdef str reason  # reply-code and reply-text of the last Basic.Return

    def __cinit__(self):
        self.reason = ""
        self.frame_max = KEPT_LIMIT

    def watch(self, int channel, listener):
        self.channel = channel
        self.listener = listener

    def take(self, bytes data):
        cdef const uint8_t *octets
        cdef Py_ssize_t at = 0, stop, length, frame
        cdef list others = []
        cdef Fate fate
        if self.begun is not None:
            data = self.begun + data
            self.begun = None
        octets = <const uint8_t *>PyBytes_AS_STRING(data)
        length = PyBytes_GET_SIZE(data)
        while at < length:
            if not self.left:
                fate = self.judge(octets + at, length - at)
                if fate != UNKNOWN:
                    frame = number(octets + at + 3, 4) + FRAME_OVERHEAD
                if fate == UNKNOWN or fate == OURS and frame > length - at:
                    self.begun = data[at:]
                    break
                if fate == OURS:
                    self.tell(octets + at, data, at, frame)
                    at += frame
                    continue
                self.left = frame
                self.passing = fate == OTHERS
            stop = min(length, at + self.left)
            self.left -= stop - at
            if self.passing:
                others.append(data[at:stop])
            at = stop
        return others[0] if len(others) == 1 else b"".join(others)

    cdef Fate judge(self, const uint8_t *at, Py_ssize_t length) except? UNKNOWN:
        """Whose the frame is that begins at `at`."""
        cdef uint64_t method, size, channel
        if length < FRAME_START:
            return UNKNOWN
        channel = number(at + 1, 2)
        size = number(at + 3, 4)
        if size + FRAME_OVERHEAD > self.frame_max:
            raise ValueError(
                f"a frame of {size + FRAME_OVERHEAD} bytes, and {self.frame_max} were negotiated"
            )
        if self.channel and channel == self.channel and at[0] == FRAME_BODY:
            return NOBODYS
        if size + FRAME_OVERHEAD > KEPT_LIMIT:
            raise ValueError(f"a frame of {size + FRAME_OVERHEAD} bytes that is no body")
        if channel and channel != self.channel:
            return OTHERS
        if at[0] == FRAME_METHOD and size >= METHOD_ID and length < FRAME_START + METHOD_ID:
            return UNKNOWN
        if not channel:
            if at[0] == FRAME_METHOD and size >= METHOD_ID:
                self.closed |= number(at + FRAME_START, 4) == CONNECTION_CLOSE
            return OTHERS
        if at[0] == FRAME_HEADER:
            if size > HEADER_LIMIT:
                raise ValueError("a content header that is too large")
            return self.ours()
        if at[0] != FRAME_METHOD or size < METHOD_ID:
            return OTHERS
        method = number(at + FRAME_START, 4)
        if method == CHANNEL_CLOSE:
            self.closed = True
        if method == BASIC_RETURN:
            if size > RETURN_LIMIT:
                raise ValueError("a return that is too large")
            return self.ours()
        if method != BASIC_ACK and method != BASIC_NACK:
            return OTHERS
        if size != CONFIRM_SIZE:
            raise ValueError("an ack or nack of a wrong size")
        return self.ours()

    cdef Fate ours(self) except? UNKNOWN:
        """The broker says nothing more of publishes once it has closed their channel."""
        if self.closed:
            raise ValueError("a confirm or return behind the close of its channel")
        return OURS

    cdef int tell(self, const uint8_t *at, bytes data, Py_ssize_t start, Py_ssize_t size) except -1:
        """A whole frame of ours, `size` octets of `data`."""
        cdef uint64_t tag, method
        cdef bint multiple
        if at[size - 1] != FRAME_END:
            raise ValueError("a frame without its end octet")
        if self.listener is None:
            return 0
        if at[0] == FRAME_HEADER:
            self.listener.returned(data[start:start + size], self.reason)
            return 0
        method = number(at + FRAME_START, 4)
        if method == BASIC_RETURN:  # the content header behind it says which message
            self.reason = why(at + FRAME_START, size - FRAME_OVERHEAD)
            return 0
        tag = number(at + FRAME_START + METHOD_ID, 8)
        multiple = at[FRAME_START + METHOD_ID + 8] & MULTIPLE
        if method == BASIC_ACK:
            self.listener.acked(tag, multiple)
        else:
            self.listener.nacked(tag, multiple)
        return 0
