"""Command lines, paths and parameters of SMTP (RFC 5321 §4.1, RFC 3461 §4, RFC 6531 §3.3).

Takes the bytes of one command line without its line end; gives values, or raises `CommandError`
that says what kind of mistake it found. Never looks at a session and never makes a reply.
"""

import re

from libc.string cimport memchr

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII

_SYNTAX = "syntax"
_MAILBOX = "mailbox"
_UTF8 = "utf8"
_PARAMETER = "parameter"

_CODE_POINT = re.compile(r"([0-9A-Fa-f]{2,6})\}")  # behind "\x{" (RFC 6533 §3)

cdef enum:
    ATOM = 1  # atext and "." (RFC 5321 §4.1.2, dots anywhere: such addresses exist)
    LABEL = 2  # letters, digits, "-" and, for what is out there, "_"
    KEYWORD = 4  # esmtp-keyword
    VALUE = 8  # esmtp-value; octets over 127 for ORCPT with SMTPUTF8
    DIGIT = 16
    LITERAL = 32  # dcontent of an address literal
    QUOTED = 64  # qtextSMTP
    EIGHT_BIT = 128  # part of a UTF-8 sequence

cdef unsigned char CLASSES[256]

cdef void classify() noexcept:
    cdef int c
    for c in range(256):
        CLASSES[c] = 0
        if c > 127:
            CLASSES[c] = ATOM | LABEL | VALUE | QUOTED | EIGHT_BIT
            continue
        if c"0" <= c <= c"9":
            CLASSES[c] |= DIGIT
        if c"0" <= c <= c"9" or c"a" <= c <= c"z" or c"A" <= c <= c"Z" or c == c"-":
            CLASSES[c] |= ATOM | LABEL | KEYWORD
        if memchr(b"!#$%&'*+/=?^_`{|}~.", c, 19):
            CLASSES[c] |= ATOM
        if c == c"_":
            CLASSES[c] |= LABEL
        if 33 <= c <= 126:
            if c != c"=":
                CLASSES[c] |= VALUE
            if not c"[" <= c <= c"]":
                CLASSES[c] |= LITERAL
        if 32 <= c <= 126 and c != c"\\" and c != c'"':
            CLASSES[c] |= QUOTED

classify()


class CommandError(ValueError):
    """A command's argument is wrong; `problem` says how."""

    def __init__(self, problem):
        super().__init__(problem)
        self.problem = problem


cdef object fail(str problem):
    raise CommandError(problem)


cdef class Mail:
    """The argument of MAIL."""

    def __cinit__(self):
        self.size = 0
        self.eight_bit = False
        self.smtputf8 = False


cdef class Rcpt:
    """The argument of RCPT."""


cdef struct Cursor:
    const unsigned char *at
    const unsigned char *end


cdef bytes in_upper(const char *text, Py_ssize_t length):
    cdef bytes made = PyBytes_FromStringAndSize(NULL, length)
    cdef char *octets = PyBytes_AS_STRING(made)
    cdef Py_ssize_t i
    for i in range(length):
        octets[i] = upper(text[i])
    return made


# The characters of the verb in upper case, and the argument without spaces around it.
cpdef tuple split_command(bytes line):
    cdef const char *start = PyBytes_AS_STRING(line)
    cdef const char *end = start + PyBytes_GET_SIZE(line)
    cdef const char *stop
    while end > start and (end - 1)[0] == c" ":
        end -= 1
    stop = <const char *> memchr(start, c" ", end - start)
    if stop == NULL:
        return in_upper(start, end - start), b""
    verb = in_upper(start, stop - start)
    while stop < end and stop[0] == c" ":
        stop += 1
    return verb, PyBytes_FromStringAndSize(stop, end - stop)


cpdef Mail parse_mail(bytes argument):
    cdef Cursor cursor
    cdef Mail mail = Mail()
    cdef bint eight_bit = False
    begin(&cursor, argument, b"FROM:", 5)
    path = read_path(&cursor, False, &eight_bit)
    mail_parameters(&cursor, mail)
    mail.sender = decode_mailbox(path, eight_bit, mail.smtputf8)
    return mail


