"""Paths and targets in files (.npy, .npz, .csv, .parquet), read without trust and written whole or not at all."""

from __future__ import annotations

import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fastlam import arrays
from fastlam.readers import check_suffix, holds_times, pyarrow_and_parquet, read_array

LAYOUTS = ("times-by-paths", "paths-by-times")
OF_SAVEZ = ("file", "allow_pickle")  # what np.savez takes for its own arguments, not for arrays
SLAB = 2**22  # elements copied at a time into a file of the other layout

PutBlock = Callable[[np.ndarray, int, int], None]


def load_paths(path: str | os.PathLike[str], layout: str = "times-by-paths") -> np.ndarray:
    """Read paths from a file, time-major.

    The rows of the file are the rows of a matrix in the given layout: one time each for "times-by-paths", one path
    each for "paths-by-times". A row is a line of a `.csv`, a row of a `.parquet` table, `array[j]` of an array.

    Parameters
    ----------
    path : str or path
        `.npy`: memory-mapped, so it may be larger than memory. `.npz`: its only array, or the one named `x`. `.csv`:
        numbers between commas, the first line a header if no cell of it is a number. `.parquet`: every column a
        number (pandas' index left out); needs pyarrow.
    layout : str
        "times-by-paths" or "paths-by-times".

    Returns
    -------
    array, shape (m, n)
        Row `j` holds the paths at time `j`. float32 stays, integers and float16 become float64, a `.csv` is float64.
        A `.npy` is a read-only map of the file, transposed in place for "paths-by-times".

    Raises
    ------
    OSError, ValueError, TypeError, ImportError, MemoryError
        No such file, not what its suffix says, not a matrix of real numbers, pyarrow missing, too large.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "x.npy")
    ...     save_paths(file, np.ones((3, 5)), layout="paths-by-times")
    ...     np.load(file).shape, load_paths(file, layout="paths-by-times").shape
    ((5, 3), (3, 5))
    """
    transposed = _is_transposed(layout, "load_paths")
    matrix = read_array(Path(path), "x", transposed)
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f"{path} holds an array of shape {matrix.shape}, but paths are a matrix, one row a time")
    return matrix.T if transposed else matrix


def load_targets(path: str | os.PathLike[str]) -> np.ndarray:
    """Read targets `k` from a file, one number a time.

    Parameters
    ----------
    path : str or path
        As for `load_paths`; one row or one column. Of a `.npz`: its only array, or the one named `k`.

    Returns
    -------
    array, shape (m,), float64

    Raises
    ------
    OSError, ValueError, TypeError, ImportError, MemoryError
        As for `load_paths`; also ValueError with the position of a NaN or infinity.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "k.npy")
    ...     np.save(file, np.array([1, 2, 3]))
    ...     load_targets(file)
    array([1., 2., 3.])
    """
    values = read_array(Path(path), "k")
    if values.size == 0 or values.size != max(values.shape, default=1):
        raise ValueError(f"{path} holds an array of shape {values.shape}, but targets are one number a time")
    targets = np.array(values, np.float64).reshape(-1)
    for j in np.flatnonzero(~np.isfinite(targets))[:1]:
        raise ValueError(f"{path}: targets must be finite, but k[{j}] = {targets[j]}")
    return targets


def load_times(path: str | os.PathLike[str], m: int) -> np.ndarray | None:
    """Read the times that a `.npz` holds beside paths, as `fastlam simulate` writes it.

    Parameters
    ----------
    path : str or path
        The file of the paths.
    m : int
        How many times the paths have.

    Returns
    -------
    array, shape (m,), or None
        The `times` of a `.npz` with several arrays; None where there is none.

    Raises
    ------
    OSError, ValueError, TypeError, MemoryError
        As for `load_paths`; also ValueError if they are not `m` finite numbers.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "x.npz")
    ...     save_paths(file, np.ones((2, 5)), times=np.array([0.5, 1.0]))
    ...     load_times(file, 2)
    array([0.5, 1. ])
    """
    if not holds_times(Path(path)):
        return None
    times = read_array(Path(path), "times")
    if times.shape != (m,):
        raise ValueError(f"{path}: times must have shape ({m},), one for each time of the paths, but has {times.shape}")
    for j in np.flatnonzero(~np.isfinite(times))[:1]:
        raise ValueError(f"{path}: times must be finite, but times[{j}] = {times[j]}")
    return times


