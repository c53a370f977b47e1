"""Addresses and lengths in: see src/_beaver.pyx."""

from typing_extensions import Self, disjoint_base

from pysmpc._ring import Keys

@disjoint_base
class Divisor:
    def __new__(cls, value: int) -> Self: ...
    @property
    def value(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def short(self) -> bool: ...

def truncate_deal(
    keys: Keys, base: int, d: Divisor, corrections: int, n: int, owed: int = 0, factor: int = 1
) -> None: ...
def truncate_mask(
    keys: Keys, base: int, offset: int, z: int, out: int, n: int, factor: int = 1, halves: int = 0
) -> None: ...
def truncate_finish(
    keys: Keys, base: int, d: Divisor, c: int, corrections: int, out: int, n: int, x: int = 0, halves: int = 0
) -> None: ...
def compare_sizes(n: int, nodes: int, known: bool = False) -> tuple[int, int, int, int, int]: ...
def compare_deal(
    keys: Keys, base: int, nodes: int, corrections: int, n: int, known: bool = False, masks: int = 0
) -> None: ...
def compare_chunks(
    keys: Keys,
    base: int,
    nodes: int,
    corrections: int,
    c: int,
    offset: int,
    state: int,
    message: int,
    n: int,
    known: int | None = None,
) -> None: ...
def compare_nodes(
    keys: Keys,
    base: int,
    nodes: int,
    corrections: int,
    opened: int,
    state: int,
    sign: int,
    message: int,
    n: int,
    known: bool = False,
) -> None: ...
def compare_root(
    keys: Keys,
    base: int,
    nodes: int,
    corrections: int,
    opened: int,
    sign: int,
    message: int,
    n: int,
    known: bool = False,
) -> None: ...
def bit_deal(keys: Keys, rho: int, stream: int, corrections: int, n: int) -> None: ...
def bit_share(keys: Keys, beta: int, rho: int, out: int, n: int) -> None: ...
def select_deal(keys: Keys, base: int, rho: int, d: Divisor | None, corrections: int, n: int) -> None: ...
def select_finish(
    keys: Keys,
    base: int,
    d: Divisor | None,
    flip: bool,
    c: int,
    beta: int,
    rho: int,
    corrections: int,
    out: int,
    n: int,
) -> None: ...
def beaver_mul(keys: Keys, d: int, y: int, a: int, e: int, z: int, n: int) -> None: ...
def beaver_square(keys: Keys, d: int, x: int, a: int, z: int, n: int) -> None: ...

@disjoint_base
class Function:
    def __new__(cls, bits: int, words: int, less: bool) -> Self: ...
    @property
    def bits(self) -> int: ...
    @property
    def words(self) -> int: ...
    @property
    def key_words(self) -> int: ...

def fss_deal(
    keys: Keys,
    base: int,
    f: Function,
    alpha: int,
    values: int,
    others: int,
    n: int,
    first: int,
    last: int,
    key: int,
) -> None: ...
def fss_eval(
    keys: Keys, base: int, f: Function, key: int, x: int, shift: int, n: int, first: int, last: int, out: int
) -> None: ...
def fss_bits_words(f: Function, n: int) -> int: ...
def fss_bits_deal(keys: Keys, mask: int, base: int, f: Function, first: int, last: int, key: int) -> None: ...
def fss_bits_eval(
    keys: Keys, base: int, f: Function, key: int, x: int, shift: int, n: int, first: int, last: int, out: int
) -> None: ...

_Factor = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]

@disjoint_base
class Product:
    def __new__(cls, x: _Factor, y: _Factor, batch: int, m: int, n: int, k: int) -> Self: ...
    def deal(self, keys: Keys, stream: int, corrections: int) -> None: ...
    def combine(self, keys: Keys, stream: int, corrections: int, out: int) -> None: ...
    def masks(self, keys: Keys, out: int) -> None: ...
    def part(self, keys: Keys, out: int) -> None: ...
