cdef class Peer:
    cdef public str cipher, helo, local_ip, remote_ip, session, tls, user
    cdef public int local_port, remote_port
    cdef public bint known, secure, trusted
    cdef public object described, proxy