cpdef Rcpt parse_rcpt(bytes argument, bint smtputf8):
    cdef Cursor cursor
    cdef Rcpt rcpt = Rcpt()
    cdef bint eight_bit = False
    begin(&cursor, argument, b"TO:", 3)
    path = read_path(&cursor, True, &eight_bit)
    rcpt_parameters(&cursor, rcpt, smtputf8)
    rcpt.mailbox = decode_mailbox(path, eight_bit, smtputf8)
    return rcpt


cpdef tuple parse_bdat(bytes argument):
    words = [word for word in argument.split(b" ") if word]
    if not 1 <= len(words) <= 2 or len(words) == 2 and words[1].upper() != b"LAST":
        fail(_SYNTAX)
    return decimal(words[0]), len(words) == 2


cpdef str parse_mailbox(bytes text):
    cdef Cursor cursor
    if text.startswith(b"<") and text.endswith(b">"):
        text = text[1:len(text) - 1]
    if not text:
        return ""
    begin(&cursor, text, b"", 0)
    if not skip_mailbox(&cursor, False) or cursor.at != cursor.end:
        fail(_MAILBOX)
    return decode_mailbox(text, not text.isascii(), True)


cdef int begin(Cursor *cursor, bytes argument, const char *label, Py_ssize_t length) except -1:
    """Point behind the label ("FROM:", any case; RFC 5321 §3.3)."""
    cdef Py_ssize_t i
    cursor.at = <const unsigned char *> PyBytes_AS_STRING(argument)
    cursor.end = cursor.at + PyBytes_GET_SIZE(argument)
    if cursor.end - cursor.at < length:
        fail(_SYNTAX)
    for i in range(length):
        if upper(cursor.at[i]) != label[i]:
            fail(_SYNTAX)
    cursor.at += length
    return 0


cdef inline unsigned char upper(unsigned char c) noexcept:
    return c - 32 if c"a" <= c <= c"z" else c


cdef inline void skip_spaces(Cursor *cursor) noexcept:
    while cursor.at < cursor.end and cursor.at[0] == c" ":
        cursor.at += 1


cdef inline bint looking_at(const Cursor *cursor, unsigned char c) noexcept:
    return cursor.at < cursor.end and cursor.at[0] == c


cdef inline void skip(Cursor *cursor, unsigned char classes) noexcept:
    while cursor.at < cursor.end and CLASSES[cursor.at[0]] & classes:
        cursor.at += 1


cdef bytes read_path(Cursor *cursor, bint recipient, bint *eight_bit):
    """The mailbox of a path (RFC 5321 §4.1.2); the cursor ends behind the path.

    The null path is b"". A path without "<>" ends at the first space.
    """
    cdef const unsigned char *start
    cdef Cursor token
    cdef bint bracketed
    skip_spaces(cursor)
    bracketed = looking_at(cursor, c"<")
    if cursor.at == cursor.end:
        fail(_SYNTAX)
    if bracketed:
        cursor.at += 1
        if looking_at(cursor, c">") and not recipient:
            cursor.at += 1
            return check_path_end(cursor, b"")
        token = cursor[0]
    else:
        token.at = cursor.at
        token.end = <const unsigned char *> memchr(cursor.at, c" ", cursor.end - cursor.at)
        if token.end == NULL:
            token.end = cursor.end
    if not skip_source_route(&token):
        fail(bad_path(cursor, bracketed))
    start = token.at
    if not skip_mailbox(&token, recipient):
        fail(bad_path(cursor, bracketed))
    mailbox = PyBytes_FromStringAndSize(<const char *> start, token.at - start)
    eight_bit[0] = has_eight_bit(start, token.at)
    if bracketed:
        if not looking_at(&token, c">"):
            fail(bad_path(cursor, True))
        token.at += 1
    elif token.at != token.end:
        fail(_MAILBOX)
    cursor.at = token.at
    return check_path_end(cursor, mailbox)


cdef bytes check_path_end(Cursor *cursor, bytes mailbox):
    if cursor.at < cursor.end and cursor.at[0] != c" ":
        fail(_SYNTAX)
    return mailbox


