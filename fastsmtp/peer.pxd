cdef class Peer:
    cdef public str cipher, counted_address, helo, local_ip, remote_ip, session, tls, user
    cdef public str xclient_ip
    cdef public int local_port, remote_port
    cdef public bint is_counted, is_hidden, is_introduced, known, secure, trusted
    cdef public object client, described, proxy
