from fastsmtp._durations cimport Durations


cdef class Metrics:
    cdef public long long connections, connections_open, messages, recipients, octets, in_flight
    cdef public dict authentications, replies, rejected
    cdef public Durations reply_seconds, confirm_seconds, commit_seconds
    cdef public long long headers_unknown, headers_malformed, headers_reserved
    cdef public str broker_state
    cdef public long long broker_connects, broker_published, broker_confirmed, broker_returned
    cdef public long long broker_nacked, broker_lost
    cdef public object broker_failures
