"""Folders of pictures: their labels, their order, and their pixels as the service reads them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.bundle import InputSpec, Picture
from models.data import pictures
from service.cli import _decode
from service.pictures import open_picture

RGB = InputSpec(channels=3, height=8, width=8, mean=(0.0,) * 3, std=(1.0,) * 3, picture=Picture())
GREY = InputSpec(channels=1, height=8, width=8, mean=(0.0,), std=(1.0,), picture=Picture(background="black"))


def picture(mode: str = "RGB", size: tuple[int, int] = (8, 8), seed: int = 0) -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], bands) if bands > 1 else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode if bands > 1 else "L")


def put(path: Path, image: Image.Image | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or picture()).save(path, **options)
    return path


def names(found: pictures.PictureFolder) -> list[tuple[str, str]]:
    assert found.shown is not None
    return [(str(f.relative_to(found.root)), s) for f, s in zip(found.files, found.shown, strict=True)]


def test_a_folder_for_each_class_at_any_depth_in_the_order_of_names(tmp_path: Path) -> None:
    put(tmp_path / "n02" / "images" / "n02_1.JPEG")
    put(tmp_path / "n01" / "images" / "n01_7.JPEG")
    put(tmp_path / "n01" / "b.png")
    (tmp_path / "n01" / "boxes.txt").write_text("n01_7.JPEG 0 0 3 3")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".cache").mkdir()
    found = pictures.find(tmp_path)
    assert names(found) == [("n01/b.png", "n01"), ("n01/images/n01_7.JPEG", "n01"), ("n02/images/n02_1.JPEG", "n02")]
    assert found.classes == ("n01", "n02")
    assert found.labels(["n00", "n01", "n02"]).tolist() == [1, 1, 2]
    with pytest.raises(ValueError, match="'n01' is none of the 1 classes"):
        found.labels(["n02"])


def test_classes_that_are_numbers_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    for name in ("10", "9", "0"):
        put(tmp_path / name / "a.png")
    assert pictures.find(tmp_path).classes == ("0", "9", "10")
    put(tmp_path / "01" / "a.png")  # not a number as it is written
    assert pictures.find(tmp_path).classes == ("0", "01", "10", "9")


def test_tiny_imagenets_validation_set_says_in_a_file_what_its_pictures_show(tmp_path: Path) -> None:
    for name in ("val_0.JPEG", "val_1.JPEG"):
        put(tmp_path / "images" / name)
    table = tmp_path / "val_annotations.txt"
    table.write_text("val_1.JPEG\tn03\t0\t0\t3\t3\nval_0.JPEG\tn01\t0\t0\t3\t3\n")
    found = pictures.find(tmp_path)
    assert names(found) == [("images/val_1.JPEG", "n03"), ("images/val_0.JPEG", "n01")]
    for line in ("val_2.JPEG\tn03", "val_1.JPEG", "../images/val_1.JPEG\tn03"):
        table.write_text(f"val_0.JPEG\tn01\n{line}\n")
        with pytest.raises(ValueError, match=r"val_annotations\.txt, line 2"):
            pictures.find(tmp_path)
    table.write_text("")
    with pytest.raises(ValueError, match="names no pictures"):
        pictures.find(tmp_path)


def test_labels_csv_says_what_pictures_show(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    put(tmp_path / "b.png")
    (tmp_path / "labels.csv").write_text("file,label\nb.png,dog\na.png,cat\n")
    found = pictures.find(tmp_path)
    assert names(found) == [("b.png", "dog"), ("a.png", "cat")]
    (tmp_path / "labels.csv").write_text("file,label\nc.png,dog\n")
    with pytest.raises(ValueError, match=r"line 2: 'c\.png' is no file"):
        pictures.find(tmp_path)


def test_pictures_alone_have_no_labels(tmp_path: Path) -> None:
    put(tmp_path / "b.png", picture(seed=2))
    put(tmp_path / "a.JPG", picture(seed=1))
    (tmp_path / "notes.txt").write_text("two pictures")
    found = pictures.find(tmp_path)
    assert [path.name for path in found.files] == ["a.JPG", "b.png"]
    assert (found.shown, found.classes, len(found)) == (None, (), 2)
    with pytest.raises(ValueError, match="no labels"):
        found.labels(["a"])


def test_folders_that_leave_the_question_open_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        pictures.find(tmp_path / "absent")
    with pytest.raises(ValueError, match="no pictures in it"):
        pictures.find(tmp_path)
    put(tmp_path / "cat" / "a.png")
    put(tmp_path / "stray.png")
    with pytest.raises(ValueError, match=r"of which class is stray\.png"):
        pictures.find(tmp_path)


@pytest.mark.parametrize("spec", [RGB, GREY], ids=["RGB", "grey"])
def test_pixels_are_those_that_the_service_makes_of_a_picture(tmp_path: Path, spec: InputSpec) -> None:
    paths = [put(tmp_path / "a.png", picture(size=(31, 17))), put(tmp_path / "b.jpg", picture(size=(300, 200)))]
    done: list[int] = []
    read = pictures.find(tmp_path).read(spec, _decode, done.append)
    assert read.dtype == np.float32
    assert (read.shape, done) == ((2, *spec.shape), [1, 1])
    for image, path in zip(read, paths, strict=True):
        assert np.array_equal(image, open_picture(path.read_bytes(), 10**6).to_input(spec))
        assert image.std() > 0


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    file = io.BytesIO()
    picture(size=(64, 64)).save(file, "PNG")
    for content, says in {b"no picture": "no picture of a kind", file.getvalue()[:-900]: "damaged"}.items():
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(ValueError, match=rf"a\.png: .*{says}"):
            pictures.find(tmp_path).read(RGB, _decode)
