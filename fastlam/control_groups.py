"""What the control groups of this process leave it of memory: on Linux, in containers, services and nested groups."""

from __future__ import annotations

from pathlib import Path

# Where the groups are, and of each its limit, its use, and what of that is files, which can be dropped again.
UNIFIED = ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")
MEMORY = ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
NO_LIMIT = 2**62  # from here on version 1 means none


def memory_left(root: Path = Path("/")) -> list[int]:
    """Bytes that can still be had of each limit on this process: of its groups and of all above them."""
    left = []
    for controllers, path in _memberships(root):
        folder, *files = UNIFIED if controllers == [""] else MEMORY
        top = root / folder
        group = top / path.lstrip("/")
        for level in (group, *group.parents):  # in a container the path may be the host's: its own group is the top
            left += _left(level, *files)
            if level == top:
                break
    return left


def _memberships(root: Path) -> list[tuple[list[str], str]]:
    """Controllers and path of each group that may limit memory; version 2 names no controller."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no control groups
        return []
    groups = [(names.split(","), path) for _, names, path in (line.split(":", 2) for line in lines)]
    return [(names, path) for names, path in groups if names == [""] or "memory" in names]


def _left(group: Path, limit: str, usage: str, cached: str) -> list[int]:
    try:
        most = int((group / limit).read_text())
        if most >= NO_LIMIT:
            return []
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return [most - int((group / usage).read_text()) + int(stat.get(cached, 0))]
    except (OSError, ValueError):  # no such group, or "max"
        return []
