cpdef str printable(str text)
