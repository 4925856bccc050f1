from __future__ import annotations

from pathlib import Path

import pytest

from service import keys
from service.settings import Settings, SettingsError, read_settings
from tests.command_line import run


def test_a_key_is_printed_once_and_kept_by_its_hash_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    made = [run("key", name, "--file", str(file))[1].strip() for name in ("ada", "bob@example.org")]
    assert len(set(made)) == 2
    text = file.read_text()
    assert not any(key in text for key in made)
    kept = keys.read(file)
    assert [keys.owner(kept, key.encode()) for key in made] == ["ada", "bob@example.org"]
    assert keys.owner(kept, b"lmht_guess") is None
    assert Settings(api_keys_file=file).api_keys_file == file
    file.write_text(text.rstrip())  # as some editors leave it
    run("key", "eve", "--file", str(file))
    assert [key.name for key in keys.read(file)] == ["ada", "bob@example.org", "eve"]


@pytest.mark.parametrize("name", ["", "a b", "#", "a\nb", "x" * 65])
def test_a_name_that_cannot_stand_in_the_file_is_refused(tmp_path: Path, name: str) -> None:
    code, shown, complaint = run("key", name, "--file", str(tmp_path / "keys"))
    assert (code, shown) == (1, "")
    assert "no name for a key" in complaint
    assert not (tmp_path / "keys").exists()


def test_a_second_key_of_one_name_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    run("key", "ada", "--file", str(file))
    before = file.read_text()
    code, shown, complaint = run("key", "ada", "--file", str(file))
    assert (code, shown) == (1, "")
    assert "already" in complaint
    assert file.read_text() == before
    assert run("key", "ada", "--file", str(tmp_path))[0] == 1
    file.write_text("no key\n")
    assert "line 1" in run("key", "bob", "--file", str(file))[2]


def test_a_server_does_not_start_with_keys_that_it_cannot_read(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("ada sha256:xyz\n")
    with pytest.raises(SettingsError, match=r"LMHT_API_KEYS_FILE: line 1 of .* is not 'NAME sha256:HEX'"):
        read_settings(api_keys_file=file)
