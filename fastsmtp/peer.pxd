cdef class Peer:
    cdef public str cipher, counted, helo, local_ip, remote_ip, session, tls, user
    cdef public int local_port, remote_port
    cdef public bint has_place, known, secure, trusted
    cdef public object described, proxy
