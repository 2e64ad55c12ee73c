"""Files that can be read: every format and dialect, and the array that comes out."""

import json

import numpy as np
import pytest

from fastlam import arrays, data
from fastlam.data import load_paths, load_targets, load_times, save_paths

SUFFIXES = (".npy", ".npz", ".csv", ".parquet")


def matrix() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 6))


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(arrays, "available_memory", lambda: 100)


def test_npy_is_mapped_and_read_only(tmp_path):
    save_paths(tmp_path / "x.npy", matrix())
    for layout in data.LAYOUTS:
        x = load_paths(tmp_path / "x.npy", layout)
        assert isinstance(x, np.memmap)
        assert not x.flags.writeable


@pytest.mark.parametrize("dtype", ["int8", "uint64", "int32", "float16", ">f4", ">f8", ">i2"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_other_real_numbers(tmp_path, suffix, dtype):
    x = np.arange(6).reshape(2, 3).astype(dtype)
    (np.save if suffix == ".npy" else np.savez)(tmp_path / f"x{suffix}", x)
    back = load_paths(tmp_path / f"x{suffix}")
    assert back.dtype.name == ("float32" if dtype == ">f4" else "float64")
    np.testing.assert_array_equal(back, np.arange(6).reshape(2, 3))


def test_fortran_order(tmp_path):
    np.save(tmp_path / "x.npy", np.asfortranarray(matrix()))
    np.testing.assert_array_equal(load_paths(tmp_path / "x.npy"), matrix())


def test_npz_by_name(tmp_path):
    np.savez(tmp_path / "both.npz", x=matrix(), k=np.arange(4.0), more=np.ones(3))
    np.testing.assert_array_equal(load_paths(tmp_path / "both.npz"), matrix())
    np.testing.assert_array_equal(load_targets(tmp_path / "both.npz"), np.arange(4.0))
    np.savez_compressed(tmp_path / "one.npz", whatever=matrix())
    np.testing.assert_array_equal(load_paths(tmp_path / "one.npz"), matrix())


def test_times(tmp_path):
    np.savez(tmp_path / "x.npz", x=matrix(), times=np.arange(4))
    times = load_times(tmp_path / "x.npz", 4)
    assert times.dtype == np.float64
    np.testing.assert_array_equal(times, np.arange(4))
    with pytest.raises(
        ValueError, match=r"times must have shape \(5,\), one for each time of the paths, but has \(4,\)"
    ):
        load_times(tmp_path / "x.npz", 5)


def test_files_without_times(tmp_path):
    for suffix in SUFFIXES:
        save_paths(tmp_path / f"x{suffix}", matrix())
        assert load_times(tmp_path / f"x{suffix}", 4) is None
    np.savez(tmp_path / "alone.npz", times=matrix())  # the only array: it is the paths
    assert load_times(tmp_path / "alone.npz", 4) is None


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4\n",
        "a,b\n1,2\n3,4",
        "\n\n a , b \n\n1 , 2\n\n3,4\n\n",
        "\ufeff1,2\r\n3,4\r\n",
        "\ufeffa,b\r\n1,2\r\n3,4\r\n",
        "1e0,+2.\n0.3E1,4",
    ],
)
def test_csv_dialects(tmp_path, text):
    (tmp_path / "x.csv").write_bytes(text.encode())
    np.testing.assert_array_equal(load_paths(tmp_path / "x.csv"), [[1, 2], [3, 4]])


def test_parquet_columns(tmp_path):
    import pyarrow
    import pyarrow.parquet

    columns = {"whole": pyarrow.array([1, 2], "int32"), "half": pyarrow.array(np.array([3, 4], np.float16))}
    table = pyarrow.table(columns | {"index": pyarrow.array([7, 8])})
    pandas = b'{"index_columns": ["index"], "column_indexes": [], "columns": [], "pandas_version": "2.0"}'
    path = tmp_path / "seed=7" / "x.parquet"  # whose folder's name is no column
    path.parent.mkdir()
    pyarrow.parquet.write_table(table.replace_schema_metadata({b"pandas": pandas}), path)
    np.testing.assert_array_equal(load_paths(path), [[1, 3], [2, 4]])
    pyarrow.parquet.write_table(table, path)
    np.testing.assert_array_equal(load_paths(path), [[1, 3, 7], [2, 4, 8]])


