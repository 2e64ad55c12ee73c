"""Memory limits of control groups, of both versions, nested and in containers: on copies of their files."""

import pytest

from fastlam import arrays
from fastlam.control_groups import memory_left

V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"


@pytest.fixture
def root(tmp_path):
    """Where /proc and /sys are to be."""
    (tmp_path / "proc/self").mkdir(parents=True)
    return tmp_path


def belong(root, lines):
    (root / "proc/self/cgroup").write_text(lines)


def limit(root, group, most, used, inactive):
    folder = root / group
    folder.mkdir(parents=True, exist_ok=True)
    new = not group.startswith(V1)
    (folder / ("memory.max" if new else "memory.limit_in_bytes")).write_text(f"{most}\n")
    (folder / ("memory.current" if new else "memory.usage_in_bytes")).write_text(f"{used}\n")
    stat = f"anon 5\ninactive_file {inactive if new else 7}\n" + ("" if new else f"total_inactive_file {inactive}\n")
    (folder / "memory.stat").write_text(stat)


def test_nested_groups_of_version_2(root):
    """A service below a slice, both limited; the top has no such files; a group beside it is none of ours."""
    belong(root, "0::/user.slice/run-1.scope\n")
    limit(root, f"{V2}/user.slice/run-1.scope", 1000, 300, 50)
    limit(root, f"{V2}/user.slice", 5000, 4900, 100)
    limit(root, f"{V2}/other.slice", 10, 0, 0)
    assert memory_left(root) == [750, 200]


def test_no_limit(root):
    belong(root, "0::/user.slice\n")
    limit(root, f"{V2}/user.slice", "max", 300, 50)
    assert memory_left(root) == []


def test_version_1(root):
    """Beside other controllers, the unified hierarchy among them, which holds no memory then; no limit at the top."""
    belong(root, "5:devices:/a\n4:cpu,memory:/a/b\n1:name=systemd:/c\n0::/a:b\n")
    limit(root, f"{V1}/a/b", 1000, 300, 50)
    limit(root, V1, 2**63 - 4096, 4900, 100)
    assert memory_left(root) == [750]


@pytest.mark.parametrize("path", ["/", "/docker/0123abcd", "/../0123abcd"])
def test_a_container_whose_own_group_is_the_top(root, path):
    belong(root, f"0::{path}\n")
    limit(root, V2, 1000, 300, 50)
    assert memory_left(root) == [750]


def test_no_control_groups(tmp_path):
    assert memory_left(tmp_path) == []


def test_the_least_of_all_limits_counts(monkeypatch):
    monkeypatch.setattr(arrays, "memory_left", lambda: [2**62, 4096, 8192])
    assert arrays.available_memory() == 4096
    monkeypatch.setattr(arrays, "memory_left", lambda: [-1])  # more in use than a limit that was lowered
    assert arrays.available_memory() == 0
