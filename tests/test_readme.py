"""The README's Python runs as it stands, and its files exist."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_has_examples():
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("block", BLOCKS, ids=["training", "one_pass", "diffusion"])
def test_example_runs(block):
    torch.manual_seed(0)
    names = {"__name__": "readme"}
    exec(compile(block, "README.md", "exec", dont_inherit=True), names)
    if "result" in names:  # trained one epoch by hand, and by fit
        assert abs(names["lam"].item() - 0.25) < 0.05
        assert abs(names["result"].lam - 0.25) < 1e-6
    elif "optimizer" in names:  # 4 times the spread from step to step of the last 500, over 2 seeds
        for name, truth, tolerance in (("lam", 0.25, 0.007), ("mu", 2.0, 0.009), ("sigma", 1.0, 0.004)):
            assert abs(names[name].item() - truth) < tolerance
    else:  # the exact stationary law: mean mu, variance sigma**2 / (2 theta), t = 1
        x = names["x"][-1]
        assert abs(x.var() - 0.3**2 / 4 * (1 - 2.718281828**-4)) < 5 * 0.0225 * (2 / len(x)) ** 0.5


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`(tests/\w+\.py)`", README) + re.findall(r"\]\(([\w./]+)\)", README)))
)
def test_named_files_exist(path):
    assert (ROOT / path).exists()
