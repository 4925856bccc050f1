"""`labels.csv`: what is read, and what is refused before a measurement is made with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import labels
from models.labels import LabelledFile, LabelsError

CLASSES = ("ring", "bar", "a, b")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, one of them in a folder below; a third one outside."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for path in (folder / "0.png", folder / "more" / "1.png", tmp_path / "outside.png"):
        path.write_bytes(b"a picture")
    return folder


def test_what_was_written_is_read_again_in_its_order(folder: Path) -> None:
    (folder / "labels.csv").write_text(labels.text([("more/1.png", "a, b"), ("0.png", "ring")]))
    assert (folder / "labels.csv").read_text() == 'file,label\nmore/1.png,"a, b"\n0.png,ring\n'
    assert labels.read(folder, CLASSES) == (
        LabelledFile(folder / "more" / "1.png", "a, b"),
        LabelledFile(folder / "0.png", "ring"),
    )


def test_columns_beside_them_and_what_spreadsheets_add_do_not_matter(folder: Path) -> None:
    (folder / "labels.csv").write_bytes("\ufefflabel,note,file\r\nbar,as drawn,0.png\r\n\r\n".encode())
    assert labels.read(folder, CLASSES) == (LabelledFile(folder / "0.png", "bar"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no columns"),
        ("file;label\n0.png;ring\n", "no columns 'file' and 'label'"),
        ("name,label\n0.png,ring\n", "no columns"),
        ("file,label\n", "names no pictures"),
        ("file,label\n0.png\n", "line 2: too few columns"),
        ("file,label\n0.png,ring\n9.png,ring\n", "line 3: '9.png' is no file"),
        ("file,label\nmore,ring\n", "line 2: 'more' is no file"),
        ("file,label\n,ring\n", "is no file"),
        ("file,label\n0.png,dot\n", "line 2: 'dot' is none of the 3 classes"),
        ("file,label\n0.png,ring\nmore/../0.png,bar\n", "line 3: 'more/../0.png' was named before"),
        ("file,label\n../outside.png,ring\n", "line 2: '../outside.png' leads out"),
        ("file,label\nlink.png,ring\n", "line 2: 'link.png' leads out"),
        ("file,label\n/etc/hostname,ring\n", "leads out"),
        ("file,label\n" + 300 * "x" + ",ring\n", "is no file"),
        ("file,label\n0\0.png,ring\n", "is no file|cannot be read"),
        ("file,label\ncircle,ring\n", "is no file"),
        ('file,label\n"0.png,ring\n', "cannot be read"),
        (b"file,label\n\xff.png,ring\n", "cannot be read"),
    ],
)
def test_what_cannot_be_measured_with_is_refused_with_the_line(
    folder: Path, content: str | bytes, message: str
) -> None:
    (folder / "link.png").symlink_to(folder.parent / "outside.png")
    (folder / "circle").symlink_to("circle")
    (folder / "labels.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(LabelsError, match=message):
        labels.read(folder, CLASSES)


def test_a_folder_without_labels_is_refused(folder: Path) -> None:
    with pytest.raises(LabelsError, match=r"labels\.csv cannot be read"):
        labels.read(folder, CLASSES)
    with pytest.raises(LabelsError, match="cannot be read"):
        labels.read(folder / "0.png", CLASSES)
