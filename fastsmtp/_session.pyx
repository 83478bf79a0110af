"""The SMTP session, sans-I/O: octets in, replies out, one finished message at a time.

`feed` takes what the client sent and gives what to write. Where somebody else must decide, as on a
finished message, the session has a `question`: it keeps what a pipelining client sends meanwhile,
and goes on at `answer`. It is the only owner of unread input. It reads no clock, opens no socket
and knows no sink: what may come in is what `Availability` says.

The states and commands are one table, COMMANDS, near the end.
"""

import re
from binascii import a2b_base64

from libc.string cimport memchr, memcmp, strlen

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from cpython.unicode cimport PyUnicode_KIND

from fastsmtp._content cimport Content
from fastsmtp._parser cimport (
    Mail,
    Rcpt,
    parse_bdat,
    parse_mail,
    parse_rcpt,
    split_command,
)
from fastsmtp._durations cimport now
from fastsmtp.envelope cimport Envelope, Recipient
from fastsmtp.availability cimport Availability
from fastsmtp.peer cimport Peer
from fastsmtp.questions cimport Credentials, Introduction, Message, Question, Room
from fastsmtp.replies cimport Reply

from fastsmtp import _content, replies, xclient
from fastsmtp._parser import CommandError
from fastsmtp.memory_budget import TLS as _TLS
from fastsmtp.refusals import Refusal

NEWLINES = {
    "keep": _content.KEEP,
    "normalize": _content.NORMALIZE,
    "reject": _content.REJECT,
}

_MAIL_PROBLEMS = {
    "syntax": replies.BAD_ARGUMENT,
    "mailbox": replies.BAD_SENDER,
    "utf8": replies.NEEDS_SMTPUTF8,
    "parameter": replies.UNKNOWN_PARAMETER,
}
_RCPT_PROBLEMS = {**_MAIL_PROBLEMS, "mailbox": replies.BAD_RECIPIENT}

_XCLIENT = " ".join(["XCLIENT", *xclient.ATTRIBUTES]).encode()

# Said for every message, so they are looked up once.
cdef Reply SENDER_OK = replies.SENDER_OK
cdef Reply RECIPIENT_OK = replies.RECIPIENT_OK
cdef Reply GO_AHEAD = replies.GO_AHEAD

# Who speaks first like this is a browser, or a form that a browser was made to send.
_HTTP_VERBS = frozenset(
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH PRI".split()
)

# RFC 4648 §4. Python's own strict mode takes surplus padding in 3.11 and 3.12.
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")

cdef enum:
    COMMAND_LIMIT = 4096  # octets of a command line, its line end included
    AUTH_LIMIT = 12288  # of an AUTH command (RFC 4954 §4)
    REPLIES = 64  # given at once: eight octets may ask for 200, and others wait meanwhile
    CRUMBS = 1024  # bytes up to which kept input is put together: a read may be of one byte
    USELESS = 1000  # commands without an accepted message, see `count_command`
    SMALL = 256 * 1024  # bytes of the largest message that asks for no memory beforehand
    ENVELOPE = 4 * 1024  # bytes of an envelope that the flat charge of a connection covers
    RECIPIENT = 320  # bytes that a recipient takes besides its texts, also in a reply

cdef class Rules:
    """What the settings say to every session of a worker."""

    def __init__(self, settings, asked=()):
        asked = set(asked)
        self.asked = {question.command: question for question in asked if question.command} or None
        self.hostname = settings.smtp_hostname.encode()
        self.greeting = b"220 %b ESMTP fastsmtp\r\n" % self.hostname
        self.hellos = {}
        self.newlines = NEWLINES[settings.smtp_bare_newline]
        self.strict_lines = settings.smtp_bare_newline == "reject"
        self.eight_bit = settings.json_binary != "reject"
        self.maxrecipients = settings.smtp_maxrecipients
        self.maxfanout = settings.smtp_maxfanout
        self.maxerrors = settings.smtp_maxerrors
        self.tls = bool(settings.smtp_certificate)
        self.auth = Credentials in asked
        self.insecure_auth = settings.smtp_insecure_auth
        self.require_tls = settings.smtp_require_tls

    cdef bytes hello(self, maxsize, bint secure, bint offers_xclient):
        """The reply to EHLO."""
        lines = [self.hostname, b"PIPELINING", b"SIZE %d" % maxsize]
        if self.eight_bit:
            lines += [b"8BITMIME", b"SMTPUTF8"]
        if self.tls and not secure:
            lines.append(b"STARTTLS")
        if self.auth and (secure or self.insecure_auth and not self.require_tls):
            lines.append(b"AUTH PLAIN LOGIN")
        if offers_xclient:
            lines.append(_XCLIENT)
        lines += [
            b"ENHANCEDSTATUSCODES",
            b"CHUNKING",
            b"DSN",
            b"LIMITS RCPTMAX=%d" % self.maxrecipients,
        ]
        last = lines.pop()
        return b"".join([b"250-%b\r\n" % line for line in lines]) + b"250 %b\r\n" % last


