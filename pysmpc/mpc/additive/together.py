"""Several openings that do not wait for one another, in one round.

Each is under a mask of its own, as its protocol opens it alone (`masked`, `truncation`, `products`); they only travel
in one message.
"""

from __future__ import annotations

from collections.abc import Sequence

from pysmpc.mpc.additive.products import begin, masked, unopened
from pysmpc.mpc.additive.truncation import MATERIAL, masked_dividends, quotients
from pysmpc.mpc.functions.masked import Masked
from pysmpc.mpc.interfaces import Party, declares_openings
from pysmpc.ring import z2k
from pysmpc.ring.shares import Share


@declares_openings("function", "mask")
def together(
    party: Party,
    functions: Sequence[Share] = (),
    dividends: Sequence[tuple[Share, int]] = (),
    factors: Sequence[Share] = (),
) -> tuple[list[Masked], list[Share]]:
    """(The functions' arguments under masks, the quotients), with the factors opened for products: one round, or none.

    One more, before it, where they are made of products that were not begun.

    1. Open c = x + r for each function, c = z + offset + r for each dividend, d = y - a for each factor.
    2. Finish the divisions.
    """
    begin(party, *(x.body for x in (*functions, *(z for z, _ in dividends), *factors)))
    # 1. open
    bases, first = [], []
    for x in functions:
        base = party.dealer.streams(MATERIAL)
        bases.append(base)
        first.append(z2k.truncate_mask(party.dealer.keys, base, 0, x.words()))
    second, pieces = masked_dividends(party, dividends)
    fresh = unopened([x.compact() for x in factors])
    messages = [*first, *second, *masked(party, fresh)]
    if not messages:
        return [], []
    shapes = [*(x.shape for x in functions), *(z.shape for z, _ in dividends), *(body.shape for body in fresh)]
    opened = party.channel.open(messages, "function" if functions or dividends else "mask", shapes)
    for body, d in zip(fresh, opened[len(first) + len(second) :], strict=True):
        body.opened = d
    # 2. divide
    found = [Masked(base, c, x.shape) for base, c, x in zip(bases, opened, functions, strict=False)]
    return found, quotients(party, dividends, pieces, opened[len(first) : len(first) + len(second)])
