from fastsmtp._session cimport Session
from fastsmtp.net.flow cimport Flow
from fastsmtp.net.server cimport Server
from fastsmtp.peer cimport Peer
from fastsmtp.questions cimport Credentials, Introduction, Message, Question, Room
from fastsmtp.replies cimport Reply


cdef class Connection:
    cdef Server _server
    cdef object _transport, _header
    cdef Question _asked
    cdef bint _tls_first, _half_closed, _heard
    cdef readonly Session session
    cdef readonly Flow flow
    cdef readonly bint is_shaking_hands
    cdef public object clock

    cpdef data_received(self, bytes data)
    cdef _welcome(self)
    cdef _turn_away(self, Peer peer, Reply refusal)
    cdef _begin(self)
    cdef _say(self, bytes out)
    cdef _advance(self, bytes out)
    cdef _finish(self)
