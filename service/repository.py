"""What repository folders hold: ``<model>/<version>/``, and whatever else people leave there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # models.bundle.ModelName
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
# Kubernetes has folders such as ..data where it mounts something, beside the models.
_HIDDEN = re.compile(r"\.(?!\.)|\.\.(data|[0-9_]+\.[0-9]+)$")
# Of the file system and of Python; nobody meant them to be models.
_NOT_MODELS = frozenset({"lost+found", "__pycache__"})


@dataclass(frozen=True)
class Entry:
    """A version folder, not yet looked into."""

    repository: Path
    name: str
    version: int

    @property
    def key(self) -> str:
        """``name/version``."""
        return f"{self.name}/{self.version}"

    @property
    def path(self) -> Path:
        """The folder."""
        return self.repository / self.name / str(self.version)


@dataclass(frozen=True)
class Finding:
    """Something found: an entry, or a problem that somebody should hear of; ``key`` says where."""

    key: str
    entry: Entry | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """The model's name, or the folder at fault."""
        return self.entry.name if self.entry else self.key.partition("/")[0] or self.key


def survey(
    repositories: Sequence[Path],
    only: str | None = None,
    on_hidden: Callable[[Entry, Path], None] = lambda entry, owner: None,
) -> list[Finding]:
    """What several repositories hold, or of it one model.

    Of a name that several have, the first one's folder counts, so that a bundled model can be replaced; ``on_hidden``
    is called with each entry that is hidden so, and the repository that hides it.
    """
    findings: list[Finding] = []
    owners: dict[str, Path] = {}
    for repository in repositories:
        for finding in scan(repository, only):
            entry = finding.entry
            if entry is None or owners.setdefault(entry.name, repository) == repository:
                findings.append(finding)
            else:
                on_hidden(entry, owners[entry.name])
    return findings


def scan(repository: Path, only: str | None = None) -> Iterator[Finding]:
    """What a repository holds. Folders whose names begin with a dot and plain files are passed over."""
    try:
        names = _folders(repository)
    except OSError as error:
        yield Finding(str(repository.absolute()), problem=f"cannot be read: {error.strerror}")
        return
    for name in names:
        if only not in (None, name):
            continue
        if not _MODEL.fullmatch(name):
            yield Finding(name, problem="not a name for a model: letters, digits, '.', '_' and '-', at most 64")
        else:
            yield from _versions(repository, name)


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """The highest version of each model, then all others; so the answer to most requests is there first."""
    ordered = sorted(entries, key=lambda entry: (entry.name, -entry.version))
    highest = {entry.name: entry for entry in reversed(ordered)}
    return sorted(ordered, key=lambda entry: highest[entry.name] is not entry)


def _versions(repository: Path, name: str) -> Iterator[Finding]:
    try:
        versions = _folders(repository / name)
    except OSError as error:
        yield Finding(name, problem=f"cannot be read: {error.strerror}")
        return
    if not versions:
        yield Finding(name, problem="has no version folder")
    for version in versions:
        key = f"{name}/{version}"
        if not _VERSION.fullmatch(version):
            yield Finding(key, problem="not a version: positive whole numbers without leading zeros")
        # A link may lead anywhere; what is served is what stands in the repository.
        elif not (repository / name / version).resolve().is_relative_to(repository.resolve()):
            yield Finding(key, problem="a link that leads out of the repository")
        else:
            yield Finding(key, Entry(repository, name, int(version)))


def _folders(path: Path) -> list[str]:
    """Names of the folders, sorted, without hidden ones; two dots before a name hide nothing that should be seen."""
    return sorted(
        child.name
        for child in path.iterdir()
        if not _HIDDEN.match(child.name) and child.name not in _NOT_MODELS and child.is_dir()
    )
