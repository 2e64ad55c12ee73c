"""The machine that `make gpu` runs on, found in a process of its own; where NVVM is, if its own search finds none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.card.pieces import Missing

ROOT = Path(__file__).parents[2]
TOOLKITS = ("/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda")
SECONDS = 120.0  # of a look: the first import of a cold disk, and a kernel compiled
SMI = (
    "name,driver_version,pstate,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,temperature.gpu,power.draw,"
    "power.limit,memory.total,memory.used"
)


def environment(before: Mapping[str, str]) -> dict[str, str]:
    """`before` with this checkout first where Python looks for modules: nothing needs to be installed."""
    return {**before, "PYTHONPATH": ":".join(filter(None, (str(ROOT), before.get("PYTHONPATH"))))}


def found(env: Mapping[str, str]) -> dict[str, Any]:
    """As `pieces.description`, in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "bench.card.pieces"]
    try:
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        why = f"looking at this machine took more than {SECONDS:.0f} s"
    except (IndexError, ValueError):
        why = f"looking at this machine ended with {done.returncode}: {' '.join(done.stderr.split())[-500:]}"
    broken = Missing(why, "nothing runs", "python -m bench.card.pieces shows it", True)
    return {"facts": [], "missing": [broken._asdict()], "nvvm": "", "card": ""}


def toolkits(env: Mapping[str, str], known: Iterable[str] = TOOLKITS) -> list[str]:
    """Toolkits with NVVM that its search may not see; none where the user has pointed at one."""
    if env.get("CUDA_HOME") or env.get("CUDA_PATH"):
        return []
    compiler = shutil.which("nvcc", path=env.get("PATH"))
    places = [*known, *([str(Path(compiler).resolve().parents[1])] if compiler else [])]
    return [place for place in dict.fromkeys(places) if any(Path(place, "nvvm").glob("lib*/libnvvm.so*"))]


def pointed(env: dict[str, str]) -> tuple[dict[str, Any], dict[str, str], str]:
    """(what is found, the environment for it, a line where CUDA_HOME had to be set)."""
    description = found(env)
    if not description["nvvm"] and any(piece["needed"] for piece in description["missing"]):
        for place in toolkits(env):
            there = {**env, "CUDA_HOME": place}
            again = found(there)
            if again["nvvm"]:
                return again, there, f"NVVM: found with CUDA_HOME={place}, which is set for this run alone"
    return description, env, ""


def clocks() -> str:
    """What nvidia-smi says of the first card, as it is found: nothing is ever set."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "nvidia-smi: missing: clocks, power and temperature are not known"
    command = [tool, f"--query-gpu={SMI}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi: no answer: {error}"
    values = (done.stdout.splitlines() or [""])[0].split(", ")
    names = SMI.split(",")
    if done.returncode or len(values) != len(names):
        return f"nvidia-smi: no answer: {' '.join((done.stdout + done.stderr).split())[:300]}"
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
