"""API keys and the file that has their hashes."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

import pytest

from service import keys
from service.settings import Settings, SettingsError, read_settings


def write(path: Path, *lines: str) -> Path:
    (path / "keys").write_text("\n".join(lines), encoding="utf-8")
    return path / "keys"


def test_a_key_has_256_random_bits_and_says_whose_it_is() -> None:
    made = {keys.make() for _ in range(100)}
    assert len(made) == 100
    for key in made:
        assert key.startswith("lmht_")
        assert len(key) - len("lmht_") == 43  # 256 bits at 6 a character
        assert key.isascii()


def test_the_file_has_a_keys_hash_and_not_the_key(tmp_path: Path) -> None:
    key = keys.make()
    line = keys.line("alice", key)
    assert line == f"alice sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    assert key not in line
    (found,) = keys.read(write(tmp_path, line))
    assert found == keys.Key("alice", hashlib.sha256(key.encode()).digest())


def test_a_key_has_an_owner_and_another_has_none(tmp_path: Path) -> None:
    made = {name: keys.make() for name in ("alice", "bob@example.org", "ci-2.main_x")}
    found = keys.read(write(tmp_path, *(keys.line(name, key) for name, key in made.items())))
    for name, key in made.items():
        assert keys.owner(found, key.encode()) == name
        for wrong in (key[:-1], key + "a", key.upper(), name, f"{key} ", ""):
            assert keys.owner(found, wrong.encode()) is None
    assert keys.owner(found, b"\xff\x00") is None
    assert keys.owner(found, found[0].digest) is None  # a hash, which the file gives away, is no key


def test_every_key_is_compared_whichever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [keys.make() for _ in range(4)]
    found = keys.read(write(tmp_path, *(keys.line(f"number{n}", key) for n, key in enumerate(made))))
    seen: list[bytes] = []
    compare = hmac.compare_digest

    def spy(known: bytes, presented: bytes) -> bool:
        seen.append(known)
        assert len(known) == len(presented) == 32
        return compare(known, presented)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    for key in (*made, "lmht_nobodys", ""):
        seen.clear()
        keys.owner(found, key.encode())
        assert seen == [each.digest for each in found]


@pytest.mark.parametrize("name", ["", " ", "-alice", "al ice", "alice#", "älice", "a" * 65, "a\nb", ".hidden"])
def test_a_name_that_cannot_stand_in_the_file_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name for a key"):
        keys.line(name, keys.make())


def test_comments_blank_lines_and_spaces_are_passed_over(tmp_path: Path) -> None:
    key = keys.make()
    name, _, digest = keys.line("alice", key).partition(" ")
    file = write(tmp_path, "# who may classify", "", "   ", f"  {name}\t  {digest}  # until May", "#bob sha256:0", "")
    assert [each.name for each in keys.read(file)] == ["alice"]


GOOD = keys.line("alice", "lmht_good")


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        "sha256:" + "0" * 64,
        "alice " + "0" * 64,
        "alice sha256:" + "0" * 63,
        "alice sha256:" + "0" * 65,
        "alice sha256:" + "g" * 64,
        "alice sha512:" + "0" * 64,
        f"{GOOD} more",
        "al,ice sha256:" + "0" * 64,
        "lmht_a-key-itself",
    ],
)
def test_a_line_that_is_none_is_named_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    file = write(tmp_path, "# a comment", GOOD, "", line, GOOD)
    with pytest.raises(ValueError, match=r"line 4 of .* is not 'NAME sha256:HEX'") as refused:
        keys.read(file)
    assert line not in str(refused.value)  # it may be a key, and this text goes to a log
    monkeypatch.setenv("LMHT_API_KEYS_FILE", str(file))
    with pytest.raises(SettingsError, match=r"LMHT_API_KEYS_FILE: line 4 of"):
        read_settings()


@pytest.mark.parametrize("lines", [(), ("# nobody yet", "")], ids=["empty", "comments alone"])
def test_a_file_without_a_key_would_let_nobody_in_and_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...]
) -> None:
    monkeypatch.setenv("LMHT_API_KEYS_FILE", str(write(tmp_path, *lines)))
    with pytest.raises(SettingsError, match=r"LMHT_API_KEYS_FILE: .* has no key"):
        read_settings()


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMHT_API_KEYS_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match=r"LMHT_API_KEYS_FILE: .*nowhere' cannot be read: No such file"):
        read_settings()
    monkeypatch.setenv("LMHT_API_KEYS_FILE", str(tmp_path))
    with pytest.raises(SettingsError, match=r"LMHT_API_KEYS_FILE: .* cannot be read: Is a directory"):
        read_settings()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    monkeypatch.setenv("LMHT_API_KEYS_FILE", str(tmp_path / "binary"))
    with pytest.raises(SettingsError, match=r"LMHT_API_KEYS_FILE: .*binary' cannot be read"):
        read_settings()
    if os.geteuid() != 0:  # the superuser may read everything
        file = write(tmp_path, GOOD)
        file.chmod(0)
        monkeypatch.setenv("LMHT_API_KEYS_FILE", str(file))
        with pytest.raises(SettingsError, match=r"LMHT_API_KEYS_FILE: .* cannot be read: Permission denied"):
            read_settings()


def test_without_the_setting_there_are_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().api_keys_file is None
    monkeypatch.setenv("LMHT_API_KEYS_FILE", "")
    assert read_settings().api_keys_file is None


def test_an_admin_token_is_not_shown_and_not_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMHT_ADMIN_TOKEN", "a secret of some length")
    assert "secret of" not in repr(read_settings())
    monkeypatch.setenv("LMHT_ADMIN_TOKEN", "tooshrt")
    with pytest.raises(SettingsError, match="LMHT_ADMIN_TOKEN"):
        read_settings()