cdef class Session:
    def __init__(self, Rules rules, Availability availability, metrics, refusals, Peer peer):
        self.rules = rules
        self.availability = availability
        self.said = metrics.replies
        self.reply_seconds = metrics.reply_seconds
        self.refusals = refusals
        self.peer = peer
        self.phase = COMMAND
        self.state = START
        self.rest = b""
        self.kept = []
        self.out = []

    # What the caller asks

    @property
    def closing(self):
        return self.phase == CLOSED

    cpdef bint flows(self) noexcept:
        return (
            self.phase < WAITING
            and self.backlog == 0
            and self.overhead <= ENVELOPE
            and (self.content is None or self.content.held == 0)
        )

    @property
    def stalled(self):
        return self.phase < WAITING and self.backlog > 0

    @property
    def starting_tls(self):
        return self.phase == HANDSHAKE

    @property
    def refused(self):
        return self.state == REFUSED

    @property
    def in_content(self):
        return self.phase in (DATA, CHUNK, REFUSED_CHUNK) or (
            self.state == CHUNKS and self.phase in (COMMAND, OVERLONG)
        )

    @property
    def idle(self):
        return self.state in (START, READY, REFUSED) and self.phase in (COMMAND, OVERLONG, WAITING)

    @property
    def filling(self):
        return (
            self.phase < WAITING and self.content is not None and not self.content.too_large
        )

    @property
    def held(self):
        if self.phase >= WAITING and isinstance(self.question, Message):
            return self.backlog  # the rest is the message's
        held = self.backlog
        if self.overhead > ENVELOPE:
            held += self.overhead
        if self.content is not None:
            held += self.content.held
        return held

    @property
    def expected(self):
        if self.content is None:
            return self.held
        size = self.content.size
        if self.phase == CHUNK and self.last_chunk:
            whole = size + self.chunk
        elif size <= with_slack(self.envelope.size):
            whole = with_slack(self.envelope.size)
        else:
            whole = self.availability.maxsize
        return whole + self.overhead

    # What the caller does

    def greet(self):
        if self.availability.greeting is not None:
            return self.close(self.availability.greeting)
        return self.rules.greeting

    def refuse(self):
        self.state = REFUSED
        self.say(replies.ACCESS_DENIED)
        return self.take_replies()

    cpdef bytes feed(self, bytes data):
        if self.phase == WAITING or self.backlog > 0:
            self.keep(data)
            return b""
        if self.phase == HANDSHAKE:
            return self.close(replies.PROTOCOL_ERROR)
        self.run(data)
        return self.take_replies()

    def proceed(self):
        return self.go_on() if self.stalled else b""

    cpdef bytes answer(self, Question question, Reply reply):
        if question is not self.question:
            return b""
        self.question = None
        self.phase = COMMAND
        self.progress += 1
        if isinstance(question, Room):
            self.decide_room(reply)
        elif isinstance(question, Message):
            if reply.code == 250:
                self.errors = 0
            if reply.code < 500:
                self.renew()
            self.reset_transaction()
            self.give(reply)
        elif isinstance(question, Credentials):
            if reply.code == 235:
                self.peer.user = (<Credentials> question).user
                self.peer.client = None
            self.give(reply)
        elif isinstance(question, Introduction):
            self.begin_anew((<Introduction> question).said, reply)
        else:
            self.decided(question.command, reply)
        self.end_if_stopping()
        return self.go_on()

    def secured(self):
        self.phase = COMMAND
        self.state = START
        self.peer.helo = self.peer.user = ""
        self.peer.client = None
        self.progress += 1

    def abandon(self):
        if not self.filling:
            return
        self.content.overflow()
        self.refusal = replies.NO_MEMORY
        if self.phase == CHUNK:
            self.phase = REFUSED_CHUNK

    def stop(self):
        self.stopping = True
        if not self.idle:
            return b""
        self.give_and_close(replies.STOPPING)
        self.progress += 1
        return self.take_replies()

    def close(self, reply):
        if self.phase == CLOSED:
            return b""
        self.say_and_close(reply)
        self.progress += 1
        return self.take_replies()

    # The input

    cdef int keep(self, bytes data) except -1:
        """Put `data` behind what came while the session waited."""
        cdef Py_ssize_t last = len(self.kept) - 1
        self.backlog += PyBytes_GET_SIZE(data)
        if last >= 0 and len(<bytes> self.kept[last]) + PyBytes_GET_SIZE(data) <= CRUMBS:
            self.kept[last] += data
        else:
            self.kept.append(data)
        return 0

    cdef bytes go_on(self):
        """Take what came while the session waited."""
        if self.kept:
            data = b"".join(self.kept)
            self.kept = []
            self.backlog = 0
            self.run(data)
        return self.take_replies()

    cdef bytes take_replies(self):
        if not self.out:
            return b""
        joined = self.out[0] if len(self.out) == 1 else b"".join(self.out)
        self.out = []
        return joined

    cdef int run(self, bytes data) except -1:
        """Go through the input until it ends, a message is finished or the session is closed, or
        so much is to be said that the client should read it first.
        """
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t length
        if self.rest:
            data = self.rest + data
            self.rest = b""
        length = PyBytes_GET_SIZE(data)
        while at < length and self.phase < WAITING and len(self.out) < REPLIES:
            if self.phase == DATA:
                at = self.take_data(data, at)
            elif self.phase == CHUNK:
                at = self.take_chunk(data, at)
            elif self.phase == REFUSED_CHUNK:
                at = self.take_refused_chunk(data, at)
            elif self.phase == OVERLONG:
                at = self.take_overlong(data, at)
            else:
                at = self.take_command(data, at)
        if at < length and self.phase < HANDSHAKE:
            self.kept.append(data[at:])
            self.backlog = length - at
        return 0

    cdef Py_ssize_t line_end(self, bytes data, Py_ssize_t at) except -2:
        """Behind the line that begins at `at`, or -1: CRLF ends it, mostly LF too."""
        cdef const char *octets = PyBytes_AS_STRING(data)
        cdef const char *newline
        cdef Py_ssize_t start = at
        while True:
            newline = <const char *> memchr(
                octets + at, c"\n", PyBytes_GET_SIZE(data) - at
            )
            if newline == NULL:
                return -1
            at = newline - octets + 1
            if not self.rules.strict_lines:
                return at
            if at - start >= 2 and (newline - 1)[0] == c"\r":
                return at

    cdef Py_ssize_t take_command(self, bytes data, Py_ssize_t at) except -2:
        cdef const char *octets = PyBytes_AS_STRING(data)
        cdef Py_ssize_t stop = self.line_end(data, at)
        cdef Py_ssize_t end, said
        if stop < 0:
            end = PyBytes_GET_SIZE(data)
            if end - at > self.line_limit(octets + at, end - at):
                self.phase = OVERLONG
                self.rest_ends_in_cr = octets[end - 1] == c"\r"
            else:
                if not self.line_begun:
                    self.line_begun = True
                    self.progress += 1
                self.rest = data[at:]
            return end
        self.line_begun = False
        self.progress += 1
        self.count_command()
        said = len(self.out)
        end = stop - 1
        if end > at and octets[end - 1] == c"\r":
            end -= 1
        if stop - at > self.line_limit(octets + at, stop - at):
            self.exchange = NONE
            self.say(replies.LINE_TOO_LONG)
        elif has_control(octets + at, end - at):
            self.exchange = NONE
            self.say(replies.BAD_LINE)
        elif self.exchange:
            self.response(PyBytes_FromStringAndSize(octets + at, end - at))
        else:
            self.command(PyBytes_FromStringAndSize(octets + at, end - at))
        self.spoken = True
        if stop < PyBytes_GET_SIZE(data) and (
            self.phase == HANDSHAKE
            or self.phase != DATA
            and not isinstance(self.question, Room)
            and is_data(octets + at, end - at)
        ):
            # Octets behind STARTTLS would be taken as protected; octets behind a DATA that is
            # refused were meant as content. Neither ever runs.
            del self.out[said:]
            self.say_and_close(replies.PROTOCOL_ERROR)
        self.end_if_useless()
        return stop

    cdef Py_ssize_t line_limit(self, const char *line, Py_ssize_t length) noexcept:
        return AUTH_LIMIT if self.exchange else line_limit(line, length)

    cdef Py_ssize_t take_overlong(self, bytes data, Py_ssize_t at) except -2:
        """Throw away the rest of a line that is too long, then say so."""
        cdef Py_ssize_t stop
        if self.rest_ends_in_cr and PyBytes_AS_STRING(data)[at] == c"\n":
            stop = at + 1
        else:
            stop = self.line_end(data, at)
        if stop < 0:
            stop = PyBytes_GET_SIZE(data)
            self.rest_ends_in_cr = PyBytes_AS_STRING(data)[stop - 1] == c"\r"
            return stop
        self.line_begun = False
        self.exchange = NONE
        self.progress += 1
        self.count_command()
        self.phase = COMMAND
        self.spoken = True
        self.say(replies.LINE_TOO_LONG)
        self.end_if_useless()
        return stop

    cdef int command(self, bytes line) except -1:
        """Look the verb up in the table and let its handler go on."""
        cdef const Command *entry
        verb, argument = split_command(line)
        entry = find_command(verb)
        if entry == NULL:
            self.unknown(verb)
        elif self.lacks_tls() and not entry.before_tls:
            self.say(replies.TLS_REQUIRED)
        elif not self.state & entry.states:
            self.say_out_of_order(self.out_of_order())
        else:
            entry.handler(self, argument)
        return self.end_if_stopping()

    cdef int unknown(self, bytes verb) except -1:
        if not self.spoken and (verb in _HTTP_VERBS or b":" in verb[1:]):
            self.say_and_close(replies.PROTOCOL_ERROR)
        elif self.lacks_tls():
            self.say(replies.TLS_REQUIRED)
        elif self.state == REFUSED:
            self.say(replies.WRONG_ORDER)
        else:
            self.say(replies.UNKNOWN_COMMAND)
        return 0

    cdef bint lacks_tls(self) noexcept:
        return self.rules.require_tls and not self.peer.secure and self.state != REFUSED

    cdef Reply out_of_order(self):
        if self.state == START:
            return replies.HELLO_FIRST
        if self.state == READY:
            return replies.MAIL_FIRST
        if self.state == SENDER:
            return replies.NO_RECIPIENTS
        return replies.WRONG_ORDER

    # Authentication (RFC 4954, PLAIN by RFC 4616)

    cdef int challenge(self, Exchange exchange, bytes text) except -1:
        self.exchange = exchange
        self.out.append(b"334 %b\r\n" % text)
        return 0

    cdef int response(self, bytes line) except -1:
        """A line of the exchange; "*" cancels it."""
        cdef Exchange exchange = self.exchange
        self.exchange = NONE
        if line == b"*":
            return self.say(replies.AUTH_CANCELLED)
        if not _BASE64.fullmatch(line):
            return self.say(replies.BAD_BASE64)
        octets = a2b_base64(line)
        if exchange == PLAIN:
            return self.take_plain(octets)
        if exchange == LOGIN_USER:
            self.user = user_name(octets)
            return self.challenge(LOGIN_PASSWORD, b"UGFzc3dvcmQ6")  # Password:
        return self.check(self.user, octets)

    cdef int take_plain(self, bytes octets) except -1:
        parts = octets.split(b"\0")
        if len(parts) != 3:
            return self.say(replies.BAD_BASE64)
        identity, user, password = parts
        if identity and identity != user:
            return self.say(replies.BAD_CREDENTIALS)
        return self.check(user_name(user), password)

    cdef int check(self, str user, bytes password) except -1:
        """Let the caller find out what they are worth; a name that nobody can have is no user."""
        if user is None:
            return self.say(replies.BAD_CREDENTIALS)
        return self.ask(Credentials(self.peer, user, password))

    # The content

    cdef Py_ssize_t take_data(self, bytes data, Py_ssize_t at) except -2:
        cdef Py_ssize_t stop = self.content.feed_data(data, at)
        self.received += (PyBytes_GET_SIZE(data) if stop < 0 else stop) - at
        self.message.size = self.content.size
        if stop < 0:
            return PyBytes_GET_SIZE(data)
        self.finish_message()
        return stop

    cdef Py_ssize_t take_chunk(self, bytes data, Py_ssize_t at) except -2:
        cdef Py_ssize_t stop = self.chunk_end(data, at)
        self.content.feed_chunk(data, at, stop)
        self.message.size = self.content.size
        if self.chunk == 0:
            self.end_chunk()
        return stop

    cdef Py_ssize_t take_refused_chunk(self, bytes data, Py_ssize_t at) except -2:
        cdef Py_ssize_t stop = self.chunk_end(data, at)
        if self.chunk == 0:
            self.end_refused_chunk()
        return stop

    cdef Py_ssize_t chunk_end(self, bytes data, Py_ssize_t at) except -2:
        """Where the BDAT chunk ends in `data`; what it takes is counted."""
        cdef Py_ssize_t stop = min(PyBytes_GET_SIZE(data), at + self.chunk)
        self.chunk -= stop - at
        self.received += stop - at
        return stop

    cdef int end_chunk(self) except -1:
        self.phase = COMMAND
        self.progress += 1
        if self.last_chunk:
            self.content.finish()
            self.finish_message()
        else:
            self.say(replies.OK)
        return 0

    cdef int end_refused_chunk(self) except -1:
        """A chunk that is too much is the end of its message; another one never was of any."""
        self.progress += 1
        if self.state == CHUNKS:
            return self.finish_message()
        self.phase = COMMAND
        self.say_out_of_order(self.refusal)
        return self.end_if_stopping()

    cdef int begin_content(self) except -1:
        self.content = Content(self.rules.newlines, self.availability.maxsize)
        self.message = Message(self.peer, self.envelope, self.content.pieces)
        self.contents += 1
        self.refusal = None
        return 0

    cdef int finish_message(self) except -1:
        """The true end of the content is there: is the message stored?"""
        cdef Py_ssize_t size = self.message.size
        cdef Reply refusal = self.refusal
        self.progress += 1
        if refusal is None:
            if self.content.too_large:
                refusal = replies.TOO_LARGE
            elif size * len(self.envelope.recipients) > self.rules.maxfanout:
                refusal = replies.TOO_LARGE
            elif self.content.has_bare and self.rules.newlines == _content.REJECT:
                refusal = replies.BARE_NEWLINE
            else:
                return self.ask(self.message)
        self.refusals.tell(Refusal(refusal, self.peer, self.envelope, None, size))
        self.reply_seconds.since(now())
        if refusal.code < 500:
            self.renew()
        self.phase = COMMAND
        self.reset_transaction()
        self.give(refusal)
        return self.end_if_stopping()

    # Questions

    cdef int ask(self, Question question) except -1:
        self.question = question
        self.phase = WAITING
        return 0

    cdef int decide_room(self, Reply reply) except -1:
        """Whoever was asked has room for the content, or there will be none."""
        if reply.code == 354:
            self.begin_content()
            self.phase = DATA
            return self.say(GO_AHEAD)
        self.refusals.tell(Refusal(reply, self.peer, self.envelope))
        self.renew()
        self.reset_transaction()
        if self.backlog > 0:  # meant as content, which never runs as commands
            return self.say_and_close(replies.PROTOCOL_ERROR)
        return self.give(reply)

    cdef int begin_anew(self, dict said, Reply reply) except -1:
        """XCLIENT: the client that it names is greeted, or told why not, as at the beginning."""
        self.state = START
        self.spoken = False
        self.errors = 0
        self.deferred = False
        self.peer.helo = said.get("HELO", "")
        self.peer.user = said.get("LOGIN", "")
        self.peer.client = None
        if reply is replies.ACCESS_DENIED:
            self.state = REFUSED
            return self.say(reply)
        if reply.code < 400 and self.availability.greeting is not None:
            reply = self.availability.greeting
        if reply.code >= 400:
            return self.say_and_close(reply)
        self.out.append(self.rules.greeting)
        return 0

    cdef int decide(self, bytes command, Reply accepted) except -1:
        """MAIL or RCPT is good as far as the session knows: say so, or ask first who knows more."""
        if self.rules.asked is None or command not in self.rules.asked:
            return self.say(accepted)
        self.accepted = accepted
        return self.ask(self.rules.asked[command](self.peer, self.envelope))

    cdef int decided(self, bytes command, Reply reply) except -1:
        """Whoever was asked allows the command (2yz), or its effect is taken back."""
        if reply.code < 400:
            return self.say(self.accepted)
        if command == b"RCPT":
            self.overhead -= recipient_size(self.envelope.recipients.pop())
            self.state = RECIPIENTS if self.envelope.recipients else SENDER
        else:
            self.reset_transaction()
        if reply.code < 500:
            self.defer(command)
        return self.give(reply)

    # What counts towards the end of a session that brings no mail

    cdef int count_command(self) noexcept:
        """A transaction that has a recipient is no waste, whatever is said in it."""
        self.counted = self.state < RECIPIENTS
        self.commands += self.counted
        return 0

    cdef int uncount(self) noexcept:
        """The command at hand is no fault of the client's."""
        self.commands -= self.counted
        self.counted = False
        return 0

    cdef int renew(self) noexcept:
        """A message was accepted, or we could not take one now: the session's time begins anew."""
        self.commands = 0
        self.counted = False
        self.renewals += 1
        return 0

    cdef int defer(self, bytes command) except -1:
        """MAIL or RCPT was answered 4yz: what a pipelining client has sent behind is no fault."""
        self.deferred = True
        if command == b"MAIL":
            self.renew()
        return 0

    cdef int say_out_of_order(self, Reply reply) except -1:
        if not self.deferred:
            return self.say(reply)
        self.uncount()
        self.refusals.tell(Refusal(reply, self.peer, self.envelope))
        return self.put(reply)

    cdef int end_if_useless(self) except -1:
        if self.commands >= USELESS and self.counted and self.phase == COMMAND:
            self.say_and_close(replies.NO_MAIL)
        return 0

    # Replies and the end of things

    cdef int put(self, Reply reply) except -1:
        kind = reply.kind
        self.said[kind] = self.said.get(kind, 0) + 1
        self.out.append(reply.wire)
        return 0

    cdef int give(self, Reply reply) except -1:
        """A reply that somebody else has decided on, and reported where it is a refusal."""
        self.put(reply)
        if reply.code >= 500:
            self.errors += 1
            if self.errors >= self.rules.maxerrors:
                self.say_and_close(replies.TOO_MANY_ERRORS)
        elif reply.code >= 400:
            self.uncount()
        return 0

    cdef int say(self, Reply reply) except -1:
        """A reply of the session's own."""
        if reply.code >= 400:
            self.refusals.tell(Refusal(reply, self.peer, self.envelope))
        return self.give(reply)

    cdef int give_and_close(self, Reply reply) except -1:
        self.put(reply)
        self.phase = CLOSED
        self.content = None
        self.message = None
        self.overhead = 0
        self.kept = []
        self.backlog = 0
        self.question = None
        return 0

    cdef int say_and_close(self, Reply reply) except -1:
        if reply.code >= 400:
            self.refusals.tell(Refusal(reply, self.peer, self.envelope))
        return self.give_and_close(reply)

    cdef int end_if_stopping(self) except -1:
        """However a transaction has ended: no other one begins. Nothing is refused by this."""
        if self.stopping and self.idle:
            self.give_and_close(replies.STOPPING)
        return 0

    cdef int reset_transaction(self) except -1:
        if self.state > READY:
            self.state = READY
        self.envelope = None
        self.message = None
        self.content = None
        self.refusal = None
        self.overhead = 0
        self.deferred = False
        return 0

    cdef bytes ehlo_reply(self):
        about = (self.availability.maxsize, self.peer.secure, bool(self.peer.xclient_ip))
        reply = self.rules.hellos.get(about)
        if reply is None:
            reply = self.rules.hello(about[0], about[1], about[2])
            self.rules.hellos[about] = reply
        return reply


