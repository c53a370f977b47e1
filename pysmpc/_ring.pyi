"""Keys, and the door to the kernels: see src/_ring.pyx and src/launch.pxi."""

from collections.abc import Callable, Sequence
from typing import Any

from typing_extensions import Buffer, Self, disjoint_base

def keep_memory(size: int) -> bool: ...

@disjoint_base
class Keys:
    def __new__(cls, keys: Sequence[bytes], lead: int = -1, target: int = -1) -> Self: ...
    @property
    def count(self) -> int: ...
    def follow(self, digest: bytes) -> None: ...

def target() -> str: ...
def reason() -> str: ...
def products() -> str: ...
def compiler() -> str: ...
def supported() -> list[str]: ...
def set_threads(n: int) -> None: ...
def get_threads() -> int: ...
def aes_blocks(keys: Keys, index: int, blocks: Buffer) -> bytes: ...
def pair_keys(own: Keys, after: Keys, ranks: tuple[int, ...]) -> Keys: ...
def securenn_words(n: int) -> int: ...

@disjoint_base
class Constant: ...

@disjoint_base
class Stream:
    def __init__(self, number: int, place: int) -> None: ...
    @property
    def number(self) -> int: ...
    @property
    def place(self) -> int: ...

@disjoint_base
class Told(int):
    def __new__(cls, value: int, book: Any) -> Self: ...
    now: int
    book: Any

@disjoint_base
class Kernel:
    @property
    def name(self) -> str: ...
    @property
    def parameters(self) -> tuple[tuple[str, str], ...]: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

@disjoint_base
class Launches:
    def __new__(cls, calls: Sequence[tuple[Kernel, tuple[Any, ...]]], first: int, bits: int) -> Self: ...
    @property
    def calls(self) -> tuple[tuple[Kernel, tuple[Any, ...]], ...]: ...
    def run(self, first: int, given: Sequence[int]) -> None: ...

def launch(kernel: Kernel, *args: Any) -> None: ...
def record_launches(recorder: Callable[[Kernel, tuple[Any, ...]], object] | None) -> None: ...

kernels: tuple[Kernel, ...]
add: Kernel
sub: Kernel
mul: Kernel
scale: Kernel
rows_sum: Kernel
rows_xor: Kernel
rows_extremes: Kernel
weighted: Kernel
combinations: Kernel
gaussian: Kernel
encode: Kernel
turns: Kernel
turns_deal: Kernel
turns_combine: Kernel
powers_dealt: Kernel
powers_public: Kernel
powers_deal: Kernel
powers_combine: Kernel
truncate_local: Kernel
pack_bits: Kernel
unpack_bits: Kernel
decompose: Kernel
matmul: Kernel
matmul_add: Kernel
draw: Kernel
mask: Kernel
deal_sum: Kernel
deal_take: Kernel
beaver_mul: Kernel
beaver_square: Kernel
product_deal: Kernel
product_combine: Kernel
product_masks: Kernel
product_part: Kernel
truncate_deal: Kernel
truncate_mask: Kernel
truncate_finish: Kernel
add_lanes: Kernel
reopen_deal: Kernel
reopen_mask: Kernel
reopen_finish: Kernel
reopen_message: Kernel
reopen_opened: Kernel
affine_mul_deal: Kernel
affine_square_deal: Kernel
affine_mul: Kernel
affine_square: Kernel
compare_deal: Kernel
compare_chunks: Kernel
compare_nodes: Kernel
compare_root: Kernel
thresholds_deal: Kernel
thresholds_chunks: Kernel
thresholds_nodes: Kernel
thresholds_root: Kernel
thresholds_sums: Kernel
bit_deal: Kernel
bit_share: Kernel
select_deal: Kernel
select_finish: Kernel
fss_deal: Kernel
fss_eval: Kernel
fss_bits_deal: Kernel
fss_bits_eval: Kernel
securenn_bits: Kernel
securenn_compare: Kernel
securenn_found: Kernel
securenn_sum: Kernel
securenn_answer: Kernel
securenn_total: Kernel
securenn_finish: Kernel
securenn_double: Kernel
securenn_opened: Kernel
wide_pack: Kernel
wide_combine: Kernel
wide_affine: Kernel
wide_deal: Kernel
wide_matmul: Kernel
wide_sums: Kernel
wide_leaves_deal: Kernel
wide_leaves: Kernel
wide_join_deal: Kernel
wide_join: Kernel
wide_factors: Kernel
wide_count: Kernel
