"""AMQP 0-9-1 frames of publishes, many in one buffer: Basic.Publish, content header, body.

An `Encoder` writes for one channel, and makes the method frame of each route once. It opens no
connection, counts no delivery tag and knows no limit of the broker but the frame size.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

import struct

from fastsmtp._tail cimport Place, Reader, Tail

cdef enum:
    FRAME_MAX = 131072  # where the broker names no maximum

cdef enum:
    FRAME_METHOD = 1
    FRAME_HEADER = 2
    FRAME_BODY = 3
    FRAME_END = 0xCE
    FRAME_OVERHEAD = 8  # type, channel, size before; the end octet behind
    SHORT_STRING = 255
    FIRST_CAPACITY = 16384
    LARGEST_USUAL = 512 * 1024  # octets of a buffer that is made because the last one was as large
    ROUTES = 4096  # whose method frames are kept

cdef enum Flag:  # of the properties of class Basic, in the order in which they stand
    CONTENT_TYPE = 1 << 15
    CONTENT_ENCODING = 1 << 14
    HEADERS = 1 << 13
    DELIVERY_MODE = 1 << 12
    PRIORITY = 1 << 11
    MESSAGE_ID = 1 << 7
    TIMESTAMP = 1 << 6
    APP_ID = 1 << 3


cdef bytes short_string(str text):
    encoded = text.encode()
    if len(encoded) > SHORT_STRING:
        raise ValueError(f"{text[:40]!r}… is longer than {SHORT_STRING} octets")
    return bytes((len(encoded),)) + encoded


cdef bytes header_field(str name, str text):
    """A field of a table whose value is a long string (AMQP 0-9-1 §4.2.5.5)."""
    value = text.encode()
    if len(value) > SHORT_STRING:
        raise ValueError(f"the header {name} is longer than {SHORT_STRING} octets")
    return short_string(name) + struct.pack(">cI", b"S", len(value)) + value


cdef bytes header_table(bytes fields):
    return struct.pack(">I", len(fields)) + fields


cdef inline uint8_t *put_octets(uint8_t *at, bytes octets) noexcept:
    memcpy(at, PyBytes_AS_STRING(octets), PyBytes_GET_SIZE(octets))
    return at + PyBytes_GET_SIZE(octets)


cdef inline uint8_t *put_number(uint8_t *at, uint64_t number, int octets) noexcept:
    """Big endian (AMQP 0-9-1 §4.2.5.1)."""
    cdef int position
    for position in range(octets):
        at[position] = <uint8_t>(number >> (8 * (octets - 1 - position)))
    return at + octets


cdef class Encoder:
    """Writes the frames of publishes one behind the other until `take`."""

    def __init__(self, int channel, str exchange, str routing_key, int frame_max, bint persistent,
                 str content_encoding):
        if channel < 1 or channel > 65535:
            raise ValueError(f"no channel number: {channel}")
        if frame_max == 0:
            frame_max = FRAME_MAX
        if frame_max < 4096:  # frame-min-size
            raise ValueError(f"no frame size: {frame_max}")
        self.leading = short_string("application/json")
        self.trailing = short_string("fastsmtp")
        self.flags = CONTENT_TYPE | DELIVERY_MODE | MESSAGE_ID | TIMESTAMP | APP_ID
        if content_encoding:
            self.flags |= CONTENT_ENCODING
            self.leading += short_string(content_encoding)
        self.channel = channel
        self.method = self.method_frame(exchange, routing_key)
        self.routed = {}
        self.delivery_mode = 2 if persistent else 1
        self.room = frame_max - FRAME_OVERHEAD
        self.encoding = ""
        self.headers = b""
        self.usual = FIRST_CAPACITY
        self.begin()

    cdef bytes method_frame(self, str exchange, str routing_key):
        """A whole Basic.Publish frame; raises ValueError for a name over 255 octets."""
        arguments = (
            struct.pack(">HHH", 60, 40, 0)  # class Basic, method Publish, reserved
            + short_string(exchange) + short_string(routing_key) + b"\x01"  # mandatory
        )
        start = struct.pack(">BHI", FRAME_METHOD, self.channel, len(arguments))
        return start + arguments + bytes((FRAME_END,))

    cdef bytes routed_method(self, route):
        """The Basic.Publish frame of a route, made once while there are not too many of them."""
        cdef bytes method = self.routed.get(route)
        if method is None:
            method = self.method_frame(route.exchange, route.routing_key)
            if len(self.routed) >= ROUTES:
                self.routed.clear()
            self.routed[route] = method
        return method

    cdef int begin(self) except -1:
        """An empty buffer, which takes no memory yet."""
        self.buffer = bytearray()
        self.capacity = 0
        self.size = 0
        return 0

    cdef uint8_t *reserve(self, Py_ssize_t octets) except NULL:
        """Where to write `octets` more; the only place that checks the buffer's bounds."""
        cdef Py_ssize_t needed = self.size + octets
        cdef Py_ssize_t wanted
        if needed > self.capacity:
            # As much as the last time: each time that it grows, all of it is copied.
            wanted = max(needed, 2 * self.capacity, self.usual)
            PyByteArray_Resize(self.buffer, wanted)
            self.capacity = wanted
        return <uint8_t *>PyByteArray_AS_STRING(self.buffer) + self.size

    cdef int use_encoding(self, str encoding) except -1:
        """Make `headers` the table {mime-encoding: `encoding`}."""
        if encoding != self.encoding:
            self.headers = header_table(header_field("mime-encoding", encoding))
            self.encoding = encoding
        return 0

    cdef bytes table_with(self, str encoding, str fingerprint):
        """The table with a fingerprint, and {mime-encoding: `encoding`} where there is one."""
        fields = header_field("fingerprint", fingerprint)
        if encoding:
            fields += header_field("mime-encoding", encoding)
        return header_table(fields)

    cdef uint8_t *frame(self, uint8_t *at, uint8_t kind, Py_ssize_t octets) noexcept:
        at[0] = kind
        at = put_number(at + 1, self.channel, 2)
        return put_number(at, octets, 4)

    cdef uint8_t *body(self, uint8_t *at, const uint8_t *octets, Py_ssize_t length) noexcept:
        """`length` octets as frames of at most `room`; none for none."""
        cdef Py_ssize_t step
        while length > 0:
            step = length if length < self.room else self.room
            at = self.frame(at, FRAME_BODY, step)
            memcpy(at, octets, step)
            at[step] = FRAME_END
            at += step + 1
            octets += step
            length -= step
        return at

    cdef Py_ssize_t framed(self, Py_ssize_t length) noexcept:
        """Octets of the frames of a body of `length`."""
        return length + FRAME_OVERHEAD * ((length + self.room - 1) // self.room)

    cpdef bint publish(
        self, str id, priority, str encoding, bytes prefix, Tail tail, uint64_t timestamp,
        route=None, str fingerprint=""
    ) except -1:
        cdef bytes method = self.method if route is None else self.routed_method(route)
        cdef bytes headers = None
        cdef Place place
        cdef Py_ssize_t length = PyBytes_GET_SIZE(prefix)
        cdef Py_ssize_t id_length, properties, needed
        cdef int flags = self.flags
        cdef int level = 0
        cdef bint whole
        cdef uint8_t *start
        cdef uint8_t *at
        cdef const char *id_text = PyUnicode_AsUTF8AndSize(id, &id_length)
        if id_length > SHORT_STRING:
            raise ValueError("message-id is too long")
        properties = (
            2 + PyBytes_GET_SIZE(self.leading) + 1 + 1 + id_length + 8
            + PyBytes_GET_SIZE(self.trailing)
        )
        if fingerprint:
            headers = self.table_with(encoding, fingerprint)
        elif encoding:
            self.use_encoding(encoding)
            headers = self.headers
        if headers is not None:
            flags |= HEADERS
            properties += PyBytes_GET_SIZE(headers)
        if priority is not None:
            level = priority
            if level < 0 or level > 255:
                raise ValueError(f"no AMQP priority: {level}")
            flags |= PRIORITY
            properties += 1
        whole = length + tail.size <= self.room
        needed = PyBytes_GET_SIZE(method) + FRAME_OVERHEAD + 12 + properties
        if whole:
            needed += length + tail.size + FRAME_OVERHEAD
        else:
            needed += self.framed(length)
        start = self.reserve(needed)
        at = put_octets(start, method)
        at = self.frame(at, FRAME_HEADER, 12 + properties)
        at = put_number(at, 60, 2)
        at = put_number(at, 0, 2)  # weight
        at = put_number(at, length + tail.size, 8)
        at = put_number(at, flags, 2)
        at = put_octets(at, self.leading)
        if headers is not None:
            at = put_octets(at, headers)
        at = put_number(at, self.delivery_mode, 1)
        if flags & PRIORITY:
            at = put_number(at, level, 1)
        at = put_number(at, id_length, 1)
        memcpy(at, id_text, id_length)
        at = put_number(at + id_length, timestamp, 8)
        at = put_octets(at, self.trailing)
        at = put_number(at, FRAME_END, 1)
        if not whole:
            at = self.body(at, <uint8_t *>PyBytes_AS_STRING(prefix), length)
        elif length + tail.size:
            at = self.frame(at, FRAME_BODY, length + tail.size)
            at = put_octets(at, prefix)
            memset(&place, 0, sizeof(place))
            if tail.fill(&place, at, tail.size) != tail.size:
                raise AssertionError("a tail is shorter than it said")
            at = put_number(at + tail.size, FRAME_END, 1)
        assert at - start <= needed
        self.size += at - start
        return whole

    def slice(self, Reader rest not None, Py_ssize_t octets):
        cdef bytearray frames = bytearray()
        cdef Py_ssize_t step
        cdef uint8_t *at
        octets = max(0, min(octets, rest.left))
        PyByteArray_Resize(frames, self.framed(octets))
        at = <uint8_t *>PyByteArray_AS_STRING(frames)
        while octets > 0:
            step = min(octets, self.room)
            at = self.frame(at, FRAME_BODY, step)
            rest.fill(at, step)
            at[step] = FRAME_END
            at += step + 1
            octets -= step
        return frames

    cpdef bytearray take(self):
        cdef bytearray frames = self.buffer
        self.usual = min(max(FIRST_CAPACITY, self.size), LARGEST_USUAL)
        PyByteArray_Resize(frames, self.size)
        self.begin()
        return frames
