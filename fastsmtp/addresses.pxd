cpdef str canonical(address)
cpdef bytes packed(str address)
cpdef bytes client_network(str address)
