"""Files are written whole or not at all, and arrays give the same bytes every time."""
import numpy as np
import pytest

from study import StudyError
from study.files import atomic_folder, save_arrays, write_atomically, write_json


def test_a_failed_write_keeps_the_old_content_and_leaves_no_part(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_json(path, {"not": object()})
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(StudyError, match=r"could not be written \(.*\); free some space or fix the folder"):
        write_atomically(tmp_path / "blocked" / "file.txt", b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_parts_of_killed_processes_are_removed(tmp_path):
    stale = tmp_path / ".file.txt.999999999.part"
    stale.write_bytes(b"half")
    write_atomically(tmp_path / "file.txt", b"whole")
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


def test_a_folder_is_replaced_only_when_it_is_complete(tmp_path):
    folder = tmp_path / "corpus"
    with atomic_folder(folder) as part:
        (part / "old").touch()
    with pytest.raises(FileNotFoundError), atomic_folder(folder) as part:
        (part / "half").rename(part / "missing" / "half")
    assert [file.name for file in folder.iterdir()] == ["old"]
    with atomic_folder(folder) as part:
        (part / "new").touch()
    assert [file.name for file in folder.iterdir()] == ["new"]
    assert [file.name for file in tmp_path.iterdir()] == ["corpus"]


def test_arrays_come_back_and_do_not_depend_on_the_order_of_names(tmp_path):
    arrays = {"b/x": np.arange(6).reshape(2, 3).T, "a": np.array([0.5, np.inf])}
    save_arrays(arrays, tmp_path / "one.npz")
    save_arrays(dict(reversed(arrays.items())), tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz") as file:
        assert all((file[name] == array).all() for name, array in arrays.items())