cdef Py_ssize_t line_limit(const char *line, Py_ssize_t length) noexcept:
    cdef int i
    for i in range(4):
        if i == length or line[i] & 0xDF != b"AUTH"[i]:
            return COMMAND_LIMIT
    return AUTH_LIMIT


cdef str user_name(bytes octets):
    """A name without controls; None where it is none."""
    try:
        name = octets.decode()
    except UnicodeDecodeError:
        return None
    return name if name and name.isprintable() else None


cdef bint is_data(const char *line, Py_ssize_t length) noexcept:
    """The line's verb is DATA, whatever else is in it."""
    cdef int i
    for i in range(4):
        if i == length or line[i] & 0xDF != b"DATA"[i]:
            return False
    return length == 4 or not c"A" <= line[4] & 0xDF <= c"Z"


cdef bint has_control(const char *text, Py_ssize_t length) noexcept:
    """CR, LF or NUL inside a command line (RFC 5321 §2.3.8, §4.1.1)."""
    return (
        memchr(text, c"\r", length) != NULL
        or memchr(text, c"\n", length) != NULL
        or memchr(text, 0, length) != NULL
    )


# The commands' handlers, in the order of the table. Each is called in its states only.

cdef int do_helo(Session session, bytes argument) except -1:
    if hello(session, argument):
        session.out.append(b"250 %b\r\n" % session.rules.hostname)
    return 0


