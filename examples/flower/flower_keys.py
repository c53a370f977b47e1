"""Keys of the five clinics, and the file that says who takes part: `python flower_keys.py FOLDER`."""

import sys
from pathlib import Path

from flower_clinics import keys


def main(folder):
    group, identities = keys()
    for each in identities:
        each.save(folder)
    lines = [f"min_clients = {group.min_clients}", f"max_norm = {group.max_norm}"]
    for table, members in (("holders", group.holders), ("clients", group.clients)):
        lines += ["", f"[{table}]", *(f'{name} = "{key}"' for name, key in members.items())]
    Path(folder, "group.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
