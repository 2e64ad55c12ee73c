"""The README's Python runs as it stands, and its files exist."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
BLOCKS = [block for block in EXAMPLES if "cuda" not in block]
ON_A_GPU = [block for block in EXAMPLES if "cuda" in block]  # test_gpu.py runs it


def test_has_examples():
    assert (len(BLOCKS), len(ON_A_GPU)) == (4, 1)


@pytest.mark.parametrize("block", BLOCKS, ids=["training", "one_pass", "files", "diffusion"])
def test_example_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {"__name__": "readme"}
    exec(compile(block, "README.md", "exec", dont_inherit=True), names)
    if "result" in names:  # trained one epoch by hand, and by fit
        assert abs(names["lam"].item() - 0.25) < 0.05
        assert abs(names["result"].lam - 0.25) < 1e-6
    elif "optimizer" in names:  # 4 times the spread from step to step of the last 500, over 2 seeds
        for name, truth, tolerance in (("lam", 0.25, 0.007), ("mu", 2.0, 0.009), ("sigma", 1.0, 0.004)):
            assert abs(names[name].item() - truth) < tolerance
    elif list(tmp_path.iterdir()):
        assert sorted(file.name for file in tmp_path.iterdir()) == ["k.csv", "k.npy", "x.npy"]
    else:  # the exact stationary law: mean mu, variance sigma**2 / (2 theta), t = 1
        x = names["x"][-1]
        assert abs(x.var() - 0.3**2 / 4 * (1 - 2.718281828**-4)) < 5 * 0.0225 * (2 / len(x)) ** 0.5


def test_commands_on_files_run_on_the_files_that_are_made(fastlam_):
    """All but the last two, which simulate and list; calibrate prints the table that stands there."""
    exec(compile(BLOCKS[2], "README.md", "exec", dont_inherit=True), {})
    commands = re.findall(r"^fastlam (\w+ --(?:paths|targets) [^#\n]*)", README, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        code, stdout, stderr = fastlam_(*command.split())
        assert (code, stderr) == (0, "")
    rows = [line.split() for line in stdout.splitlines() if line.startswith(("  lam", "  theta", "  sigma"))]
    assert len(rows) == 3
    for row in rows:
        assert row in [line.split() for line in README.splitlines()]


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`(tests/\w+\.py)`", README) + re.findall(r"\]\(([\w./]+)\)", README)))
)
def test_named_files_exist(path):
    assert (ROOT / path).exists()