cdef int do_ehlo(Session session, bytes argument) except -1:
    if hello(session, argument):
        session.out.append(session.ehlo_reply())
    return 0


cdef bint hello(Session session, bytes argument) except -1:
    """Both hellos end a transaction (RFC 5321 §4.1.4); any name will do."""
    if not argument:
        session.say(replies.BAD_ARGUMENT)
        return False
    session.reset_transaction()
    session.state = READY
    try:
        session.peer.helo = argument.decode()
    except UnicodeDecodeError:
        session.peer.helo = argument.decode("latin-1")
    return True


cdef int do_mail(Session session, bytes argument) except -1:
    cdef Mail mail
    if session.state > READY:
        return session.say(replies.NESTED_MAIL)
    session.deferred = False
    if session.rules.auth and not session.peer.user:
        return refuse_sender(session, replies.AUTH_REQUIRED, argument)
    if not session.peer.known:
        return refuse_sender(session, replies.UNKNOWN_CLIENT, argument)
    try:
        mail = parse_mail(argument)
    except CommandError as error:
        return refuse_sender(session, _MAIL_PROBLEMS[error.problem], argument)
    if (mail.smtputf8 or mail.eight_bit) and not session.rules.eight_bit:
        return refuse_sender(session, replies.UNKNOWN_PARAMETER, argument)
    if session.availability.refusal is not None:
        return refuse_sender(session, session.availability.refusal, argument)
    if session.availability.memory.is_full and (
        session.availability.memory.refuses(session.peer.client)
    ):
        return refuse_sender(session, replies.NO_MEMORY, argument)
    if mail.size > session.availability.maxsize:
        return refuse_sender(session, replies.TOO_LARGE, argument)
    session.envelope = Envelope(
        mail.sender,
        size=mail.size,
        smtputf8=mail.smtputf8,
        ret=mail.ret,
        envid=mail.envid,
    )
    session.state = SENDER
    return session.decide(b"MAIL", SENDER_OK)


