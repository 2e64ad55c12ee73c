"""What several files of tests share."""

import gc

import pytest
import torch

from fastlam import cli

gc.freeze()
gc.set_threshold(100_000, 20, 100)  # a quarter of what numba takes to compile a kernel is Python's search for garbage


def pytest_collection_modifyitems(config, items):
    """Tests of a file, or two, stay in one process of several, which compiles kernels once; programs have their own."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if item.path.stem not in ("test_cuda_simulated", "test_cuda_launched"):
                item.add_marker(pytest.mark.xdist_group(item.path.as_posix().replace("cuda_ptx", "cuda_compile")))


@pytest.fixture
def fastlam_(capsys, tmp_path, monkeypatch):
    """Run `fastlam ARGUMENTS` in an empty folder; return (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def set_threads():
    """The function that says how many threads there are, until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