cdef str bad_path(const Cursor *cursor, bint bracketed):
    """A "<" that nothing closes is bad syntax, anything else wrong in a path a bad mailbox."""
    if bracketed and memchr(cursor.at, c">", cursor.end - cursor.at) == NULL:
        return _SYNTAX
    return _MAILBOX


cdef bint skip_source_route(Cursor *cursor) noexcept:
    """Drop "@one,@two:" (RFC 5321 appendix C); false where it is malformed."""
    if not looking_at(cursor, c"@"):
        return True
    while True:
        if not looking_at(cursor, c"@"):
            return False
        cursor.at += 1
        if not skip_domain(cursor):
            return False
        if looking_at(cursor, c":"):
            cursor.at += 1
            return True
        if not looking_at(cursor, c","):
            return False
        cursor.at += 1


cdef bint skip_mailbox(Cursor *cursor, bint recipient) noexcept:
    """Local-part "@" ( Domain / address-literal ), or Postmaster alone for RCPT (§4.1.1.3)."""
    cdef const unsigned char *start = cursor.at
    if looking_at(cursor, c'"'):
        if not skip_quoted_string(cursor):
            return False
    else:
        skip(cursor, ATOM)
    if cursor.at == start:
        return False
    if not looking_at(cursor, c"@"):
        return recipient and is_postmaster(start, cursor.at)
    cursor.at += 1
    return skip_domain(cursor)


cdef bint is_postmaster(const unsigned char *start, const unsigned char *end) noexcept:
    cdef int i
    if end - start != 10:
        return False
    for i in range(10):
        if upper(start[i]) != b"POSTMASTER"[i]:
            return False
    return True


cdef bint skip_quoted_string(Cursor *cursor) noexcept:
    cursor.at += 1
    while cursor.at < cursor.end:
        if cursor.at[0] == c'"':
            cursor.at += 1
            return True
        if cursor.at[0] == c"\\":
            cursor.at += 1
            if cursor.at == cursor.end or not 32 <= cursor.at[0] <= 126:
                return False
        elif not CLASSES[cursor.at[0]] & QUOTED:
            return False
        cursor.at += 1
    return False


cdef bint skip_domain(Cursor *cursor) noexcept:
    """An address literal, or labels of 1 to 63 octets, 255 together (RFC 5321 §4.5.3.1.2)."""
    cdef const unsigned char *start = cursor.at
    cdef const unsigned char *label
    if looking_at(cursor, c"["):
        return skip_literal(cursor)
    while True:
        label = cursor.at
        skip(cursor, LABEL)
        if not 1 <= cursor.at - label <= 63 or label[0] == c"-" or (cursor.at - 1)[0] == c"-":
            return False
        if not looking_at(cursor, c"."):
            return cursor.at - start <= 255
        cursor.at += 1


cdef bint skip_literal(Cursor *cursor) noexcept:
    """An address literal (RFC 5321 §4.1.3): without a tag and its colon, an IPv4 address."""
    cdef const unsigned char *start
    cursor.at += 1
    start = cursor.at
    skip(cursor, LITERAL)
    if cursor.at == start or not looking_at(cursor, c"]"):
        return False
    if memchr(start, c":", cursor.at - start) == NULL and not is_ipv4(start, cursor.at):
        return False
    cursor.at += 1
    return True


cdef bint is_ipv4(const unsigned char *at, const unsigned char *end) noexcept:
    """Four Snum with dots between: 1 to 3 digits, leading zeros allowed, 255 at most."""
    cdef const unsigned char *start
    cdef int part, value
    for part in range(4):
        if part > 0:
            if at == end or at[0] != c".":
                return False
            at += 1
        start = at
        value = 0
        while at < end and at - start < 3 and CLASSES[at[0]] & DIGIT:
            value = value * 10 + at[0] - c"0"
            at += 1
        if at == start or value > 255:
            return False
    return at == end


cdef bint has_eight_bit(const unsigned char *at, const unsigned char *end) noexcept:
    while at < end:
        if at[0] > 127:
            return True
        at += 1
    return False