cdef int do_rcpt(Session session, bytes argument) except -1:
    cdef Rcpt rcpt
    recipients = session.envelope.recipients
    if len(recipients) >= session.rules.maxrecipients or (
        session.envelope.size * (len(recipients) + 1) > session.rules.maxfanout
    ):
        return refuse_recipient(session, replies.TOO_MANY_RECIPIENTS, argument)
    if session.overhead > ENVELOPE and session.availability.memory.is_scarce and (
        session.availability.memory.must_ask(session.peer.client)
    ):
        return refuse_recipient(session, replies.NO_MEMORY, argument)
    try:
        rcpt = parse_rcpt(argument, session.envelope.smtputf8)
    except CommandError as error:
        return refuse_recipient(session, _RCPT_PROBLEMS[error.problem], argument)
    recipient = Recipient(rcpt.mailbox, rcpt.notify, rcpt.orcpt)
    recipients.append(recipient)
    session.overhead += recipient_size(recipient)
    session.state = RECIPIENTS
    return session.decide(b"RCPT", RECIPIENT_OK)


cdef int refuse_sender(Session session, Reply reply, bytes argument) except -1:
    session.refusals.tell(Refusal(reply, session.peer, Envelope(path_text(argument))))
    if reply.code < 500:
        session.defer(b"MAIL")
    return session.give(reply)


