"""One SMTP client session of the load generator: says its lines, checks every reply, keeps time.

A protocol for an event loop's transport. `Run` is what the sessions of one run share; `Client` is
one connection. Any reply but the expected one ends the run with an error. Opens no connection.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

import asyncio


cdef double now():
    cdef timespec time
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec + time.tv_nsec * 1e-9


cdef class Run:
    cdef readonly list opening
    cdef readonly list mail
    cdef readonly bint reconnect
    cdef readonly object context
    cdef readonly bint stay
    cdef readonly Py_ssize_t answered
    cdef readonly double last
    cdef Py_ssize_t left
    cdef Py_ssize_t capacity
    cdef double *times

    def __cinit__(self, list opening, list mail, Py_ssize_t messages, *, bint reconnect=False,
                  context=None, bint stay=False):
        self.times = <double *>malloc(max(messages, 1) * sizeof(double))
        if self.times == NULL:
            raise MemoryError
        self.opening = opening
        self.mail = mail
        self.left = self.capacity = messages
        self.reconnect = reconnect
        self.context = context
        self.stay = stay

    def __dealloc__(self):
        free(self.times)

    @property
    def is_over(self):
        return self.left == 0

    def stop(self):
        self.left = 0

    def latencies(self):
        cdef Py_ssize_t i
        return [self.times[i] for i in range(self.answered)]

    cdef bint take(self):
        if self.left == 0:
            return False
        self.left -= 1
        return True

    cdef void note(self, double began):
        self.last = now()
        if self.answered < self.capacity:
            self.times[self.answered] = self.last - began
            self.answered += 1


cdef enum Phase:
    OPENING
    MAILING
    QUITTING


cdef class Client:
    cdef readonly object ended
    cdef readonly object idle
    cdef Run run
    cdef object loop
    cdef object transport
    cdef object upgrading
    cdef Phase phase
    cdef bint has_mail
    cdef list steps
    cdef Py_ssize_t step
    cdef bytes codes
    cdef Py_ssize_t code
    cdef bytes rest
    cdef double began

    def __init__(self, Run run):
        self.run = run
        self.loop = asyncio.get_running_loop()
        self.ended = self.loop.create_future()
        self.idle = self.loop.create_future()
        self.rest = b""
        self.has_mail = run.take()
        self.phase = OPENING
        self.steps = run.opening

    def connection_made(self, transport):
        self.transport = transport
        self.begin(0)

    def data_received(self, bytes data):
        cdef const char *octets
        cdef const char *end
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t size
        if self.rest:
            data = self.rest + data
            self.rest = b""
        octets = data
        while at < len(data):
            end = <const char *>memchr(octets + at, c"\n", len(data) - at)
            if end == NULL:
                self.rest = data[at:]
                return
            size = end - octets - at
            if size < 4 or octets[at + 3] != c"-":
                self.reply(data[at:at + size], octets + at, size)
            at += size + 1

    def eof_received(self):
        pass

    def pause_writing(self):
        pass

    def resume_writing(self):
        pass

    def connection_lost(self, error):
        if not self.ended.done():
            if self.phase == QUITTING:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(error or ConnectionError("the server hung up"))

    def abort(self):
        self.phase = QUITTING
        self.transport.abort()

    cdef void fail(self, error):
        if not self.ended.done():
            self.ended.set_exception(error)
        self.transport.abort()

    cdef reply(self, bytes line, const char *octets, Py_ssize_t size):
        """The last line of a reply."""
        cdef const char *codes = self.codes
        if size < 3 or self.code >= len(self.codes) or memcmp(octets, codes + self.code, 3) != 0:
            expected = self.codes[self.code:self.code + 3]
            self.fail(ConnectionError(f"expected {expected}, got {line}"))
            return
        self.code += 3
        if self.code == len(self.codes):
            self.advance()

    cdef advance(self):
        """All replies to a step are there."""
        if self.phase == MAILING and self.step + 1 == len(self.steps):
            self.run.note(self.began)
            self.has_mail = not self.run.reconnect and self.run.take()
        if self.step + 1 < len(self.steps):
            self.begin(self.step + 1)
        elif self.has_mail:
            self.phase = MAILING
            self.steps = self.run.mail
            self.begin(0)
        elif self.run.stay:
            if not self.idle.done():
                self.idle.set_result(None)
        elif self.phase == QUITTING:
            self.transport.close()
        else:
            self.phase = QUITTING
            self.steps = [(b"QUIT\r\n", b"221")]
            self.begin(0)

    cdef begin(self, Py_ssize_t step):
        said, codes = self.steps[step]
        self.step = step
        if said is None:
            self.upgrading = self.loop.create_task(self.start_tls())
            return
        self.codes = codes
        self.code = 0
        self.began = now()
        if said:
            self.transport.write(said)

    async def start_tls(self):
        try:
            self.transport = await self.loop.start_tls(
                self.transport, self, self.run.context, server_hostname="mx.example.com")
            self.advance()
        except Exception as error:
            self.fail(error)
