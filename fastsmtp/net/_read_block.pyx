"""Where transports read into: memory that becomes the bytes of what was read.

`asyncio.BufferedProtocol.get_buffer` gives it, `buffer_updated` takes the bytes. Between the two
nobody else may read into it, as it is on one event loop.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t size) except -1

cdef enum:
    # Small enough that malloc gives it out again and again: what it takes from the kernel (128 KB)
    # costs a page fault for every 4 KB.
    LENGTH = 64 * 1024
    COPIED = 16 * 1024  # bytes of a read that is copied: fresh memory would cost more

SIZE = LENGTH


cdef class ReadBlock:
    def __getbuffer__(self, Py_buffer *view, int flags):
        if self._data is None:
            self._data = PyBytes_FromStringAndSize(NULL, LENGTH)
        PyBuffer_FillInfo(view, self, PyBytes_AS_STRING(self._data), LENGTH, False, flags)

    cpdef bytes take(self, Py_ssize_t length):
        cdef PyObject *whole
        if self._data is None or length < 0 or length > LENGTH:
            raise ValueError("so much was not read")
        if length <= COPIED:
            return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self._data), length)
        whole = <PyObject *> self._data
        Py_INCREF(self._data)
        self._data = None  # `whole` is the only reference, as resizing demands
        _PyBytes_Resize(&whole, length)
        data = <bytes> whole
        Py_DECREF(data)
        return data