cdef int refuse_recipient(Session session, Reply reply, bytes argument) except -1:
    session.refusals.tell(Refusal(reply, session.peer, session.envelope, path_text(argument)))
    if reply.code < 500:
        session.defer(b"RCPT")
    return session.give(reply)


cdef str path_text(bytes argument):
    """The address in the argument of MAIL or RCPT as the client wrote it, valid or not."""
    path = argument.partition(b":")[2].strip()
    end = b" "
    if path.startswith(b"<"):
        path, end = path[1:], b">"
    return path.partition(end)[0].decode(errors="replace")


cdef int do_data(Session session, bytes argument) except -1:
    if argument:
        return session.say(replies.BAD_ARGUMENT)
    if session.envelope.size > SMALL:
        return session.ask(
            Room(session.peer, with_slack(session.envelope.size) + session.overhead)
        )
    session.begin_content()
    session.phase = DATA
    return session.say(GO_AHEAD)


cdef with_slack(size):
    """Bytes of content that a client which says SIZE=`size` may send without asking for more."""
    return size + size // 16 + 1024 if size else 0


cdef Py_ssize_t recipient_size(Recipient recipient):
    """Bytes that it takes in memory, about."""
    return RECIPIENT + text_size(recipient.mailbox) + text_size(recipient.orcpt)


