"""Who may import whom: CONTRIBUTING, "Where things are", as a table, and the imports of every module read with `ast`.

A module that is not in the table fails: to add one is to say where it stands. What only type checkers import is free.
"""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What a module may import at its top: fastlam's own by full name, others by package; the standard library is free.
AT_THE_TOP = {
    "fastlam": {
        *("fastlam.autograd", "fastlam.calibrate", "fastlam.calibration_result", "fastlam.diffusion"),
        *("fastlam.fit", "fastlam.fit_result", "fastlam.functionals", "fastlam.means", "fastlam.paths"),
        *("fastlam.processes", "fastlam.squares", "fastlam.warmup"),
    },
    # the specification: NumPy alone
    "fastlam.reference": {"numpy"},
    # the ground: knows nothing of what is computed
    "fastlam.arrays": {"numpy", "torch", "fastlam.control_groups"},
    "fastlam.control_groups": set(),
    "fastlam.threads": {"numpy", "torch", "fastlam.kernels"},  # torch for its thread count
    "fastlam.elements": set(),
    "fastlam.callers": set(),
    "fastlam.tree": {"numpy"},
    "fastlam.devices": {"numpy", "torch"},
    "fastlam.stream": {"numpy", "torch", "fastlam.arrays", "fastlam.attach"},
    "fastlam.parameters": {"numpy", "torch", "fastlam.attach", "fastlam.elements"},
    # the diffusions and functionals: their elements
    "fastlam.processes": {"fastlam.elements", "fastlam.kernels", "fastlam.parameters"},
    "fastlam.functionals": {"fastlam.elements", "fastlam.kernels", "fastlam.parameters"},
    "fastlam.diffusion": {"fastlam.elements", "fastlam.kernels", "fastlam.parameters", "fastlam.processes"},
    # formulas that users write, and derivatives of elements: SymPy
    "fastlam.opaque": {"sympy"},
    "fastlam.traced": {"numpy", "sympy"},
    "fastlam.algebra": {"sympy"},
    "fastlam.expressions": {"sympy", "fastlam.algebra"},
    "fastlam.printing": {"numba", "sympy", "fastlam.elements", "fastlam.kernels", "fastlam.opaque"},
    "fastlam.derivatives": {
        *("numpy", "sympy", "fastlam.elements", "fastlam.kernels", "fastlam.opaque", "fastlam.printing"),
        "fastlam.traced",
    },
    "fastlam.schemes": {
        *("sympy", "fastlam.derivatives", "fastlam.elements", "fastlam.expressions", "fastlam.opaque"),
        "fastlam.printing",
    },
    # what launches kernels
    "fastlam.rows": {
        *("numpy", "torch", "fastlam.arrays", "fastlam.elements", "fastlam.threads", "fastlam.kernels"),
        "fastlam.tree",
    },
    "fastlam.one_pass": {
        *("numpy", "fastlam.arrays", "fastlam.callers", "fastlam.devices", "fastlam.elements", "fastlam.kernels"),
        *("fastlam.parameters", "fastlam.stream", "fastlam.threads", "fastlam.tree"),
    },
    # the same for arrays on a GPU, torch's or CuPy's
    "fastlam.on_torch": {"torch"},
    "fastlam.on_cupy": {"cupy"},
    "fastlam.gpu": {"torch", "fastlam.kernels", "fastlam.on_torch"},
    "fastlam.gpu_rows": {
        *("numpy", "torch", "fastlam.arrays", "fastlam.elements", "fastlam.gpu", "fastlam.kernels", "fastlam.rows"),
    },
    "fastlam.gpu_paths": {
        *("torch", "fastlam.elements", "fastlam.gpu", "fastlam.kernels", "fastlam.one_pass", "fastlam.stream"),
        "fastlam.tree",
    },
    # what torch sees of them
    "fastlam.attach": {"torch", "fastlam.elements"},
    "fastlam.autograd": {"numpy", "torch", "fastlam.arrays", "fastlam.attach", "fastlam.devices", "fastlam.rows"},
    "fastlam.pathwise": {
        *("numpy", "torch", "fastlam.arrays", "fastlam.attach", "fastlam.devices", "fastlam.elements"),
        *("fastlam.one_pass", "fastlam.parameters", "fastlam.stream"),
    },
    "fastlam.mean_of": {
        *("torch", "fastlam.arrays", "fastlam.attach", "fastlam.autograd", "fastlam.elements", "fastlam.parameters"),
        *("fastlam.devices", "fastlam.rows"),
    },
    # the public functions: check, allocate, launch
    "fastlam.paths": {
        *("numpy", "torch", "fastlam.arrays", "fastlam.threads", "fastlam.kernels", "fastlam.elements"),
        *("fastlam.one_pass", "fastlam.parameters", "fastlam.processes", "fastlam.rows", "fastlam.autograd"),
        *("fastlam.devices", "fastlam.stream"),
    },
    "fastlam.squares": {"numpy", "fastlam.arrays", "fastlam.autograd", "fastlam.devices", "fastlam.rows"},
    "fastlam.means": {
        *("numpy", "torch", "fastlam.arrays", "fastlam.attach", "fastlam.autograd", "fastlam.elements"),
        *("fastlam.functionals", "fastlam.mean_of", "fastlam.one_pass", "fastlam.parameters"),
        *("fastlam.devices", "fastlam.pathwise", "fastlam.processes", "fastlam.rows", "fastlam.squares"),
        "fastlam.stream",
    },
    "fastlam.warmup": {
        *("numpy", "torch", "fastlam.arrays", "fastlam.paths", "fastlam.processes", "fastlam.rows", "fastlam.stream"),
    },
    # what is built on them
    "fastlam.targets": {"numpy", "fastlam.arrays"},
    "fastlam.square_means": {
        *("numpy", "fastlam.elements", "fastlam.functionals", "fastlam.one_pass", "fastlam.stream"),
    },
    "fastlam.least_squares": {"numpy"},
    "fastlam.identification": {"numpy", "fastlam.least_squares"},
    "fastlam.result_json": {"numpy"},
    "fastlam.calibration_result": {"numpy", "fastlam.result_json"},
    "fastlam.calibrate": {
        *("numpy", "torch", "fastlam", "fastlam.arrays", "fastlam.calibration_result", "fastlam.elements"),
        *("fastlam.identification", "fastlam.least_squares", "fastlam.means", "fastlam.parameters"),
        *("fastlam.devices", "fastlam.processes", "fastlam.square_means", "fastlam.stream", "fastlam.targets"),
    },
    "fastlam.descent": {"numpy", "torch", "fastlam.kernels"},
    "fastlam.training": {"numpy", "torch", "fastlam.arrays", "fastlam.descent"},
    "fastlam.closed_form": {"numpy", "fastlam.descent"},
    "fastlam.fit": {
        *("numpy", "torch", "fastlam.arrays", "fastlam.closed_form", "fastlam.descent", "fastlam.fit_result"),
        *("fastlam.devices", "fastlam.fit_warnings", "fastlam.rows", "fastlam.targets", "fastlam.training"),
    },
    "fastlam.fit_result": {"numpy", "fastlam.result_json"},
    "fastlam.fit_warnings": {"fastlam.descent", "fastlam.fit_result"},
    "fastlam.readers": {"numpy", "fastlam.arrays"},
    "fastlam.data": {"numpy", "fastlam.arrays", "fastlam.readers"},
    "fastlam.plot": {"numpy", "matplotlib"},
    # the commands: nobody imports them
    "fastlam.cli": set(),
    "fastlam.__main__": {"fastlam.cli"},
    "fastlam.options": {"numpy", "torch", "typer", "fastlam.arrays", "fastlam.data"},
    "fastlam.progress_bar": {"rich"},
    "fastlam.commands": {
        *("numpy", "typer"),
        *("fastlam", "fastlam.arrays", "fastlam.calibrate_command", "fastlam.data", "fastlam.options"),
        *("fastlam.devices", "fastlam.progress_bar", "fastlam.readers", "fastlam.training", "fastlam.version"),
    },
    "fastlam.calibrate_command": {
        *("numpy", "typer", "rich"),
        *("fastlam", "fastlam.data", "fastlam.devices", "fastlam.options", "fastlam.processes"),
        "fastlam.progress_bar",
        *("fastlam.readers", "fastlam.result_file"),
    },
    "fastlam.fitted": {
        *("numpy", "fastlam", "fastlam.arrays", "fastlam.elements", "fastlam.fit", "fastlam.means"),
        *("fastlam.squares", "fastlam.parameters", "fastlam.plot", "fastlam.progress_bar", "fastlam.devices"),
        *("fastlam.square_means", "fastlam.stream", "fastlam.targets", "fastlam.training"),
    },
    "fastlam.report": {
        "rich",
        "fastlam",
        "fastlam.data",
        "fastlam.fit_warnings",
        "fastlam.plot",
        "fastlam.result_file",
    },
    "fastlam.version": set(),
    "fastlam.result_file": {"fastlam.data", "fastlam.result_json", "fastlam.version"},
    "fastlam.info": {"torch", "fastlam.arrays", "fastlam.threads"},
}

