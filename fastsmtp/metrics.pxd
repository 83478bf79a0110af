from fastsmtp._durations cimport Durations
from fastsmtp._sizes cimport Sizes
from fastsmtp.counters cimport Counters


cdef class Metrics(Counters):
    cdef list _included
    cdef public long long connections, connections_open, messages, recipients, octets, in_flight
    cdef public dict authentications, replies, rejected, tls_failures, proxy_failures
    cdef public Sizes message_sizes
    cdef public Durations reply_seconds
    cdef public long long headers_unknown, headers_malformed, headers_reserved
