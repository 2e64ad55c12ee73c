"""The array in a file, by the file's suffix. Nothing that a file claims is believed before it is checked."""

from __future__ import annotations

import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from fastlam import arrays

AS_NPY = "write it as float32 or float64 .npy, which is read without loading it"

_OTHER_DELIMITER = re.compile(r"\d[\t; ]+[-+.\d]")

UNREADABLE_ZIP = (  # what zipfile raises on damaged files, by trial
    zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError, UnicodeDecodeError
)  # fmt: skip


def read_array(path: Path, name: str, transposed: bool = False) -> np.ndarray:
    """Return the array in a file as float32 or float64.

    Parameters
    ----------
    path : Path
        `.npy` (memory-mapped where no conversion is needed), `.npz`, `.csv` or `.parquet`.
    name : str
        Which array of a `.npz` that holds several.
    transposed : bool
        Of a `.parquet`, whether the columns rather than the rows are wanted contiguous.

    Raises
    ------
    OSError, ValueError, TypeError, ImportError, MemoryError
        No such file, not what its suffix says, no real numbers, pyarrow missing, too large.
    """
    suffix = check_suffix(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, but must be a file")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise OSError(f"{path} is not a regular file")
    with path.open("rb") as file:
        if not file.read(1):
            raise ValueError(f"{path} is empty")
    array = _READERS[suffix](path, name, transposed)
    if array.dtype.name in arrays.FLOATS:
        return array
    arrays.check_memory(8 * array.size, f"{path}: float64 from {array.dtype}", AS_NPY)
    return array.astype(np.float64)


def holds_times(path: Path) -> bool:
    """Whether a file is a .npz that holds an array `times` beside its paths."""
    if check_suffix(path) != ".npz":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except UNREADABLE_ZIP as error:
        raise ValueError(f"{path} is not a readable .npz file: {error}") from None
    return "times" in names and len(names) > 1


def check_suffix(path: Path) -> str:
    """Return the suffix of `path` in lower case; raise ValueError unless it is one that fastlam reads and writes."""
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise ValueError(f"{path} has the suffix {suffix!r}, but must have one of {', '.join(_READERS)}")
    return suffix


def _read_npy(path: Path, name: str, transposed: bool) -> np.ndarray:
    with path.open("rb") as file:
        _check_header(file, path.stat().st_size, str(path))
    mapped: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def _read_npz(path: Path, name: str, transposed: bool) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive:
            member = _choose(archive.infolist(), name, path)
            with archive.open(member) as file:
                size = _check_header(file, member.file_size, f"{path}: {member.filename}")
            arrays.check_memory(size, str(path), AS_NPY)
            with archive.open(member) as file:
                return np.lib.format.read_array(file, allow_pickle=False)
    except UNREADABLE_ZIP as error:
        raise ValueError(f"{path} is not a readable .npz file: {error}") from None


def _choose(members: list[zipfile.ZipInfo], name: str, path: Path) -> zipfile.ZipInfo:
    stored = {member.filename.removesuffix(".npy"): member for member in members}
    if name not in stored and len(stored) != 1:
        raise ValueError(f"{path} must hold one array, or one named {name}, but holds {', '.join(stored) or 'none'}")
    return stored.get(name) or members[0]


def _check_header(file: IO[bytes], size: int, name: str) -> int:
    """Bytes of data that a .npy header claims; raise unless they are real numbers and `size` holds exactly them."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except Exception as error:  # a header is text that anyone may have written: NumPy's parser fails in many ways
        raise ValueError(f"{name} is not a .npy file: {str(error).partition(chr(10))[0]}") from None
    if not (dtype.kind in "iu" or (dtype.kind == "f" and dtype.itemsize <= 8)):
        raise TypeError(f"{name} has dtype {dtype}, but must have float32, float64, float16 or an integer type")
    claimed, held = math.prod(shape) * int(dtype.itemsize), size - file.tell()
    if min(shape, default=0) < 0 or claimed != held:
        raise ValueError(
            f"{name}: its header claims shape {shape} and dtype {dtype}, {claimed:,} bytes, but {held:,} bytes follow"
        )
    return claimed


def _read_csv(path: Path, name: str, transposed: bool) -> np.ndarray:
    try:
        skipped, width, length = _csv_shape(path)
        numbers = width * path.stat().st_size // length
        arrays.check_memory(8 * numbers, str(path), AS_NPY)
        try:
            return np.loadtxt(path, delimiter=",", comments=None, skiprows=skipped, ndmin=2, encoding="utf-8-sig")
        except ValueError as error:
            raise ValueError(_csv_fault(path, skipped) or f"{path}: {error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error.reason} at byte {error.start}") from None


def _csv_shape(path: Path) -> tuple[int, int, int]:
    """Lines up to the end of the header, numbers in the first line of numbers, and its length."""
    with path.open(encoding="utf-8-sig") as file:
        lines = ((number, line.split(",")) for number, line in enumerate(file, 1) if line.strip())
        skipped, (first, cells) = 0, next(lines, (0, []))
        if cells and not any(map(_is_number, cells)):
            skipped, cells = first, next(lines, (0, []))[1]
    if not cells:
        raise ValueError(f"{path} has no number in it")
    return skipped, len(cells), len(",".join(cells))


def _csv_fault(path: Path, skipped: int) -> str | None:
    """The first line of a .csv that cannot be read, in words."""
    width = 0
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            cells = line.strip().split(",")
            if number <= skipped or cells == [""]:
                continue
            for column, cell in enumerate(cells, 1):
                if not _is_number(cell):
                    remedy = ": between numbers there must be commas" if _OTHER_DELIMITER.search(cell.strip()) else ""
                    return f"{path}, line {number}, column {column}: {cell.strip()[:40]!r} is not a number{remedy}"
            width = width or len(cells)
            if len(cells) != width:
                return f"{path}, line {number} has {len(cells)} numbers, but the lines before have {width}"
    return None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python reads 1_000; NumPy does not


def pyarrow_and_parquet() -> tuple[Any, Any]:
    """Return the modules pyarrow and pyarrow.parquet; raise ImportError that says how to get them."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError('a .parquet file needs pyarrow: pip install "fastlam[data]"') from None
    return pyarrow, pyarrow.parquet


def _read_parquet(path: Path, name: str, transposed: bool) -> np.ndarray:
    pyarrow, parquet = pyarrow_and_parquet()
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            index = _index_of_pandas(schema.metadata or {})
            fields = [field for field in schema if field.name not in index]
            for field in fields:
                if not (pyarrow.types.is_floating(field.type) or pyarrow.types.is_integer(field.type)):
                    raise TypeError(f"{path}: column {field.name!r} holds {field.type}, but must hold real numbers")
            arrays.check_memory(2 * 8 * file.metadata.num_rows * len(fields), str(path), AS_NPY)
            return _matrix(file.read(columns=[field.name for field in fields]), transposed, path)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a readable .parquet file: {str(error).partition(chr(10))[0]}") from None


def _index_of_pandas(metadata: dict[bytes, bytes]) -> set[str]:
    """Names of the columns that pandas keeps its index in, as far as its note in the file makes sense."""
    try:
        note = json.loads(metadata.get(b"pandas", b"{}"))
    except (ValueError, RecursionError):
        return set()
    names = note.get("index_columns") if isinstance(note, dict) else None
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def _matrix(table: Any, transposed: bool, path: Path) -> np.ndarray:
    """The columns of a table side by side."""
    single = all(str(kind) == "float" for kind in table.schema.types)
    matrix = np.empty(table.shape, np.float32 if single else np.float64, order="F" if transposed else "C")
    for i, name in enumerate(table.schema.names):
        if table.column(i).null_count:
            raise ValueError(f"{path}: column {name!r} has missing values")
        matrix[:, i] = table.column(i).to_numpy()
    return matrix


_READERS: dict[str, Callable[[Path, str, bool], np.ndarray]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