# What it may import inside functions besides: an optional package, or one that closes a circle.
IN_FUNCTIONS = {
    # SymPy, for derivatives and for what comes as text alone
    **{
        name: {"fastlam.derivatives"}
        for name in ("fastlam.rows", "fastlam.one_pass", "fastlam.mean_of", "fastlam.gpu_rows", "fastlam.gpu_paths")
    },
    **{name: {"fastlam.schemes"} for name in ("fastlam.diffusion", "fastlam.functionals")},
    "fastlam.fit_result": {"fastlam.plot"},
    "fastlam.gpu": {"fastlam.on_cupy"},  # CuPy where the user imported it
    "fastlam.squares": {"fastlam.on_cupy"},
    "fastlam.devices": {"fastlam.info"},  # to say what is missing
    "fastlam.readers": {"pyarrow"},
    "fastlam.cli": {"rich", "typer", "fastlam.commands"},
    "fastlam.commands": {"fastlam.fitted", "fastlam.report", "fastlam.info"},
    "fastlam.info": {"llvmlite", "cuda", "numba.cuda"},  # to say which are installed, and where
}

# Kernels: numba and themselves. An element needs no row here.
KERNELS = {"numpy", "numba", "fastlam.kernels"}
KERNELS_BESIDES = {
    "fastlam.kernels.memory": {"llvmlite"},  # instructions that numba has no word for
    "fastlam.kernels.philox": {"llvmlite"},  # the same
    "fastlam.kernels.root": {"llvmlite"},  # the same
    "fastlam.kernels.cuda": {"numba.cuda"},  # from here to the other loops for GPUs
    "fastlam.kernels.cuda_launch": {"cuda"},
    "fastlam.kernels.cuda_ptx": {"cuda", "numba.cuda"},
}


