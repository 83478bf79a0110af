from fastsmtp._content cimport Content
from fastsmtp._durations cimport Durations
from fastsmtp.envelope cimport Envelope
from fastsmtp.availability cimport Availability
from fastsmtp.peer cimport Peer
from fastsmtp.questions cimport Credentials, Message, Question, Room
from fastsmtp.replies cimport Reply

# What the client may say: one at a time.
cdef enum State:
    START = 1  # nothing yet
    READY = 2  # HELO or EHLO given
    SENDER = 4  # MAIL given
    RECIPIENTS = 8  # and at least one RCPT
    CHUNKS = 16  # and at least one BDAT
    ANY = 31
    REFUSED = 32  # the client's address may not come in: nothing but QUIT

# What the next octet is.
cdef enum Phase:
    COMMAND
    OVERLONG  # the rest of a line that is too long
    DATA
    CHUNK  # of BDAT
    REFUSED_CHUNK  # its octets are thrown away, then the refusal is said
    WAITING  # for the answer to the question; input is kept
    HANDSHAKE  # of TLS: the caller's
    CLOSED

# What the next line of an AUTH exchange is (RFC 4954 §4).
cdef enum Exchange:
    NONE
    PLAIN
    LOGIN_USER
    LOGIN_PASSWORD


cdef class Rules:
    cdef bytes hostname
    cdef bytes greeting
    cdef dict hellos  # replies to EHLO, by all that they depend on besides
    cdef int newlines
    cdef bint strict_lines
    cdef bint eight_bit
    cdef Py_ssize_t maxrecipients
    cdef object maxfanout
    cdef int maxerrors
    cdef bint tls  # a certificate is there
    cdef bint auth  # a client must authenticate
    cdef bint insecure_auth
    cdef bint require_tls
    cdef dict asked  # by command, the type of question that it waits for; None: it waits for none

    cdef bytes hello(self, maxsize, bint secure, bint offers_xclient)


cdef class Session:
    # Server: shared by all sessions of a worker
    cdef Rules rules
    cdef Availability availability
    cdef dict said  # the metrics' replies, by kind
    cdef Durations reply_seconds  # of messages, the metrics'
    cdef object refusals  # where refusals are reported

    # Connection
    cdef readonly Peer peer
    cdef Phase phase
    cdef int state
    cdef bint stopping
    cdef readonly bint quit
    cdef bint spoken  # the first command has come
    cdef int errors  # 5yz replies since the last accepted message
    cdef int commands  # since the last renewal, outside a transaction that has a recipient
    cdef bint counted  # the command at hand is one of them
    cdef bint deferred  # MAIL or RCPT was answered 4yz: a 503 that follows from it does not count
    cdef readonly unsigned long long renewals
    cdef bytes rest  # the beginning of a command line
    cdef bint line_begun  # its first octet has come
    cdef bint rest_ends_in_cr  # of an overlong line
    cdef list kept  # what came while waiting
    cdef readonly Py_ssize_t backlog  # octets in `kept`
    cdef list out  # replies not yet given to the caller
    cdef readonly unsigned long long progress
    cdef Exchange exchange
    cdef str user  # of the credentials at hand
    cdef readonly Question question  # what the session waits for, or None
    cdef readonly Py_ssize_t overhead  # bytes that the envelope takes in memory
    cdef Reply accepted  # what a command is answered with where the question's answer allows it

    # Transaction
    cdef Envelope envelope
    cdef Message message  # from the beginning of its content
    cdef Content content
    cdef object chunk  # octets of the BDAT chunk that are still to come
    cdef bint last_chunk
    cdef Reply refusal  # of the message, or of a chunk, where it is known
    cdef readonly unsigned long long received
    cdef readonly unsigned long long contents

    cpdef bint flows(self) noexcept
    cpdef bytes feed(self, bytes data)
    cpdef bytes answer(self, Question question, Reply reply)
    cdef int ask(self, Question question) except -1
    cdef int decide_room(self, Reply reply) except -1
    cdef int begin_anew(self, dict said, Reply reply) except -1
    cdef int decide(self, bytes command, Reply accepted) except -1
    cdef int decided(self, bytes command, Reply reply) except -1
    cdef int keep(self, bytes data) except -1
    cdef bytes go_on(self)
    cdef bytes take_replies(self)
    cdef int run(self, bytes data) except -1
    cdef Py_ssize_t line_end(self, bytes data, Py_ssize_t at) except -2
    cdef Py_ssize_t take_command(self, bytes data, Py_ssize_t at) except -2
    cdef Py_ssize_t line_limit(self, const char *line, Py_ssize_t length) noexcept
    cdef Py_ssize_t take_overlong(self, bytes data, Py_ssize_t at) except -2
    cdef int command(self, bytes line) except -1
    cdef int unknown(self, bytes verb) except -1
    cdef bint lacks_tls(self) noexcept
    cdef Reply out_of_order(self)
    cdef int challenge(self, Exchange exchange, bytes text) except -1
    cdef int response(self, bytes line) except -1
    cdef int take_plain(self, bytes octets) except -1
    cdef int check(self, str user, bytes password) except -1
    cdef Py_ssize_t take_data(self, bytes data, Py_ssize_t at) except -2
    cdef Py_ssize_t take_chunk(self, bytes data, Py_ssize_t at) except -2
    cdef Py_ssize_t take_refused_chunk(self, bytes data, Py_ssize_t at) except -2
    cdef Py_ssize_t chunk_end(self, bytes data, Py_ssize_t at) except -2
    cdef int end_chunk(self) except -1
    cdef int end_refused_chunk(self) except -1
    cdef int begin_content(self) except -1
    cdef int finish_message(self) except -1
    cdef int count_command(self) noexcept
    cdef int uncount(self) noexcept
    cdef int renew(self) noexcept
    cdef int defer(self, bytes command) except -1
    cdef int say_out_of_order(self, Reply reply) except -1
    cdef int end_if_useless(self) except -1
    cdef int put(self, Reply reply) except -1
    cdef int give(self, Reply reply) except -1
    cdef int say(self, Reply reply) except -1
    cdef int give_and_close(self, Reply reply) except -1
    cdef int say_and_close(self, Reply reply) except -1
    cdef int end_if_stopping(self) except -1
    cdef int reset_transaction(self) except -1
    cdef bytes ehlo_reply(self)
