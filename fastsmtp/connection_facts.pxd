import cython

from fastsmtp.peer cimport Peer


@cython.locals(connection=dict)
cpdef dict connection_facts(Peer peer)
