"""The bytes of a text as they stand in a JSON string (RFC 8259 §7), for text that comes in parts.

`Measure` says whether bytes are UTF-8 and how long their escaped form is. `escape` writes that
form. Both give what orjson gives for the whole text, however it is cut, and keep no copy of it.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #if defined(__SSE2__) && !defined(FASTSMTP_PORTABLE)
    #include <emmintrin.h>
    #define FASTSMTP_SSE2
    #endif

    enum { BLOCKS = 8, AT_ONCE = 16 * BLOCKS };

    /* What stands behind the backslash; 'u' is followed by 00 and two hexadecimal digits. */
    static const char short_escapes[33] = "uuuuuuuubtnufruuuuuuuuuuuuuuuuuu";

    static inline int is_special(uint8_t octet) {
        return octet < 0x20 || octet == '"' || octet == '\\\\';
    }

    static inline int escaped_size(uint8_t octet) {
        return !is_special(octet) ? 1 : octet >= 0x20 || short_escapes[octet] != 'u' ? 2 : 6;
    }

    static inline void write_escape(uint8_t octet, uint8_t *target) {
        static const char digits[] = "0123456789abcdef";
        target[0] = '\\\\';
        if (octet >= 0x20)
            target[1] = octet;
        else if ((target[1] = short_escapes[octet]) == 'u') {
            target[2] = target[3] = '0';
            target[4] = digits[octet >> 4];
            target[5] = digits[octet & 15];
        }
    }

    /* How much longer AT_ONCE octets get; -1 where one of them is not ASCII. */
    #ifdef FASTSMTP_SSE2
    static inline int growth(const uint8_t *source) {
        const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\\\');
        const __m128i last_control = _mm_set1_epi8(0x1f), eight = _mm_set1_epi8(8);
        const __m128i vertical_tab = _mm_set1_epi8(11), five = _mm_set1_epi8(5);
        const __m128i four = _mm_set1_epi8(4);
        __m128i sum = _mm_setzero_si128(), any = _mm_setzero_si128();
        for (int i = 0; i < BLOCKS; i++) {
            __m128i octets = _mm_loadu_si128((const __m128i *)source + i);
            __m128i doubled = _mm_or_si128(
                _mm_cmpeq_epi8(octets, quote), _mm_cmpeq_epi8(octets, backslash));
            __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(octets, last_control), octets);
            __m128i above = _mm_sub_epi8(octets, eight);
            __m128i is_short = _mm_andnot_si128(
                _mm_cmpeq_epi8(octets, vertical_tab),
                _mm_cmpeq_epi8(_mm_min_epu8(above, five), above));
            sum = _mm_sub_epi8(sum, doubled);
            sum = _mm_add_epi8(sum, _mm_and_si128(control, five));
            sum = _mm_sub_epi8(sum, _mm_and_si128(is_short, four));
            any = _mm_or_si128(any, octets);
        }
        if (_mm_movemask_epi8(any))
            return -1;
        sum = _mm_sad_epu8(sum, _mm_setzero_si128());
        return _mm_cvtsi128_si32(sum) + _mm_extract_epi16(sum, 4);
    }
    #else
    static inline int growth(const uint8_t *source) {
        int sum = 0;
        uint8_t any = 0;
        for (int i = 0; i < AT_ONCE; i++) {
            uint8_t octet = source[i], above = octet - 8;
            sum += (octet == '"') + (octet == '\\\\') + 5 * (octet < 0x20)
                - 4 * ((above <= 5) & (above != 3));
            any |= octet;
        }
        return any & 0x80 ? -1 : sum;
    }
    #endif

    /* Copies whole blocks until one has an octet that is escaped, and of that one what stands
     * before it. May write up to 15 octets behind what it gives, never more than `length`. */
    static inline Py_ssize_t copy_plain(const uint8_t *source, uint8_t *target, Py_ssize_t length) {
        Py_ssize_t at = 0;
    #ifdef FASTSMTP_SSE2
        const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\\\');
        const __m128i last_control = _mm_set1_epi8(0x1f);
        for (; length - at >= 16; at += 16) {
            __m128i octets = _mm_loadu_si128((const __m128i *)(source + at));
            _mm_storeu_si128((__m128i *)(target + at), octets);
            int special = _mm_movemask_epi8(_mm_or_si128(
                _mm_cmpeq_epi8(_mm_min_epu8(octets, last_control), octets),
                _mm_or_si128(_mm_cmpeq_epi8(octets, quote), _mm_cmpeq_epi8(octets, backslash))));
            if (special)
                return at + __builtin_ctz(special);
        }
    #else
        const uint64_t ones = 0x0101010101010101, tops = 0x80 * ones;
        for (; length - at >= 8; at += 8) {
            uint64_t octets, quotes, backslashes;
            memcpy(&octets, source + at, 8);
            quotes = octets ^ '"' * ones;
            backslashes = octets ^ '\\\\' * ones;
            if ((((octets - 0x20 * ones) & ~octets) | ((quotes - ones) & ~quotes)
                 | ((backslashes - ones) & ~backslashes)) & tops)
                break;
            memcpy(target + at, &octets, 8);
        }
    #endif
        for (; at < length && !is_special(source[at]); at++)
            target[at] = source[at];
        return at;
    }

    /* Gives how many octets of `source` were taken, and in `written` how many were written. Stops
     * before the first one whose escape has no room. */
    static Py_ssize_t escape_octets(const uint8_t *source, Py_ssize_t length,
                                    uint8_t *target, Py_ssize_t room, Py_ssize_t *written) {
        Py_ssize_t taken = 0, put = 0;
        for (;;) {
            Py_ssize_t most = length - taken < room - put ? length - taken : room - put;
            Py_ssize_t plain = copy_plain(source + taken, target + put, most);
            taken += plain;
            put += plain;
            if (plain == most)
                break;
            if (room - put >= 4 && length - taken >= 2 && !memcmp(source + taken, "\\r\\n", 2)) {
                memcpy(target + put, "\\\\r\\\\n", 4);
                taken += 2;
                put += 4;
                continue;
            }
            int size = escaped_size(source[taken]);
            if (size > room - put)
                break;
            write_escape(source[taken++], target + put);
            put += size;
        }
        *written = put;
        return taken;
    }
    """
    const int AT_ONCE
    int escaped_size(uint8_t octet) noexcept nogil
    int growth(const uint8_t *source) noexcept nogil
    Py_ssize_t escape_octets(
        const uint8_t *source, Py_ssize_t length, uint8_t *target, Py_ssize_t room,
        Py_ssize_t *written
    ) noexcept nogil


