cdef class Recipient:
    cdef public str mailbox
    cdef public object notify, orcpt


cdef class Envelope:
    cdef public str sender
    cdef public list recipients
    cdef public object envid, ret, size, smtputf8
