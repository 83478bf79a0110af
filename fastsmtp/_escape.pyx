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
    #include <immintrin.h>
    #define FASTSMTP_SSE2
    #endif
    #if defined(__GNUC__)
    #define ALWAYS_INLINE static inline __attribute__((always_inline))
    #else
    #define ALWAYS_INLINE static inline
    #endif

    enum { AT_ONCE = 256, BLOCK = 32 };

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

    /* How much longer `octets` octets get, a multiple of BLOCK and AT_ONCE at most; -1 where one of
     * them is not ASCII. */
    typedef int Growth(const uint8_t *source, int octets);

    /* Copies whole blocks until one has an octet that is escaped, and of that one what stands
     * before it. May write up to 31 octets behind what it gives, never more than `length`. */
    typedef Py_ssize_t Copy(const uint8_t *source, uint8_t *target, Py_ssize_t length);

    #ifdef FASTSMTP_SSE2
    static inline int growth_sse2(const uint8_t *source, int octets) {
        const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\\\');
        const __m128i last_control = _mm_set1_epi8(0x1f), eight = _mm_set1_epi8(8);
        const __m128i vertical_tab = _mm_set1_epi8(11), five = _mm_set1_epi8(5);
        const __m128i four = _mm_set1_epi8(4);
        __m128i sum = _mm_setzero_si128(), any = _mm_setzero_si128();
        for (int i = 0; i < octets; i += 16) {
            __m128i block = _mm_loadu_si128((const __m128i *)(source + i));
            __m128i doubled = _mm_or_si128(
                _mm_cmpeq_epi8(block, quote), _mm_cmpeq_epi8(block, backslash));
            __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(block, last_control), block);
            __m128i above = _mm_sub_epi8(block, eight);
            __m128i is_short = _mm_andnot_si128(
                _mm_cmpeq_epi8(block, vertical_tab),
                _mm_cmpeq_epi8(_mm_min_epu8(above, five), above));
            sum = _mm_sub_epi8(sum, doubled);
            sum = _mm_add_epi8(sum, _mm_and_si128(control, five));
            sum = _mm_sub_epi8(sum, _mm_and_si128(is_short, four));
            any = _mm_or_si128(any, block);
        }
        if (_mm_movemask_epi8(any))
            return -1;
        sum = _mm_sad_epu8(sum, _mm_setzero_si128());
        return _mm_cvtsi128_si32(sum) + _mm_extract_epi16(sum, 4);
    }

    static inline Py_ssize_t copy_sse2(const uint8_t *source, uint8_t *target, Py_ssize_t length) {
        const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\\\');
        const __m128i last_control = _mm_set1_epi8(0x1f);
        Py_ssize_t at = 0;
        for (; length - at >= 16; at += 16) {
            __m128i block = _mm_loadu_si128((const __m128i *)(source + at));
            _mm_storeu_si128((__m128i *)(target + at), block);
            int special = _mm_movemask_epi8(_mm_or_si128(
                _mm_cmpeq_epi8(_mm_min_epu8(block, last_control), block),
                _mm_or_si128(_mm_cmpeq_epi8(block, quote), _mm_cmpeq_epi8(block, backslash))));
            if (special)
                return at + __builtin_ctz(special);
        }
        for (; at < length && !is_special(source[at]); at++)
            target[at] = source[at];
        return at;
    }

    /* The same, 32 octets at once. */
    #define AVX2 __attribute__((target("avx2")))

    AVX2 static inline int growth_avx2(const uint8_t *source, int octets) {
        const __m256i quote = _mm256_set1_epi8('"'), backslash = _mm256_set1_epi8('\\\\');
        const __m256i last_control = _mm256_set1_epi8(0x1f), eight = _mm256_set1_epi8(8);
        const __m256i vertical_tab = _mm256_set1_epi8(11), five = _mm256_set1_epi8(5);
        const __m256i four = _mm256_set1_epi8(4), zero = _mm256_setzero_si256();
        __m256i sum = zero, any = zero;
        for (int i = 0; i < octets; i += 32) {
            __m256i block = _mm256_loadu_si256((const __m256i *)(source + i));
            __m256i doubled = _mm256_or_si256(
                _mm256_cmpeq_epi8(block, quote), _mm256_cmpeq_epi8(block, backslash));
            __m256i control = _mm256_cmpeq_epi8(_mm256_min_epu8(block, last_control), block);
            __m256i above = _mm256_sub_epi8(block, eight);
            __m256i is_short = _mm256_andnot_si256(
                _mm256_cmpeq_epi8(block, vertical_tab),
                _mm256_cmpeq_epi8(_mm256_min_epu8(above, five), above));
            sum = _mm256_sub_epi8(sum, doubled);
            sum = _mm256_add_epi8(sum, _mm256_and_si256(control, five));
            sum = _mm256_sub_epi8(sum, _mm256_and_si256(is_short, four));
            any = _mm256_or_si256(any, block);
        }
        if (_mm256_movemask_epi8(any))
            return -1;
        sum = _mm256_sad_epu8(sum, zero);
        __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
        return _mm_cvtsi128_si32(half) + _mm_extract_epi16(half, 4);
    }

    AVX2 static inline Py_ssize_t copy_avx2(
        const uint8_t *source, uint8_t *target, Py_ssize_t length)
    {
        const __m256i quote = _mm256_set1_epi8('"'), backslash = _mm256_set1_epi8('\\\\');
        const __m256i last_control = _mm256_set1_epi8(0x1f);
        Py_ssize_t at = 0;
        for (; length - at >= 32; at += 32) {
            __m256i block = _mm256_loadu_si256((const __m256i *)(source + at));
            _mm256_storeu_si256((__m256i *)(target + at), block);
            unsigned special = _mm256_movemask_epi8(_mm256_or_si256(
                _mm256_cmpeq_epi8(_mm256_min_epu8(block, last_control), block),
                _mm256_or_si256(
                    _mm256_cmpeq_epi8(block, quote), _mm256_cmpeq_epi8(block, backslash))));
            if (special)
                return at + __builtin_ctz(special);
        }
        return at + copy_sse2(source + at, target + at, length - at);
    }
    #else
    static inline int growth_portable(const uint8_t *source, int octets) {
        int sum = 0;
        uint8_t any = 0;
        for (int i = 0; i < octets; i++) {
            uint8_t octet = source[i], above = octet - 8;
            sum += (octet == '"') + (octet == '\\\\') + 5 * (octet < 0x20)
                - 4 * ((above <= 5) & (above != 3));
            any |= octet;
        }
        return any & 0x80 ? -1 : sum;
    }

    static inline Py_ssize_t copy_portable(
        const uint8_t *source, uint8_t *target, Py_ssize_t length)
    {
        const uint64_t ones = 0x0101010101010101, tops = 0x80 * ones;
        Py_ssize_t at = 0;
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
        for (; at < length && !is_special(source[at]); at++)
            target[at] = source[at];
        return at;
    }
    #endif

    /* Gives how many octets from the beginning of `source` were looked at: whole blocks, until one
     * is not ASCII. `grown` becomes how much longer they get. */
    ALWAYS_INLINE Py_ssize_t measure_by(
        Growth growth, const uint8_t *source, Py_ssize_t length, Py_ssize_t *grown)
    {
        Py_ssize_t at = 0;
        *grown = 0;
        while (length - at >= BLOCK) {
            int octets = length - at < AT_ONCE ? (length - at) / BLOCK * BLOCK : AT_ONCE;
            int more = growth(source + at, octets);
            if (more < 0)
                break;
            *grown += more;
            at += octets;
        }
        return at;
    }

    /* Gives how many octets of `source` were taken, and in `written` how many were written. Stops
     * before the first one whose escape has no room. */
    ALWAYS_INLINE Py_ssize_t escape_by(
        Copy copy, const uint8_t *source, Py_ssize_t length, uint8_t *target, Py_ssize_t room,
        Py_ssize_t *written)
    {
        Py_ssize_t taken = 0, put = 0;
        for (;;) {
            Py_ssize_t most = length - taken < room - put ? length - taken : room - put;
            Py_ssize_t plain = copy(source + taken, target + put, most);
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

    #ifdef FASTSMTP_SSE2
    #define PARTS(what) what##_sse2
    AVX2 static Py_ssize_t measure_avx2(
        const uint8_t *source, Py_ssize_t length, Py_ssize_t *grown)
    {
        return measure_by(growth_avx2, source, length, grown);
    }

    AVX2 static Py_ssize_t escape_avx2(
        const uint8_t *source, Py_ssize_t length, uint8_t *target, Py_ssize_t room,
        Py_ssize_t *written)
    {
        return escape_by(copy_avx2, source, length, target, room, written);
    }
    #else
    #define PARTS(what) what##_portable
    #endif

    static int has_avx2 = 0;

    static int find_avx2(int is_wanted) {
    #ifdef FASTSMTP_SSE2
        has_avx2 = is_wanted && __builtin_cpu_supports("avx2");
    #endif
        return has_avx2;
    }

    static Py_ssize_t measure_ascii(const uint8_t *source, Py_ssize_t length, Py_ssize_t *grown) {
    #ifdef FASTSMTP_SSE2
        if (has_avx2)
            return measure_avx2(source, length, grown);
    #endif
        return measure_by(PARTS(growth), source, length, grown);
    }

    static Py_ssize_t escape_octets(const uint8_t *source, Py_ssize_t length,
                                    uint8_t *target, Py_ssize_t room, Py_ssize_t *written) {
    #ifdef FASTSMTP_SSE2
        if (has_avx2)
            return escape_avx2(source, length, target, room, written);
    #endif
        return escape_by(PARTS(copy), source, length, target, room, written);
    }
    """
    const int AT_ONCE
    int escaped_size(uint8_t octet) noexcept nogil
    bint find_avx2(bint is_wanted) noexcept nogil
    Py_ssize_t measure_ascii(
        const uint8_t *source, Py_ssize_t length, Py_ssize_t *grown
    ) noexcept nogil
    Py_ssize_t escape_octets(
        const uint8_t *source, Py_ssize_t length, uint8_t *target, Py_ssize_t room,
        Py_ssize_t *written
    ) noexcept nogil


def use_avx2(bint is_wanted):
    return find_avx2(is_wanted)


use_avx2(True)


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
        cdef Py_ssize_t length, more
        cdef const uint8_t *source = octets_of(octets, &length)
        if start < 0 or stop > length or start > stop:
            raise ValueError("outside the text")
        self.size += stop - start
        while start < stop and self.is_valid:
            if self.missing == 0:
                start += measure_ascii(source + start, stop - start, &more)
                self.size += more
            length = min(AT_ONCE, stop - start)
            self.size += self.look(source + start, length)
            start += length
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