INDEX = {  # as pandas writes it: text, times, and two levels of which one has a name
    "text": {"__index_level_0__": ["a", "b"]},
    "timestamp": {"__index_level_0__": np.array(["2026-01-01", "2026-01-02"], "M8[us]")},
    "levels": {"day": ["a", "b"], "__index_level_1__": [1, 2]},
}


def parquet(path, columns, note):
    """A .parquet file with pandas' note in it, given as text."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(columns).replace_schema_metadata({"pandas": note})
    pyarrow.parquet.write_table(table, path)


@pytest.mark.parametrize("index", INDEX.values(), ids=INDEX)
@pytest.mark.parametrize("layout", data.LAYOUTS)
def test_the_index_of_pandas_is_left_out(tmp_path, index, layout):
    parquet(
        tmp_path / "x.parquet", {"0": [1.0, 2.0], "1": [3.0, 4.0], **index}, json.dumps({"index_columns": [*index]})
    )
    expected = np.array([[1.0, 3.0], [2.0, 4.0]])
    np.testing.assert_array_equal(
        load_paths(tmp_path / "x.parquet", layout), expected if layout == data.LAYOUTS[0] else expected.T
    )


@pytest.mark.parametrize(
    "note",
    [
        '{"index_columns": [{"kind": "range", "name": null, "start": 0, "stop": 2, "step": 1}]}',  # as pandas writes it
        *("{}", "[]", "null", '"a"', "not json", "[" * 100_000, '{"index_columns": null}', '{"index_columns": "a"}'),
        *('{"index_columns": {"a": 1}}', '{"index_columns": [["a"], 1, null, {"a": "a"}]}', '{"index_columns": ["b"]}'),
    ],
)
def test_a_note_that_names_no_column_is_not_believed(tmp_path, note):
    parquet(tmp_path / "x.parquet", {"a": [1.0, 2.0]}, note)
    np.testing.assert_array_equal(load_paths(tmp_path / "x.parquet"), [[1.0], [2.0]])


def test_a_note_that_names_every_column_leaves_no_paths(tmp_path):
    parquet(tmp_path / "x.parquet", {"a": [1.0, 2.0]}, '{"index_columns": ["a"]}')
    with pytest.raises(ValueError, match=r"x\.parquet holds an array of shape \(2, 0\)"):
        load_paths(tmp_path / "x.parquet")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_paths_are_contiguous_where_the_reader_can_choose(tmp_path, suffix):
    """A reduction reads rows in place: a table with a path a row is turned while it is read."""
    if suffix == ".parquet":
        save_paths(tmp_path / "x.parquet", matrix(), "paths-by-times")
        assert load_paths(tmp_path / "x.parquet", "paths-by-times").flags.c_contiguous
    save_paths(tmp_path / f"x{suffix}", matrix())
    assert load_paths(tmp_path / f"x{suffix}").flags.c_contiguous


@pytest.mark.parametrize("shape", [(3,), (3, 1), (1, 3), (1, 3, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_targets(tmp_path, shape, dtype):
    np.save(tmp_path / "k.npy", np.arange(3, dtype=dtype).reshape(shape))
    k = load_targets(tmp_path / "k.npy")
    assert k.dtype == np.float64
    np.testing.assert_array_equal(k, [0, 1, 2])


@pytest.mark.parametrize("text", ["k\n1\n2\n", "1,2\n", "1\n2"])
def test_targets_in_csv(tmp_path, text):
    (tmp_path / "k.csv").write_text(text)
    np.testing.assert_array_equal(load_targets(tmp_path / "k.csv"), [1, 2])


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_more_than_memory_is_refused(tmp_path, suffix, little_memory):
    save_paths(tmp_path / f"x{suffix}", matrix())
    with pytest.raises(MemoryError, match=r"x\..* needs .* write it as float32 or float64 \.npy"):
        load_paths(tmp_path / f"x{suffix}")


def test_npy_needs_no_memory_but_for_conversion(tmp_path, little_memory):
    save_paths(tmp_path / "x.npy", matrix())
    assert load_paths(tmp_path / "x.npy").shape == (4, 6)
    np.save(tmp_path / "i.npy", np.ones((4, 6), int))
    with pytest.raises(MemoryError, match="float64 from int64"):
        load_paths(tmp_path / "i.npy")
