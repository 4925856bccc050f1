from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from service.engines.cpu.store import Store

ARRAYS = {"blob": np.arange(1000, dtype=np.uint8), "names": np.array(["a", "bc"]), "matrix/a": np.eye(3)}


def equal(found: dict[str, np.ndarray] | None) -> bool:
    return (
        found is not None
        and found.keys() == ARRAYS.keys()
        and all(np.array_equal(found[name], value) for name, value in ARRAYS.items())
    )


def test_what_is_kept_comes_back_in_another_process_too(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    store = Store(folder)
    assert store.get("key") is None
    assert not folder.exists()
    store.put("key", ARRAYS)
    assert equal(store.get("key"))
    assert equal(Store(folder).get("key"))
    assert Store(folder).get("another") is None


def test_the_folder_is_its_owners_alone(tmp_path: Path) -> None:
    Store(tmp_path / "folder").put("key", ARRAYS)
    assert (tmp_path / "folder").stat().st_mode & 0o077 == 0
    assert [path.stat().st_mode & 0o077 for path in (tmp_path / "folder").iterdir()] == [0]


def test_a_folder_that_others_can_write_to_is_not_trusted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path / "folder")
    store.put("key", ARRAYS)
    (tmp_path / "folder").chmod(0o777)
    for each in (store, Store(tmp_path / "folder")):
        caplog.clear()
        assert each.get("key") is None
        each.put("other", ARRAYS)
        assert [record.getMessage() for record in caplog.records] == [
            f"compiled graphs are not kept in {tmp_path / 'folder'}: everybody may write to it"
        ]
    assert len(list((tmp_path / "folder").iterdir())) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_a_folder_of_another_user_is_not_trusted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Store(tmp_path / "folder").put("key", ARRAYS)
    os.chown(tmp_path / "folder", 12345, 12345)
    assert Store(tmp_path / "folder").get("key") is None
    assert "it belongs to another user" in caplog.text


def test_a_folder_that_cannot_be_made_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    store = Store(tmp_path / "file" / "folder")
    for _ in range(3):
        store.put("key", ARRAYS)
        assert store.get("key") is None
    assert len(caplog.records) == 1
    assert "are not kept in" in caplog.text


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_space(file: object, **arrays: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", no_space)
    Store(tmp_path).put("key", ARRAYS)
    assert not any(tmp_path.iterdir())
    assert "No space left on device" in caplog.text


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number, name in enumerate(("old", "used", "new")):
        store.put(name, ARRAYS)
        os.utime(tmp_path / f"{name}.npz", (number, number))
    size = (tmp_path / "new.npz").stat().st_size
    assert store.get("old") is not None  # which uses it
    os.utime(tmp_path / "new.npz", (3, 3))
    Store(tmp_path, limit_bytes=3 * size).put("newest", ARRAYS)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["new", "newest", "old"]


def test_what_a_killed_process_left_is_swept_up_later(tmp_path: Path) -> None:
    for name, age in (("fresh.part", 10), ("old.part", 7200)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    Store(tmp_path).put("key", ARRAYS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh.part", "key.npz"]


def test_processes_that_keep_the_same_at_once_do_no_harm(tmp_path: Path) -> None:
    code = textwrap.dedent("""
        import sys
        import numpy as np
        from pathlib import Path
        from service.engines.cpu.store import Store
        store = Store(Path(sys.argv[1]))
        for _ in range(100):
            store.put("key", {"blob": np.arange(100_000)})
            found = store.get("key")
            assert found is not None and found["blob"].sum() == 4999950000
    """)
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["key.npz"]


def test_pickles_are_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "key.npz", blob=np.array([object()], dtype=object))
    tmp_path.chmod(0o700)
    assert Store(tmp_path).get("key") is None
