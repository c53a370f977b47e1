"""What moved between two runs of `make bench` or of `make bench-count`.

    python bench/compare.py old.json new.json [--least 5]

Times are compared by their minima, and as ratios to plain torch of the same run, which
cancels the speed of the machine.  Rounds, bytes and instruction counts are exact: any
change of them is shown.
"""

import argparse
import json
import sys
from pathlib import Path

EXACT = ("rounds", "sent", "dealt")


def read(path):
    """{name: {figure: value}} of either kind of file."""
    found = json.loads(Path(path).read_text())
    if "benchmarks" not in found:
        return {
            f"{kernel} ({target})": {"instructions": count}
            for target, kernels in found["instructions_an_element"].items()
            for kernel, count in kernels.items()
        }
    rows = {}
    for each in found["benchmarks"]:
        extra = each["extra_info"]
        rows[each["name"]] = {
            "ms": 1e3 * each["stats"]["min"],
            "ratio": each["stats"]["min"] / extra["plain_min"],
            **{name: extra[name] for name in EXACT if name in extra},
        }
    return rows


def moved(old, new, least):
    """(name, figure, before, after, per cent) of what changed; a time by `least` per cent or more."""
    for name in old.keys() & new.keys():
        for figure in old[name].keys() & new[name].keys():
            before, after = old[name][figure], new[name][figure]
            percent = 100 * (after - before) / before if before else float(after != before) * 100
            if abs(percent) >= (0.005 if figure in (*EXACT, "instructions") else least):
                yield name, figure, before, after, percent


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--least", type=float, default=5, help="per cent by which a time must move (default 5)")
    options = parser.parse_args(argv)
    old, new = read(options.old), read(options.new)
    rows = sorted(moved(old, new, options.least), key=lambda row: (row[1], -abs(row[4])))
    for name, figure, before, after, percent in rows:
        print(f"{name:55s} {figure:13s} {before:14.3f} -> {after:14.3f}  {percent:+7.1f} %")
    if not rows:
        print(f"nothing moved by {options.least:g} % or more, and no count changed")
    for label, names in (
        ("only in the first", old.keys() - new.keys()),
        ("only in the second", new.keys() - old.keys()),
    ):
        if names:
            print(f"{label}: {', '.join(sorted(names))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