cdef Py_ssize_t text_size(str text):
    """Bytes that the characters of `text` take in memory, more than once: in JSON, in replies."""
    return 0 if text is None else len(text) * (PyUnicode_KIND(text) + 1)


cdef int do_bdat(Session session, bytes argument) except -1:
    """RFC 3030 §2: a refused chunk's octets come all the same; without a size all is lost."""
    try:
        size, last = parse_bdat(argument)
    except CommandError:
        return session.say_and_close(replies.BAD_ARGUMENT)
    if session.state == RECIPIENTS:
        session.begin_content()
        session.state = CHUNKS
    session.chunk = size
    if session.lacks_tls():
        session.refusal = replies.TLS_REQUIRED
        session.phase = REFUSED_CHUNK
    elif session.state != CHUNKS:
        session.refusal = session.out_of_order()
        session.phase = REFUSED_CHUNK
    elif session.refusal is not None or session.content.size + size > session.availability.maxsize:
        session.content.overflow()
        session.phase = REFUSED_CHUNK
    else:
        session.last_chunk = last
        session.phase = CHUNK
    if size > 0:
        return 0
    return session.end_chunk() if session.phase == CHUNK else session.end_refused_chunk()


cdef int do_rset(Session session, bytes argument) except -1:
    if argument:
        return session.say(replies.BAD_ARGUMENT)
    session.reset_transaction()
    return session.say(replies.OK)


