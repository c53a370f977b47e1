"""What of torch works on secrets: runs the sweeps, and writes tests/ops/coverage.json and docs/coverage.md.

python tools/coverage_page.py            all of it, some minutes
python tools/coverage_page.py --render   only the page, of the table as it is
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import coverage_table  # noqa: E402

if __name__ == "__main__":
    table = coverage_table.load() if "--render" in sys.argv else coverage_table.measured(log=print)
    coverage_table.TABLE.write_text(coverage_table.dumped(table))
    coverage_table.PAGE.write_text(coverage_table.page(table))
    print(*coverage_table.counts(table).items(), sep="\n")
    if wrong := [name for entries in table.values() for name, e in entries.items() if e["state"] == "WRONG"]:
        sys.exit(f"wrong: {', '.join(wrong)}")
