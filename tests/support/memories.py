"""The memory of running processes, by /proc, searched for what must not be there."""

import re


def memory(pid):
    """All that a process can read and write."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as content:
        for line in maps:
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if not found or "[v" in line:
                continue
            start, end = (int(each, 16) for each in found.groups())
            try:
                content.seek(start)
                yield content.read(end - start)
            except OSError:
                continue


def holds(pid, patterns):
    """Which of the patterns are in a process's memory."""
    found = set()
    for part in memory(pid):
        found |= {name for name, pattern in patterns.items() if pattern in part}
    return found