cdef int do_noop(Session session, bytes argument) except -1:
    return session.say(replies.OK)


cdef int do_vrfy(Session session, bytes argument) except -1:
    return session.say(replies.VRFY if argument else replies.BAD_ARGUMENT)


cdef int do_help(Session session, bytes argument) except -1:
    return session.say(replies.HELP)


cdef int do_quit(Session session, bytes argument) except -1:
    if argument:
        return session.say(replies.BAD_ARGUMENT)
    session.quit = True
    return session.say_and_close(replies.BYE)


cdef int do_starttls(Session session, bytes argument) except -1:
    """RFC 3207 §4: what was said before counts no more, see `secured`."""
    if argument:
        return session.say(replies.BAD_ARGUMENT)
    if session.peer.secure:
        return session.say(replies.WRONG_ORDER)
    if not session.rules.tls:
        return session.say(replies.NO_CERTIFICATE)
    if not session.availability.memory.has_room_for_connection(_TLS):
        return session.say(replies.TLS_UNAVAILABLE)
    session.say(replies.START_TLS)
    session.reset_transaction()
    session.phase = HANDSHAKE
    return 0


cdef int do_auth(Session session, bytes argument) except -1:
    """RFC 4954 §4; "=" is an empty initial response."""
    if not session.rules.auth:
        return session.say(replies.NOT_IMPLEMENTED)
    if not (session.peer.secure or session.rules.insecure_auth):
        return session.say(replies.AUTH_NEEDS_TLS)
    if session.peer.user or session.state != READY:
        return session.say(replies.WRONG_ORDER)
    words = argument.split()
    if not 1 <= len(words) <= 2:
        return session.say(replies.BAD_ARGUMENT)
    mechanism = words[0].upper()
    if mechanism not in (b"PLAIN", b"LOGIN"):
        return session.say(replies.BAD_MECHANISM)
    if len(words) == 2:
        session.exchange = PLAIN if mechanism == b"PLAIN" else LOGIN_USER
        return session.response(b"" if words[1] == b"=" else words[1])
    if mechanism == b"PLAIN":
        return session.challenge(PLAIN, b"")
    return session.challenge(LOGIN_USER, b"VXNlcm5hbWU6")  # Username:


cdef int do_xclient(Session session, bytes argument) except -1:
    if not session.peer.xclient_ip:
        return session.say(replies.XCLIENT_DENIED)
    if session.state > READY:
        return session.say(replies.WRONG_ORDER)
    try:
        said = xclient.parse(argument)
    except xclient.XclientError:
        return session.say(replies.BAD_ARGUMENT)
    return session.ask(Introduction(session.peer, said))


cdef int not_implemented(Session session, bytes argument) except -1:
    return session.say(replies.NOT_IMPLEMENTED)


ctypedef int (*Handler)(Session, bytes) except -1

cdef struct Command:
    const char *verb
    int states  # in which the handler is called; else 503
    bint before_tls  # it is called without TLS, too, where smtp-require-tls is set; else 530
    Handler handler

cdef Command[16] COMMANDS
COMMANDS = [
    Command(b"RCPT", SENDER | RECIPIENTS, False, do_rcpt),
    Command(b"MAIL", ANY ^ START, False, do_mail),
    Command(b"DATA", RECIPIENTS, False, do_data),
    Command(b"BDAT", ANY, True, do_bdat),  # says 530 itself, when its octets have come
    Command(b"QUIT", ANY | REFUSED, True, do_quit),
    Command(b"RSET", ANY, False, do_rset),
    Command(b"EHLO", ANY, True, do_ehlo),
    Command(b"HELO", ANY, True, do_helo),
    Command(b"NOOP", ANY, True, do_noop),
    Command(b"VRFY", ANY, False, do_vrfy),
    Command(b"HELP", ANY, False, do_help),
    Command(b"EXPN", ANY, False, not_implemented),
    Command(b"AUTH", ANY, False, do_auth),
    Command(b"STARTTLS", ANY, True, do_starttls),
    Command(b"XCLIENT", ANY, False, do_xclient),
    Command(NULL, 0, False, NULL),
]


cdef const Command *find_command(bytes verb) noexcept:
    cdef size_t length = PyBytes_GET_SIZE(verb)
    cdef const Command *command = COMMANDS
    while command.verb != NULL:
        if strlen(command.verb) == length and (
            memcmp(command.verb, PyBytes_AS_STRING(verb), length) == 0
        ):
            return command
        command += 1
    return NULL
