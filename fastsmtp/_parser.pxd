cdef class Mail:
    cdef readonly str sender
    cdef readonly object size
    cdef readonly bint eight_bit
    cdef readonly bint smtputf8
    cdef readonly str ret
    cdef readonly str envid


cdef class Rcpt:
    cdef readonly str mailbox
    cdef readonly str notify
    cdef readonly str orcpt


cpdef tuple split_command(bytes line)
cpdef Mail parse_mail(bytes argument)
cpdef Rcpt parse_rcpt(bytes argument, bint smtputf8)
cpdef tuple parse_bdat(bytes argument)
cpdef str parse_mailbox(bytes text)
