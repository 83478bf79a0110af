from fastsmtp.envelope cimport Envelope
from fastsmtp.memory_budget cimport Claim
from fastsmtp.peer cimport Peer


cdef class Question:
    cdef readonly Peer peer


cdef class Message(Question):
    cdef readonly Envelope envelope
    cdef readonly list pieces
    cdef public Py_ssize_t size, overhead
    cdef public Claim claim


cdef class Room(Question):
    cdef readonly Py_ssize_t size


cdef class Introduction(Question):
    cdef readonly dict said


cdef class Credentials(Question):
    cdef readonly str user
    cdef readonly bytes password
    cdef public object on_hang_up
