# The door to the kernels; part of _ring.pyx.

cdef class Constant:
    """A public constant that kernels are given by address: see `Divisor` and `Function` of `_beaver`."""


cdef class Stream:
    """A stream of which every run has another: that of the mask of an argument, which was opened before.

    number: the one it has now.  place: which of the numbers that a run is given.
    """

    cdef readonly object number
    cdef readonly size_t place

    def __init__(self, number, size_t place):
        self.number, self.place = number, place

    def __repr__(self):
        return f"Stream({self.place})"


class Told(int):
    """An integer that follows from public numbers of which every run has others, such as a learning rate.

    It is what it was when the calls were recorded.  now: what it is in the next run, which kernels are given.
    """

    def __new__(cls, value, book):
        out = int.__new__(cls, value)
        out.now, out.book = int(value), book
        return out

    def __reduce__(self):
        return int, (self.now,)


cdef enum:
    NUMBER, STREAM, KEYS, DIVISOR, FUNCTION, READ, WRITE, UPDATE, VIEW, LIST
    OPTIONAL = 16

_KINDS = {
    "stream": STREAM, "keys": KEYS, "divisor": DIVISOR, "function": FUNCTION,
    "in": READ, "out": WRITE, "inout": UPDATE, "view": VIEW, "list": LIST,
}


cdef class Kernel:
    """A native function.  parameters: (name, what it is) of each argument, in the words of src/c/launch.h."""

    cdef readonly str name
    cdef readonly tuple parameters
    cdef const psm_entry *entry
    cdef size_t count
    cdef int kinds[40]

    def __repr__(self):
        return f"<kernel {self.name}>"

    def __reduce__(self):
        return _kernel, (self.name,)


def _kernel(name):
    return globals()[name]


cdef Kernel make_kernel(const psm_entry *entry):
    cdef Kernel out = Kernel.__new__(Kernel)
    out.entry = entry
    out.name = entry.name.decode()
    parameters = []
    for words in entry.declared.decode().split(", "):
        kind, _, name = words.rpartition(" ")
        parameters.append((name, kind or "number"))
        out.kinds[out.count] = _KINDS[kind.rstrip("?")] if kind else NUMBER
        if kind.endswith("?"):
            out.kinds[out.count] |= OPTIONAL
        out.count += 1
    out.parameters = tuple(parameters)
    return out


cdef tuple all_kernels():
    cdef size_t i = 0
    found = []
    while psm_entries[i].name is not NULL:
        found.append(make_kernel(&psm_entries[i]))
        i += 1
    return tuple(found)


kernels = all_kernels()
globals().update((kernel.name, kernel) for kernel in kernels)


cdef u64 wrong(Kernel kernel, size_t i, object x) except? 0:
    name, kind = kernel.parameters[i]
    raise TypeError(f"{kernel.name}: {name} is a {kind}, not {type(x).__name__}")


cdef u64 address(object x, bint strided) except? 0:
    if x.dtype is not int64 or not (strided or x.is_contiguous()):
        raise TypeError(f"ring kernels take contiguous int64 tensors, not {x.dtype} with strides {x.stride()}")
    return x.data_ptr()


cdef u64 slot(Kernel kernel, size_t i, object x, list kept) except? 0:
    """An argument as a word.  kept: what must live as long as that word is used."""
    cdef int kind = kernel.kinds[i] & ~OPTIONAL
    if x is None:
        return 0 if kernel.kinds[i] & OPTIONAL else wrong(kernel, i, x)
    if READ <= kind <= VIEW:
        return address(x, kind == VIEW) if isinstance(x, Tensor) else wrong(kernel, i, x)
    if kind == NUMBER or (kind == STREAM and type(x) is not Stream):
        if type(x) is Told:
            return PyLong_AsUnsignedLongLongMask(x.now)
        return PyLong_AsUnsignedLongLongMask(x) if isinstance(x, int) else wrong(kernel, i, x)
    if kind == STREAM:
        return PyLong_AsUnsignedLongLongMask((<Stream>x).number)
    if kind == KEYS:
        return <u64>&(<Keys>x).h if type(x) is Keys else wrong(kernel, i, x)
    if kind == DIVISOR or kind == FUNCTION:
        if not isinstance(x, Constant) or (<Constant>x).function != (kind == FUNCTION):
            wrong(kernel, i, x)
        return <u64>(<Constant>x).data
    return places(x, kept)


cdef u64 places(object tensors, list kept) except? 0:
    found = bytearray(8 * len(tensors) or 8)
    cdef u64 *at = <u64 *><char *>found
    cdef size_t i
    for i, each in enumerate(tensors):
        at[i] = 0 if each is None else address(each, False)
    kept.append(found)
    return <u64>at


# --- who is told of launches ----------------------------------------------------------

cdef dict _recorders = {}  # by thread


