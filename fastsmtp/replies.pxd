cdef class Reply:
    cdef readonly int code
    cdef readonly str enhanced
    cdef public str kind
    cdef readonly tuple lines
    cdef readonly bytes wire
