from fastsmtp._durations cimport Durations
from fastsmtp.counters cimport Counters


cdef class BrokerCounters(Counters):
    cdef public str broker_state
    cdef public long long broker_connects, broker_published, broker_confirmed, broker_returned
    cdef public long long broker_nacked, broker_lost
    cdef public Durations confirm_seconds
    cdef public object failures