def record_launches(recorder):
    """Tell recorder(kernel, arguments) of what this thread launches, after it was done; None: nobody."""
    if recorder is None:
        _recorders.pop(PyThread_get_thread_ident(), None)
    else:
        _recorders[PyThread_get_thread_ident()] = recorder


def launch(Kernel kernel not None, *args):
    """Run a kernel.  Buffers are int64 tensors, whose sizes are not checked; numbers are taken mod 2^64.

    Raises TypeError for an argument of another kind than the kernel declares, MemoryError where memory is short.
    """
    cdef u64 slots[40]
    cdef size_t i
    cdef int failed
    cdef list kept = []
    if len(args) != <Py_ssize_t>kernel.count:
        raise TypeError(f"{kernel.name} takes {kernel.count} arguments, not {len(args)}")
    for i in range(kernel.count):
        slots[i] = slot(kernel, i, args[i], kept)
    with nogil:
        failed = kernel.entry.enter(slots)
    if failed:
        raise MemoryError
    if _recorders:
        recorder = _recorders.get(PyThread_get_thread_ident())
        if recorder is not None:
            recorder(kernel, args)


cdef class Launches:
    """Kernels with their arguments, ready to be run one after the other without Python in between.

    calls: (kernel, arguments) of each.  first: the first stream that was drawn while they were recorded; later ones
    move with the first of a run.  bits: of a stream's number; those above tell an epoch.  Numbers that are `Told` are
    read before each run.
    """

    cdef readonly tuple calls
    cdef list kept, told  # (place among the slots, number)
    cdef const psm_entry **entries
    cdef size_t *starts
    cdef u64 *slots
    cdef size_t count, drawn, given, places
    cdef size_t *drawn_slots
    cdef u64 *drawn_offsets
    cdef size_t *given_slots
    cdef size_t *given_places

    def __cinit__(self, calls, u64 first, int bits):
        cdef size_t i, at = 0, k = 0, total = 0, streams = 0
        cdef Kernel kernel
        cdef u64 word
        self.calls = tuple(calls)
        self.kept, self.told = [], []
        self.count = len(self.calls)
        for kernel, args in self.calls:
            total += kernel.count
            streams += sum(kind == "stream" for _, kind in kernel.parameters)
        self.entries = <const psm_entry **>calloc(self.count + 1, sizeof(psm_entry *))
        self.starts = <size_t *>calloc(self.count + 1, sizeof(size_t))
        self.slots = <u64 *>calloc(total + 1, sizeof(u64))
        self.drawn_slots = <size_t *>calloc(streams + 1, sizeof(size_t))
        self.drawn_offsets = <u64 *>calloc(streams + 1, sizeof(u64))
        self.given_slots = <size_t *>calloc(streams + 1, sizeof(size_t))
        self.given_places = <size_t *>calloc(streams + 1, sizeof(size_t))
        if not (self.entries and self.starts and self.slots and self.drawn_slots and self.drawn_offsets
                and self.given_slots and self.given_places):
            raise MemoryError
        for kernel, args in self.calls:
            if len(args) != <Py_ssize_t>kernel.count:
                raise TypeError(f"{kernel.name} takes {kernel.count} arguments, not {len(args)}")
            self.entries[k], self.starts[k] = kernel.entry, at
            k += 1
            for i in range(kernel.count):
                word = self.slots[at] = slot(kernel, i, args[i], self.kept)
                if type(args[i]) is Told:
                    self.told.append((at, args[i]))
                if kernel.kinds[i] == STREAM:
                    if type(args[i]) is Stream:
                        self.given_slots[self.given], self.given_places[self.given] = at, (<Stream>args[i]).place
                        self.places = max(self.places, (<Stream>args[i]).place + 1)
                        self.given += 1
                    elif word >= first:
                        self.drawn_slots[self.drawn] = at
                        self.drawn_offsets[self.drawn] = (word - first) & ((<u64>1 << bits) - 1)
                        self.drawn += 1
                at += 1

    def __dealloc__(self):
        free(self.entries)
        free(self.starts)
        free(self.slots)
        free(self.drawn_slots)
        free(self.drawn_offsets)
        free(self.given_slots)
        free(self.given_places)

    def run(self, u64 first, given):
        """Run them all with streams from `first` on, and these in place of arguments' masks.

        Raises MemoryError as `launch` does, and IndexError where too few streams are given.
        """
        cdef size_t i
        cdef int failed
        if <size_t>len(given) < self.places:
            raise IndexError(f"{self.places} streams are to be given, not {len(given)}")
        for i in range(self.drawn):
            self.slots[self.drawn_slots[i]] = first + self.drawn_offsets[i]
        for i in range(self.given):
            self.slots[self.given_slots[i]] = given[self.given_places[i]]
        for i, number in self.told:
            self.slots[i] = PyLong_AsUnsignedLongLongMask(number.now)
        with nogil:
            failed = psm_run(self.entries, self.starts, self.slots, self.count)
        if failed:
            raise MemoryError
