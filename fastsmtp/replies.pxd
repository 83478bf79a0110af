import cython

from fastsmtp.escaping cimport printable


cdef class Reply:
    cdef readonly int code
    cdef readonly str enhanced
    cdef public str kind
    cdef readonly tuple lines
    cdef readonly bytes wire


@cython.locals(status=str, text=str, more=str, line=str, wire=bytes)
cdef bytes _wire(int code, str enhanced, tuple lines)


@cython.locals(lines=list, room=cython.Py_ssize_t, line=str, message_id=str, mailbox=str,
               wire=bytes)
cpdef Reply queued(list stored)