cdef str decode_mailbox(bytes mailbox, bint eight_bit, bint smtputf8):
    """Internationalized mailboxes are UTF-8 and need SMTPUTF8 (RFC 6531 §3.3, §3.4)."""
    cdef str text
    if not eight_bit:
        return PyUnicode_DecodeASCII(
            PyBytes_AS_STRING(mailbox), PyBytes_GET_SIZE(mailbox), NULL
        )
    if not smtputf8:
        fail(_UTF8)
    try:
        text = mailbox.decode()
    except UnicodeDecodeError:
        raise CommandError(_UTF8) from None
    if has_hidden(text):
        fail(_MAILBOX)
    return text


cdef bint has_hidden(str text) noexcept:
    """Whether `text` has a control, a line separator, a bidi control or a zero-width space.

    People would read such an address as another one. U+200C and U+200D pass: some scripts need
    them.
    """
    cdef Py_UCS4 c
    for c in text:
        if (
            c < 0x20
            or 0x7F <= c <= 0x9F
            or c == 0x061C
            or c == 0x200B
            or 0x200E <= c <= 0x200F
            or 0x2028 <= c <= 0x202E
            or 0x2066 <= c <= 0x2069
            or c == 0xFEFF
        ):
            return True
    return False


cdef bint next_parameter(Cursor *cursor, Cursor *keyword, Cursor *value, bint *valued) except -1:
    """Read one SP keyword [ "=" value ] (RFC 5321 §4.1.1.11); false at the end."""
    skip_spaces(cursor)
    if cursor.at == cursor.end:
        return False
    keyword.at = cursor.at
    skip(cursor, KEYWORD)
    keyword.end = cursor.at
    if keyword.at == keyword.end or keyword.at[0] == c"-":
        fail(_SYNTAX)
    valued[0] = looking_at(cursor, c"=")
    if valued[0]:
        cursor.at += 1
    value.at = cursor.at
    if valued[0]:
        skip(cursor, VALUE)
    value.end = cursor.at
    if valued[0] and value.at == value.end:
        fail(_SYNTAX)
    if cursor.at < cursor.end and cursor.at[0] != c" ":
        fail(_SYNTAX)
    return True


cdef inline bint equal(const Cursor *text, const char *word, Py_ssize_t length) noexcept:
    cdef Py_ssize_t i
    if text.end - text.at != length:
        return False
    for i in range(length):
        if upper(text.at[i]) != <unsigned char> word[i]:
            return False
    return True


cdef inline bytes octets(const Cursor *text):
    return PyBytes_FromStringAndSize(<const char *> text.at, text.end - text.at)


cdef int once(int *seen, int parameter) except -1:
    """A parameter may be given once (RFC 5321 §4.1.1.11)."""
    if seen[0] & parameter:
        fail(_SYNTAX)
    seen[0] |= parameter
    return 0


cdef int mail_parameters(Cursor *cursor, Mail mail) except -1:
    cdef Cursor keyword, value
    cdef bint valued
    cdef int seen = 0
    while next_parameter(cursor, &keyword, &value, &valued):
        if equal(&keyword, b"SIZE", 4):  # RFC 1870
            once(&seen, 1)
            mail.size = decimal(octets(&value))
        elif equal(&keyword, b"BODY", 4):  # RFC 6152
            once(&seen, 2)
            mail.eight_bit = equal(&value, b"8BITMIME", 8)
            if not mail.eight_bit and not equal(&value, b"7BIT", 4):
                fail(_SYNTAX)
        elif equal(&keyword, b"SMTPUTF8", 8):  # RFC 6531 §3.4
            once(&seen, 4)
            mail.smtputf8 = True
            if valued:
                fail(_SYNTAX)
        elif equal(&keyword, b"RET", 3):  # RFC 3461 §4.3
            once(&seen, 8)
            mail.ret = octets(&value).decode("latin-1").upper()
            if mail.ret not in ("FULL", "HDRS"):
                fail(_SYNTAX)
        elif equal(&keyword, b"ENVID", 5):  # RFC 3461 §4.4
            once(&seen, 16)
            if value.end - value.at > 100:
                fail(_SYNTAX)
            mail.envid = xtext(octets(&value), False)
        elif equal(&keyword, b"AUTH", 4):  # RFC 4954 §5: checked, ignored
            once(&seen, 32)
            if not equal(&value, b"<>", 2):
                xtext(octets(&value), False)
        else:
            fail(_PARAMETER)
    return 0


