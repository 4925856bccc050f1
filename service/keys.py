"""API keys: made here, and kept in a file by their hashes alone.

A line of the file is ``NAME sha256:HEX``; ``#`` begins a comment. A key has 256 random bits, so that a plain hash
cannot be turned back by guessing, as that of a password could.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

PREFIX = "lmht_"
_LINE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._@-]{0,63})\s+sha256:(?P<hash>[0-9a-f]{64})")


@dataclass(frozen=True)
class Key:
    """Somebody's key: the name that it was made for, and its SHA-256."""

    name: str
    digest: bytes


def make() -> str:
    """A new key."""
    return PREFIX + secrets.token_urlsafe(32)


def line(name: str, key: str) -> str:
    """The line of the file for a key. Raises ValueError for a name that cannot stand there."""
    text = f"{name} sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    if not _LINE.fullmatch(text):
        raise ValueError(f"{name!r} is no name for a key: letters, digits, '.', '_', '@' and '-', at most 64")
    return text


def read(path: Path) -> tuple[Key, ...]:
    """The keys of a file, at least one. Raises ValueError, which names the line at fault."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    found = []
    for number, text in enumerate(lines, 1):
        text = text.partition("#")[0].strip()
        if not text:
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise ValueError(f"line {number} of {str(path)!r} is not 'NAME sha256:HEX'")
        found.append(Key(match["name"], bytes.fromhex(match["hash"])))
    if not found:
        raise ValueError(f"{str(path)!r} has no key")
    return tuple(found)


def owner(keys: tuple[Key, ...], key: bytes) -> str | None:
    """Whose key it is, None for nobody's; takes as long either way, and whichever of them it is."""
    digest = hashlib.sha256(key).digest()
    name = None
    for each in keys:
        if hmac.compare_digest(each.digest, digest):
            name = each.name
    return name