cdef const uint8_t *octets_of(object octets, Py_ssize_t *length) except NULL:
    """Where the bytes of a bytes or bytearray object are; nobody may change or resize it."""
    if isinstance(octets, bytes):
        length[0] = PyBytes_GET_SIZE(octets)
        return <const uint8_t *> PyBytes_AS_STRING(octets)
    if isinstance(octets, bytearray):
        length[0] = PyByteArray_GET_SIZE(octets)
        return <const uint8_t *> PyByteArray_AS_STRING(octets)
    raise TypeError(f"bytes or bytearray, not {type(octets).__name__}")


cdef Py_ssize_t escape(
    const uint8_t *source, Py_ssize_t length, uint8_t *target, Py_ssize_t room, Py_ssize_t *written
) noexcept:
    return escape_octets(source, length, target, room, written)


cdef class Measure:
    """Looks at a text once, part by part."""

    def __cinit__(self):
        self.is_valid = True
        self.lowest = 0x80
        self.highest = 0xBF

    cpdef int add(self, object octets, Py_ssize_t start, Py_ssize_t stop) except -1:
        cdef Py_ssize_t length, grown = 0
        cdef const uint8_t *source = octets_of(octets, &length)
        cdef int more
        if start < 0 or stop > length or start > stop:
            raise ValueError("outside the text")
        self.size += stop - start
        while start < stop and self.is_valid:
            if self.missing == 0 and stop - start >= AT_ONCE:
                more = growth(source + start)
                if more >= 0:
                    grown += more
                    start += AT_ONCE
                    continue
            length = min(AT_ONCE, stop - start)
            grown += self.look(source + start, length)
            start += length
        self.size += grown
        return 0

    cdef Py_ssize_t look(self, const uint8_t *source, Py_ssize_t length) noexcept:
        """Check each byte (RFC 3629 §4); how much longer they get."""
        cdef Py_ssize_t at, grown = 0
        cdef int missing = self.missing
        cdef uint8_t octet
        for at in range(length):
            octet = source[at]
            if missing:
                if octet < self.lowest or octet > self.highest:
                    self.is_valid = False
                    break
                missing -= 1
                self.lowest = 0x80
                self.highest = 0xBF
            elif octet < 0x80:
                grown += escaped_size(octet) - 1
            elif octet < 0xC2 or octet > 0xF4:
                self.is_valid = False
                break
            elif octet < 0xE0:
                missing = 1
            elif octet < 0xF0:
                missing = 2
                if octet == 0xE0:  # what a shorter form says
                    self.lowest = 0xA0
                elif octet == 0xED:  # surrogates
                    self.highest = 0x9F
            else:
                missing = 3
                if octet == 0xF0:
                    self.lowest = 0x90
                elif octet == 0xF4:  # above U+10FFFF
                    self.highest = 0x8F
        self.missing = missing
        return grown

    @property
    def is_utf8(self):
        return self.is_valid and self.missing == 0