cdef int rcpt_parameters(Cursor *cursor, Rcpt rcpt, bint smtputf8) except -1:
    cdef Cursor keyword, value
    cdef bint valued
    cdef int seen = 0
    while next_parameter(cursor, &keyword, &value, &valued):
        if equal(&keyword, b"NOTIFY", 6):  # RFC 3461 §4.1
            once(&seen, 1)
            rcpt.notify = check_notify(octets(&value).decode("latin-1").upper())
        elif equal(&keyword, b"ORCPT", 5):  # RFC 3461 §4.2, RFC 6533 §3
            once(&seen, 2)
            rcpt.orcpt = parse_orcpt(octets(&value), smtputf8)
        else:
            fail(_PARAMETER)
    return 0


cdef str check_notify(str value):
    words = value.split(",")
    if value != "NEVER" and (
        len(set(words)) != len(words) or not {"SUCCESS", "FAILURE", "DELAY"}.issuperset(words)
    ):
        fail(_SYNTAX)
    return value


cdef str parse_orcpt(bytes value, bint smtputf8):
    cdef str decoded
    kind, separator, address = value.partition(b";")
    if len(value) > 500 or not separator or not kind or not is_utf8(value):
        fail(_SYNTAX)
    for c in kind:
        if c == c"." or c > 127 or not CLASSES[<unsigned char> c] & ATOM:
            fail(_SYNTAX)
    if kind.lower() != b"utf-8":
        decoded = xtext(address, smtputf8)
    elif smtputf8 or address.isascii():
        decoded = unitext(address.decode())
    else:
        fail(_SYNTAX)
    if has_hidden(decoded):
        fail(_SYNTAX)
    return kind.decode("ascii") + ";" + decoded


cdef str unitext(str value):
    """Decode `\\x{HEX}` (RFC 6533 §3); xtext's "+", and any other "\\", stand for themselves."""
    cdef list parts = value.split("\\x{")
    cdef Py_ssize_t i
    for i in range(1, len(parts)):
        match = _CODE_POINT.match(parts[i])
        if match is None:
            fail(_SYNTAX)
        code = int(match[1], 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            fail(_SYNTAX)
        parts[i] = chr(code) + parts[i][match.end():]
    return "".join(parts)


cdef bint is_utf8(bytes text) except -1:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


cdef int hex_digit(unsigned char c) noexcept:
    if c"0" <= c <= c"9":
        return c - c"0"
    c = upper(c)
    if c"A" <= c <= c"F":
        return c - c"A" + 10
    return -1


cdef str xtext(bytes value, bint eight_bit):
    """Decode xtext (RFC 3461 §4) without controls; what is not UTF-8 is taken as Latin-1."""
    cdef const unsigned char *at = <const unsigned char *> PyBytes_AS_STRING(value)
    cdef const unsigned char *end = at + PyBytes_GET_SIZE(value)
    cdef bytearray decoded = bytearray()
    cdef int c
    while at < end:
        c = at[0]
        if c == c"+":
            if end - at < 3 or hex_digit(at[1]) < 0 or hex_digit(at[2]) < 0:
                fail(_SYNTAX)
            c = hex_digit(at[1]) * 16 + hex_digit(at[2])
            at += 2
        elif c > 127 and not eight_bit:
            fail(_SYNTAX)
        if c < 32 or c == 127:
            fail(_SYNTAX)
        decoded.append(c)
        at += 1
    try:
        return decoded.decode()
    except UnicodeDecodeError:
        return decoded.decode("latin-1")


cdef object decimal(bytes digits):
    """A number of 1 to 20 decimal digits (RFC 1870 §3, RFC 3030 §2)."""
    if not 1 <= len(digits) <= 20 or not digits.isdigit():
        fail(_SYNTAX)
    return int(digits)
