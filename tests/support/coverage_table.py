"""What of torch works on secrets, as a table that is committed and as the page docs/coverage.md.

A state is that of all samples: "right", "approximated" (within the tolerance, but further off than rounding takes it),
"partly" (some samples are refused), "no gradient" (values are right, the gradient is refused), "refused",
or "not asked" (no sample has a real tensor that a secret can be).
"""

import json
import math
from collections import Counter
from functools import partial
from pathlib import Path

import module_sweep
import op_sweep
from op_sweep import NO_GRADIENT, OUTSIDE, REFUSED, RIGHT

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "tests" / "ops" / "coverage.json"
PAGE = ROOT / "docs" / "coverage.md"

#: Further off than this is an approximation: rounding to steps of 2^-16 and their sums stay below.
ROUNDING = 2.0**-12
#: States in which nothing that is asked is refused.
WORKS = ("right", "approximated")


def load():
    """The committed table."""
    return json.loads(TABLE.read_text())


def dumped(table):
    """The table as it is committed: an entry a line."""
    parts = []
    for kind, entries in table.items():
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
        parts.append(f" {json.dumps(kind)}: {{\n{lines}\n }}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def entry(outcomes):
    """The state of an operation by its samples, why not, and by what it was off."""
    outcomes = [o for o in outcomes if o.state != OUTSIDE]
    states = {o.state for o in outcomes}
    values = max((o.values for o in outcomes), default=0.0)
    gradients = max((o.gradients for o in outcomes), default=0.0)
    why = next((o.why for o in outcomes if o.why), "")
    if not states:
        return {"state": "not asked"}
    if states == {RIGHT}:
        found = {"state": "right" if max(values, gradients) <= ROUNDING else "approximated"}
    elif RIGHT in states:
        found = {"state": "partly", "why": why}
    elif states == {REFUSED}:
        return {"state": "refused", "why": why}
    else:
        assert NO_GRADIENT in states
        found = {"state": "no gradient", "why": why}
    return found | {"bits": [_bits(values), _bits(gradients)]}


def _bits(off):
    """k, where it was off by at most 2^-k; 16 for less than a step."""
    return 16 if off <= 2.0**-16 else -math.ceil(math.log2(off))


def variant(info, n=None, seconds=8.0):
    """The entry of an operation of the catalogue: of its first n samples, as many as there is time for."""
    try:
        return entry(op_sweep.outcomes(info, n, seconds=seconds))
    except AssertionError as error:
        return {"state": "WRONG", "why": str(error)}


def measured(only=(), log=lambda line: None):
    """The whole table, by the sweeps; only: of these names, beside what is committed."""
    table = load() if only else {"operations": {}, "layers": {}, "optimizers": {}}
    runs = [("operations", op_sweep.name_of(info), partial(variant, info)) for info in op_sweep.operations()]
    runs += [("layers", name, partial(_one, module_sweep.layer_outcome, name)) for name in module_sweep.layers()]
    runs += [
        ("optimizers", name, partial(_one, module_sweep.optimizer_outcome, name)) for name in module_sweep.optimizers()
    ]
    for kind, name, run in runs:
        if not only or name in only:
            table[kind][name] = run()
            log(f"{name}: {table[kind][name]}")
    return table


def _one(outcome, name):
    return entry([outcome(name)])


def counts(table):
    """How many are in each state, by kind."""
    return {kind: dict(Counter(e["state"] for e in entries.values())) for kind, entries in table.items()}


# --- the page ---------------------------------------------------------------------------

_INTRODUCTION = """# What of torch works on secrets

<!-- Written by tools/coverage_page.py (make coverage); do not edit. -->

Every operation, layer, loss and optimizer below was run on secret tensors and held against torch in
float64 on the same values, as the encoding of 16 fractional bits has them. Anything that is not
listed raises an error that names it.

* **right**: values and gradients are torch's, but for rounding: off by at most 2^-12, absolutely or
  relatively.
* **approximated**: within 2^-9, and gradients within 2^-8; the columns say within what.
* **partly**: right for some arguments, refused for others, of which the table names the first.
* **no gradient**: right, but without a backward pass.
* **refused**: raises before anything is computed, and says why.
* **not asked**: torch's samples have no real tensor that could be a secret.

The first argument is secret, others are public. Results beyond 2^14 are not compared, nor samples
that torch in float32 misses by half as much or more. The table behind this page is
`tests/ops/coverage.json`; the tests fail where an operation that works there is refused or wrong.
"""


def page(table):
    """docs/coverage.md."""
    lines = [_INTRODUCTION, "| | " + " | ".join(_STATES) + " | all |", "|---|" + "---|" * (len(_STATES) + 1)]
    for kind, found in counts(table).items():
        row = [str(found.get(state, 0)) for state in _STATES]
        lines.append(f"| [{kind}](#{kind}) | {' | '.join(row)} | {sum(found.values())} |")
    for kind, entries in table.items():
        lines += ["", f"## {_HEADINGS[kind]}", "", *_section(entries)]
    return "\n".join(lines) + "\n"


_STATES = ("right", "approximated", "partly", "no gradient", "refused", "not asked")
_HEADINGS = {"operations": "Operations", "layers": "Layers", "optimizers": "Optimizers"}


def _section(entries):
    """Names of what is right in a paragraph, a table of the others."""
    right = [f"`{name}`" for name, e in entries.items() if e["state"] == "right"]
    yield "Right:"
    yield from _wrapped(right)
    rest = {name: e for name, e in entries.items() if e["state"] != "right"}
    yield ""
    yield "| | state | values | gradients | why |"
    yield "|---|---|---|---|---|"
    for name, e in rest.items():
        values, gradients = (f"2^-{b}" for b in e["bits"]) if "bits" in e else ("", "")
        yield f"| `{name}` | {e['state']} | {values} | {gradients} | {_cell(e.get('why', ''))} |"


def _wrapped(words, width=100):
    line = ""
    for i, word in enumerate(words):
        word += "," if i < len(words) - 1 else "."
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line


def _cell(text):
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
