"""Compiled graphs on disk: arrays by name, in files that are named by all that they depend on.

The folder is as trusted as the code: what is compiled ends as machine code. So it is made for its owner alone, and one
that others could write to is not used.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_LIMIT_BYTES = 1024**3
_SUFFIX, _UNFINISHED = ".npz", ".part"
_ABANDONED_S = 3600.0
_log = logging.getLogger("lmht")


class Store:
    """Files in a folder. Whatever is wrong with it is said once, and nothing is kept then.

    Several processes may use one folder: a file appears whole or not at all.

    Args:
        folder: made when something is first kept.
        limit_bytes: beyond it, files that were not used for longest are deleted.
    """

    def __init__(self, folder: Path, limit_bytes: int = _LIMIT_BYTES) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._usable = True

    def get(self, key: str) -> dict[str, npt.NDArray[Any]] | None:
        """What was kept under a key; None where nothing was, or the file is damaged."""
        path = self._folder / f"{key}{_SUFFIX}"
        try:
            if not self._usable or not path.is_file() or not self._is_safe():
                return None
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:  # each array has a checksum
                arrays = dict(kept)
            with suppress(OSError):  # a folder that can only be read is of use too
                os.utime(path)
            return arrays
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError, NotImplementedError) as error:
            _log.warning("the compiled graph %s cannot be read and is made anew: %s", path, error)
            return None

    def put(self, key: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keep something, and delete what there is no room for."""
        if not self._usable:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._is_safe():
                return
            with tempfile.NamedTemporaryFile(dir=self._folder, suffix=_UNFINISHED, delete=False) as file:
                unfinished = Path(file.name)
                try:
                    np.savez(file, **arrays)  # type: ignore[arg-type]  # one of its own arguments is no array
                    file.close()
                    unfinished.replace(self._folder / f"{key}{_SUFFIX}")
                except BaseException:
                    unfinished.unlink(missing_ok=True)
                    raise
            self._make_room()
        except OSError as error:
            self._give_up(str(error))

    def _make_room(self) -> None:
        files = []
        with suppress(FileNotFoundError):  # another process made room
            for path in self._folder.glob(f"*{_UNFINISHED}"):  # of a process that was killed
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                state = path.stat()
                files.append((state.st_mtime, state.st_size, path))
        size = sum(size for _, size, _ in files)
        for _, own, path in sorted(files):
            if size <= self._limit_bytes:
                break
            path.unlink(missing_ok=True)
            size -= own

    def _is_safe(self) -> bool:
        state = self._folder.stat()
        if hasattr(os, "geteuid") and state.st_uid not in (os.geteuid(), 0):
            self._give_up("it belongs to another user")
        elif state.st_mode & stat.S_IWOTH:
            self._give_up("everybody may write to it")
        return self._usable

    def _give_up(self, why: str) -> None:
        if self._usable:
            _log.warning("compiled graphs are not kept in %s: %s", self._folder, why)
        self._usable = False