def modules():
    """Every module of the package and its path; `kernels` by the name it is installed under."""
    for path in sorted([*ROOT.glob("fastlam/*.py"), *ROOT.glob("kernels/*.py")]):
        parent = "fastlam.kernels" if path.parent.name == "kernels" else "fastlam"
        yield parent if path.stem == "__init__" else f"{parent}.{path.stem}", path


MODULES = dict(modules())


def in_words(name):
    """A dotted name as the table has it; None for the standard library."""
    parts = name.split(".")
    if parts[:2] == ["numba", "cuda"]:
        return "numba.cuda"
    if parts[:2] == ["fastlam", "kernels"]:
        return "fastlam.kernels"
    if parts[0] == "fastlam":
        return ".".join(parts[:2]) if ".".join(parts[:2]) in MODULES else "fastlam"
    return None if parts[0] in sys.stdlib_module_names else parts[0]


def names_in(node, package):
    """Dotted names that one statement or call imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
        return [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
    return []


def imports_of(source, package):
    """(imports at the top, imports inside functions), each a set of names as the table has them."""
    found = set(), set()

    def visit(node, inside):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            children = node.orelse
        else:
            found[inside].update(filter(None, map(in_words, names_in(node, package))))
            children = ast.iter_child_nodes(node)
        for child in children:
            visit(child, inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))

    visit(ast.parse(source), False)
    return found


def allowed(module):
    if module.startswith("fastlam.kernels"):
        top = KERNELS | KERNELS_BESIDES.get(module, set())
        return top, top
    assert module in AT_THE_TOP, f"{module} is new: say in this table what it may import"
    return AT_THE_TOP[module], AT_THE_TOP[module] | IN_FUNCTIONS.get(module, set())


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_what_it_may(module):
    package = module if MODULES[module].stem == "__init__" else module.rpartition(".")[0]
    found = imports_of(MODULES[module].read_text(), package)
    for names, may in zip(found, allowed(module), strict=True):
        assert names <= may, f"{module} imports {sorted(names - may)}"


def test_table_has_no_modules_that_are_gone():
    assert AT_THE_TOP.keys() | IN_FUNCTIONS.keys() <= MODULES.keys()


@pytest.mark.parametrize("path", sorted(ROOT.glob("bench/**/*.py")), ids=lambda path: path.stem)
def test_bench_does_not_import_tests(path):
    for names in imports_of(path.read_text(), "bench"):
        assert not any(name == "tests" or name.startswith("test_") for name in names)


@pytest.mark.parametrize(
    ("source", "top", "inside"),
    [
        ("import numpy as np, os", {"numpy"}, set()),
        ("from numba import njit\nfrom numba import cuda", {"numba", "numba.cuda"}, set()),
        ("import numba.cuda.libdevice", {"numba.cuda"}, set()),
        ("from .floats import fma", {"fastlam.kernels"}, set()),
        ("from ..arrays import kind", {"fastlam.arrays"}, set()),
        ("from fastlam import arrays, fit, simulate", {"fastlam.arrays", "fastlam.fit", "fastlam"}, set()),
        ("try:\n    import pyarrow\nexcept ImportError:\n    pass", {"pyarrow"}, set()),
        ("def f():\n    import torch.nn", set(), {"torch"}),
        ("class A:\n    def f(self):\n        importlib.import_module('cupy.cuda')", set(), {"cupy"}),
        ("if TYPE_CHECKING:\n    import sympy\nelse:\n    import typer", {"typer"}, set()),
        ("import tests.test_philox", {"tests"}, set()),
    ],
)
def test_reader_of_imports(source, top, inside):
    assert imports_of(source, "fastlam.kernels") == (top, inside)
