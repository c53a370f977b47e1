"""Every protocol on shares with message authentication codes (`integrity="mac"`).

What is opened is checked (`opening`): before anything is revealed, all that was opened on
the way to it, and then what was revealed itself, before it is returned.  The dealer gives
every mask, product and bit with its code (`dealt`), so that products, truncations,
comparisons and selections are all linear in authenticated shares and public words, and
every word that is opened has a code: nothing is left out.

The protocols are those of the default suite with the same masks, rounding and ranges.  A
secret is words [rows * 8, n]: for every hosted holder, four of its share and four of its
code, loose as in `pysmpc.ring.z2k_128`.  The bits of a comparison are the lowest of numbers mod
2^64, which have codes mod 2^64 under the same key.

Inputs: the owner and the dealer share a key; the dealer gives authenticated shares of the
mask under that key, the owner sends the difference to every holder, who cannot change it.
"""

from pysmpc.mpc.mac import comparison_mac, functions, products_mac, selection, sharing_mac, truncation_mac
from pysmpc.mpc.mac.dealt import LANES

__all__ = ["LANES", "comparison_mac", "functions", "products_mac", "selection", "sharing_mac", "truncation_mac"]
