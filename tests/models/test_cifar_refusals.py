"""What is not CIFAR as published is refused with the reason, and nothing in a pickle is run."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.data import batch_pickle, cifar, load
from models.data.cifar import COLLECTIONS
from tests.models import published_cifar as published
from tests.models.published_cifar import (
    ARCHIVES,
    FOLDERS,
    KINDS,
    NAMES,
    Kind,
    Name,
    Photographs,
    Put,
    content,
    originals,
    pack,
    small,
    unpack,
)


def test_a_data_set_in_a_folder_is_not_read_without_one() -> None:
    with pytest.raises(ValueError, match="'cifar10' is read from a folder"):
        load("cifar10", "test")


def test_a_folder_that_nothing_would_be_read_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'mnist' comes with a package"):
        load("mnist", "test", tmp_path)


def test_an_empty_folder_is_refused_with_all_that_was_looked_for(tmp_path: Path) -> None:
    for name in NAMES:
        with pytest.raises(ValueError, match="found none") as raised:
            load(name, "test", tmp_path)
        for kind in KINDS:
            assert FOLDERS[name, kind] in str(raised.value)
            assert ARCHIVES[name, kind] in str(raised.value)
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        load("cifar10", "test", tmp_path / "nowhere")


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    unknown: Any = "all"
    with pytest.raises(KeyError):
        load("cifar10", unknown, tmp_path)


@pytest.mark.parametrize("put", [unpack, pack])
@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_is_named(put: Put, kind: Kind, tmp_path: Path) -> None:
    files = content("cifar10", kind)
    gone = next(name for name in files if "batch_3" in name)
    del files[gone]
    put(tmp_path, "cifar10", kind, files)
    with pytest.raises(ValueError, match=f"{gone} missing"):
        cifar.pixels(small("cifar10"), "train", tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_short_is_named(kind: Kind, tmp_path: Path) -> None:
    files = content("cifar10", kind)
    name = next(name for name in files if name.startswith("test_batch"))
    whole = files[name]
    # The third is between two records of the binary version; of a pickle the last byte alone says that it is whole.
    for size in (0, 1, 5 * 3073, len(whole) - 3073, len(whole) - 1):
        unpack(tmp_path, "cifar10", kind, {name: whole[:size]})
        problem = f"{size} bytes, where 20 images take 61460" if kind == "binary" else "damaged or cut short"
        with pytest.raises(ValueError, match=f"{name}: {problem}"):
            cifar.pixels(small("cifar10"), "test", tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_was_cut_short_or_altered_is_refused(kind: Kind, tmp_path: Path) -> None:
    path = pack(tmp_path, "cifar10", kind, content("cifar10", kind))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-6] ^= 1  # the checksum
    for damaged in (b"", b"text", whole[:10], whole[: len(whole) // 2], whole[:-9], whole[:-1], bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=path.name):
            cifar.pixels(small("cifar10"), "test", tmp_path)
    for damage in range(0, len(whole), len(whole) // 20):
        altered = bytearray(whole)
        altered[damage] ^= 0xFF
        path.write_bytes(altered)
        with pytest.raises(ValueError, match=path.name):
            cifar.pixels(small("cifar10"), "test", tmp_path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_label_without_a_class_is_refused(name: Name, kind: Kind, tmp_path: Path) -> None:
    _, test = originals(name)
    classes = len(COLLECTIONS[name].classes)
    wrong = Photographs(test.pixels, [*test.labels[:-1], classes])
    unpack(tmp_path, name, kind, content(name, kind, test=wrong))
    with pytest.raises(ValueError, match=f"image {len(test.labels) - 1} has the label {classes}; there are 0 to"):
        cifar.pixels(small(name), "test", tmp_path)


@pytest.mark.parametrize("label", [-1, True, b"7", None, 3000])
def test_a_label_that_is_no_number_of_a_class_is_refused(label: Any, tmp_path: Path) -> None:
    _, test = originals("cifar10")
    wrong = Photographs(test.pixels, [label, *test.labels[1:]])
    unpack(tmp_path, "cifar10", "python", content("cifar10", "python", test=wrong))
    with pytest.raises(ValueError, match="image 0 has the label"):
        cifar.pixels(small("cifar10"), "test", tmp_path)


def test_classes_of_unequal_size_are_refused(tmp_path: Path) -> None:
    _, test = originals("cifar10")
    changed = Photographs(test.pixels, [(test.labels[0] + 1) % 10, *test.labels[1:]])
    unpack(tmp_path, "cifar10", "binary", content("cifar10", "binary", test=changed))
    with pytest.raises(ValueError, match="1 to 3 test images of a class"):
        cifar.pixels(small("cifar10"), "test", tmp_path)


def bomb(target: Path) -> bytes:
    """A pickle that makes a file when it is read as pickles are."""
    text = f"touch {target}".encode()
    return b"\x80\x02cos\nsystem\n" + published.opcodes((text,)) + b"R."


def test_the_bomb_of_these_tests_goes_off_when_it_is_unpickled(tmp_path: Path) -> None:
    assert pickle.loads(bomb(tmp_path / "made")) == 0
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize("put", [unpack, pack])
@pytest.mark.parametrize("file", ["test_batch", "batches.meta"])
def test_a_pickle_with_code_in_it_is_refused_by_name_and_not_run(put: Put, file: str, tmp_path: Path) -> None:
    put(tmp_path, "cifar10", "python", {**content("cifar10", "python"), file: bomb(tmp_path / "made")})
    with pytest.raises(ValueError, match=rf"{file}: refused, .* asks for os\.system\. Nothing was run"):
        cifar.pixels(small("cifar10"), "test", tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "name", ["builtins eval", "numpy.core.multiarray scalar", "numpy load", "numpy.core.multiarray _reconstruct.x"]
)
def test_only_what_makes_an_array_may_be_asked_for(name: str) -> None:
    module, member = name.split()
    asking = b"\x80\x02c" + module.encode() + b"\n" + member.encode() + b"\n."
    with pytest.raises(ValueError, match=f"asks for {module}.{member}"):
        batch_pickle.read(asking)


@pytest.mark.parametrize(
    "array",
    [
        published.array((2, 3072), bytes(3072)),  # more than there is
        published.array((10**9, 10**9), b""),
        published.array((-1, -1), b"\0"),
        published.array((1,), b"\0", kind=b"O8"),  # an address, to numpy
        published.array((1,), b"\0", kind=b"f4"),
        published.array((1,), b"\0").replace(b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\ndtype\n"),
        published.array((1,), b"\0").replace(b"cnumpy\ndtype\n", b"cnumpy\nndarray\n"),
        b"cnumpy\nndarray\n)R",
        b"cnumpy\ndtype\n" + published.opcodes((b"u1", 0, 1)) + b"R",
    ],
)
def test_an_array_that_is_none_of_bytes_is_refused(array: bytes) -> None:
    with pytest.raises(ValueError, match="no array of bytes"):
        batch_pickle.read(b"\x80\x02}" + published.opcodes(b"data") + array + b"s.")


@pytest.mark.parametrize("put", [b"r" + (10**8).to_bytes(4, "little"), b"p100000000\n", b"q\x03"])
def test_a_pickle_that_takes_memory_without_end_is_refused(put: bytes) -> None:
    with pytest.raises(ValueError, match=r"it numbers an object \d+, among \d"):
        batch_pickle.read(b"\x80\x02}" + put + b".")
    # Python 2 numbered from 1 on.
    assert batch_pickle.read(b"\x80\x02}q\x01.") == {}


@pytest.mark.parametrize("value", [[], 3, b"text", None])
def test_a_pickle_that_is_no_dictionary_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="no dictionary"):
        batch_pickle.read(published.pickled(value))


@pytest.mark.parametrize(
    ("batch", "problem"),
    [
        ({b"labels": [0] * 20}, "no array 'data'"),
        ({b"data": b"x" * 3072, b"labels": [0]}, "no array 'data'"),
        ({b"data": np.zeros((20, 3072), np.uint8)}, "list 'labels'"),
        ({b"data": np.zeros((20, 3072), np.uint8), b"labels": [0] * 19}, "19 labels"),
        ({b"data": np.zeros((20, 3, 32, 32), np.uint8), b"labels": [0] * 20}, "shape"),
    ],
)
def test_a_batch_without_its_parts_is_refused(batch: dict[bytes, object], problem: str, tmp_path: Path) -> None:
    unpack(tmp_path, "cifar10", "python", {"test_batch": published.pickled(batch)})
    with pytest.raises(ValueError, match=problem):
        cifar.pixels(small("cifar10"), "test", tmp_path)


def test_class_names_that_are_no_texts_are_refused(tmp_path: Path) -> None:
    unpack(tmp_path, "cifar10", "python", {"batches.meta": published.pickled({b"label_names": [1]})})
    with pytest.raises(ValueError, match=r"batches\.meta: no list 'label_names'"):
        cifar.pixels(small("cifar10"), "test", tmp_path)


@pytest.mark.parametrize("put", [unpack, pack])
def test_a_file_larger_than_it_can_be_is_not_read(put: Put, tmp_path: Path) -> None:
    put(tmp_path, "cifar10", "python", {**content("cifar10", "python"), "test_batch": bytes(2 * 2**20)})
    with pytest.raises(ValueError, match="test_batch has 2097152 bytes, more than it can have"):
        cifar.pixels(small("cifar10"), "test", tmp_path)


def test_a_link_in_an_archive_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(content("cifar10", "binary")["test_batch.bin"])
    with tarfile.open(tmp_path / ARCHIVES["cifar10", "binary"], "w:gz") as archive:
        member = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path / "elsewhere")
        archive.addfile(member)
    with pytest.raises(ValueError, match=r"test_batch\.bin missing"):
        cifar.pixels(small("cifar10"), "test", tmp_path)
