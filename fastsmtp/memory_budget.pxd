import cython

from fastsmtp.peer cimport Peer


cdef class Client:
    cdef readonly object key
    cdef readonly Client network
    cdef public Py_ssize_t held, members, uses

    cpdef Client whole(self)


cdef class Claim:
    cdef MemoryBudget _budget
    cdef readonly Client client
    cdef readonly object receiver
    cdef readonly Py_ssize_t size, most, granted, charged
    cdef readonly bint is_loose, is_large, is_partial
    cdef public Line line
    cdef public Client turn

    cpdef bint reach(self, Py_ssize_t size, Py_ssize_t most) except -1
    cpdef bint reserve(self, Py_ssize_t most) except -1
    cpdef give_back(self, Py_ssize_t size)
    cpdef hand_over(self, Py_ssize_t size)
    cpdef hold(self, Py_ssize_t size)
    cpdef end(self)
    cdef _charge(self, Py_ssize_t size)
    cdef _move(self, bint is_loose, bint is_large, bint is_partial)


cdef class Line:
    cdef readonly bint is_large
    cdef dict _turns

    cpdef join(self, Claim claim)
    cpdef leave(self, Claim claim)
    cpdef Claim first(self)
    cpdef Claim turn(self)


cdef class MemoryBudget:
    cdef readonly Py_ssize_t limit, small, connections, held, loose, large, partial, waiting
    cdef readonly bint is_full, is_scarce
    cdef public object when_scarce
    cdef Py_ssize_t _composing, _most_connections
    cdef Line _small_line, _large_line
    cdef bint _serving
    cdef dict _clients

    @cython.locals(client=Client)
    cpdef Claim claim(self, Peer peer, receiver)
    cpdef forget(self, Client client)

    cpdef connect(self, Py_ssize_t size)
    cpdef bint has_room_for_connection(self, Py_ssize_t size) except -1

    @cython.locals(room=Py_ssize_t)
    cpdef hold(self, Py_ssize_t size)
    cpdef count(self, Claim claim, Py_ssize_t size)
    cpdef bint refuses(self, Client client) except -1

    @cython.locals(room=Py_ssize_t)
    cpdef bint must_ask(self, Client client) except -1
    cpdef admit(self, Claim claim)
    cpdef leave(self, Claim claim)
    cpdef serve(self)