def save_paths(path: str | os.PathLike[str], x: Any, layout: str = "times-by-paths", **more: Any) -> None:
    """Write paths to a file that `load_paths` reads back: all of it or, whatever happens, nothing.

    Parameters
    ----------
    path : str or path
        `.npy`, `.npz`, `.csv` or `.parquet`; replaced if it exists.
    x : array or tensor, shape (m, n)
        float32 or float64, any layout; a tensor is written without its graph, what is on a GPU is copied from it.
    layout : str
        Of the file: "times-by-paths" or "paths-by-times".
    **more : array or tensor
        Further arrays for a `.npz`, of any dtype that needs no pickle; not named `file` or `allow_pickle`.

    Raises
    ------
    OSError, ValueError, TypeError, ImportError
        Bad arguments, a masked array or one of objects among them; no room; pyarrow missing.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "x.csv")
    ...     save_paths(file, np.array([[1.0, 2.5], [3.0, 4.0]]))
    ...     load_paths(file)
    array([[1. , 2.5],
           [3. , 4. ]])
    """
    path = Path(path)
    suffix = check_suffix(path)
    transposed = _is_transposed(layout, "save_paths")
    x = _numpy_array(x, "x")
    real = arrays.check_float(x, "save_paths: x")
    if x.ndim != 2 or x.size == 0:
        raise ValueError(f"save_paths: x must be a matrix with at least one element, but has shape {x.shape}")
    if more and suffix != ".npz":
        raise ValueError(f"save_paths: only a .npz holds further arrays, but path is {path}")
    for name in OF_SAVEZ:
        if name in more:
            raise ValueError(f"save_paths: further arrays must not be named {' or '.join(OF_SAVEZ)}, but one is {name}")
    others = {name: _numpy_array(array, name) for name, array in more.items()}
    matrix = x.T if transposed else x
    if suffix == ".npy":
        with new_npy(path, matrix.shape, real) as put:
            step = max(1, SLAB // matrix.shape[1])
            for start in range(0, len(matrix), step):
                put(matrix[start : start + step], start, 0)
        return
    with atomic_write(path) as temporary:
        if suffix == ".npz":
            np.savez(temporary, x=matrix, **others)  # type: ignore[arg-type]
        elif suffix == ".csv":
            np.savetxt(temporary, matrix, delimiter=",", fmt="%.9g" if real == "float32" else "%.17g")
        else:
            _write_parquet(temporary, matrix, "time" if transposed else "path")


@contextmanager
def new_npy(path: str | os.PathLike[str], shape: tuple[int, int], dtype: str) -> Iterator[PutBlock]:
    """Yield `put(block, row, column)`, which writes a block of the matrix that `path` holds once all ends well.

    Plain writes: a full disk raises OSError, where it would kill a process that writes through a memory map.
    """
    real = np.dtype(dtype)
    size, free = math.prod(shape) * real.itemsize, shutil.disk_usage(check_target(path).parent).free
    if size > free:
        raise OSError(f"{path} needs {size / 1e9:,.1f} GB, but {free / 1e9:,.1f} GB are free on its disk")
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(real), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        origin = file.tell()

        def put(block: np.ndarray, row: int, column: int) -> None:
            whole = np.ascontiguousarray(block, real)
            for j, part in enumerate([whole] if whole.shape[1] == shape[1] else whole):
                file.seek(origin + ((row + j) * shape[1] + column) * real.itemsize)
                file.write(part.data)

        yield put


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it replaces `path` once the block ends well, else it is removed.

    Readers see the old file or the new one, never a part, also after a kill or a power cut.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(os.path.join(folder, "fit.json")) as temporary:
    ...         size = temporary.write_text("{}")
    ...     os.listdir(folder)
    ['fit.json']
    """
    target = check_target(path)
    stem = os.fsencode(target.stem)[:100].decode(errors="ignore")  # a name may have 255 bytes, whatever its letters
    temporary = target.with_name(f".{stem}.{secrets.token_hex(4)}.tmp{target.suffix}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        if target.exists():
            shutil.copymode(target, temporary)
        _sync(temporary)
        os.replace(temporary, target)
        _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def check_target(path: str | os.PathLike[str]) -> Path:
    """Return where writing to `path` ends (links followed); raise OSError unless a file can stand there."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {target.parent}")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"{path}: no permission to write to the folder {target.parent}")
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder, but must be a file")
    if target.exists() and not target.is_file():
        raise OSError(f"{path} is not a regular file")
    return target


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_transposed(layout: str, name: str) -> bool:
    if layout not in LAYOUTS:
        raise ValueError(f"{name}: layout must be {' or '.join(LAYOUTS)}, but is {layout!r}")
    return layout == LAYOUTS[1]


def _numpy_array(array: Any, name: str) -> np.ndarray:
    """`array` as NumPy has it; raise TypeError for what a file would lose or pickle."""
    dtype = getattr(array, "dtype", None)
    if getattr(dtype, "hasobject", False):
        raise TypeError(f"save_paths: {name} has dtype {dtype}, which would be pickled, but must hold numbers")
    return arrays.host_array(array, f"save_paths: {name}")


def _write_parquet(path: Path, matrix: np.ndarray, column: str) -> None:
    pyarrow, parquet = pyarrow_and_parquet()
    names = [f"{column}_{i}" for i in range(matrix.shape[1])]
    parquet.write_table(pyarrow.table([pyarrow.array(values) for values in matrix.T], names=names), path)
