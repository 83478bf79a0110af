from fastsmtp.memory_budget cimport MemoryBudget
from fastsmtp.replies cimport Reply


cdef class Availability:
    cdef public bint is_refused
    cdef object _maxsize
    cdef readonly object maxsize
    cdef readonly Py_ssize_t body_limit
    cdef public Reply refusal, greeting
    cdef public str trouble
    cdef readonly MemoryBudget memory
