"""`lmht data`: test pictures as files, with their labels."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models import bundle as bundles
from models import labels
from models.bundle import ZOO, InputSpec, Manifest, Picture
from models.data import LabelledImages, folder, load
from service.pictures import open_picture
from tests import tiny
from tests.command_line import run

CLASSES = ("ring", "bar", "dot")


def pictures(count: int = 12) -> LabelledImages:
    """Pictures of one pixel each, which is their number in 255ths, labelled in turn."""
    values = np.arange(count, dtype=np.float32) / np.float32(255)
    return LabelledImages(values.reshape(-1, 1, 1, 1), np.arange(count) % len(CLASSES))


def write(target: Path, data: LabelledImages, **options: Any) -> int:
    return folder.write(target, data, CLASSES, dataset="dots", split="test", **options)


def contents(target: Path) -> dict[str, bytes]:
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def rows(target: Path) -> list[tuple[str, str]]:
    with (target / "labels.csv").open(newline="") as file:
        header, *found = csv.reader(file)
    assert header == ["file", "label"]
    return [(name, label) for name, label in found]


def complaint(*arguments: object) -> str:
    """What the command says when it refuses, on one line."""
    code, _, error = run("data", *map(str, arguments))
    assert code == 2, error
    return " ".join(re.sub("[│╭╰─╮╯]", " ", error).split())


# --- The files -------------------------------------------------------------------------------------------------------


def test_a_folder_holds_a_file_for_each_picture_and_its_class(tmp_path: Path) -> None:
    target = tmp_path / "new" / "test"
    assert write(target, pictures()) == 12
    assert sorted(contents(target)) == sorted([*(f"{n:02}.png" for n in range(12)), "labels.csv", "about.json"])
    assert rows(target) == [(f"{n:02}.png", CLASSES[n % 3]) for n in range(12)]
    for number in range(12):
        with Image.open(target / f"{number:02}.png") as picture:
            assert (picture.format, picture.mode, picture.getpixel((0, 0))) == ("PNG", "L", number)
    assert [file.label for file in labels.read(target, CLASSES)] == [label for _, label in rows(target)]


def test_a_part_is_spread_over_the_set_and_has_the_names_of_the_whole(tmp_path: Path) -> None:
    assert write(tmp_path / "part", pictures(101), limit=5) == 5
    assert [name for name, _ in rows(tmp_path / "part")] == ["000.png", "021.png", "042.png", "063.png", "084.png"]
    write(tmp_path / "whole", pictures(101))
    part, whole = contents(tmp_path / "part"), contents(tmp_path / "whole")
    assert all(part[name] == whole[name] for name, _ in rows(tmp_path / "part"))
    assert set(rows(tmp_path / "part")) < set(rows(tmp_path / "whole"))


@pytest.mark.parametrize("channels", [1, 3])
def test_values_are_rounded_to_the_nearest_of_256(channels: int) -> None:
    image = np.random.default_rng(0).random((channels, 5, 7), np.float32)
    image[0, 0, :2] = (0, 1)
    expected = [
        [[min(range(256), key=lambda k: abs(k - 255 * float(v))) for v in row] for row in plane] for plane in image
    ]
    spec = InputSpec(
        channels=1 if channels == 1 else 3,
        height=5,
        width=7,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        picture=Picture(),
    )
    served = open_picture(folder.png(image), 100).to_input(spec)
    assert np.array_equal(served, np.array(expected, np.float32) / np.float32(255))


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_what_is_no_picture_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        folder.png(np.full((1, 2, 2), value, np.float32))


@pytest.mark.parametrize("name", ["mnist", "numbers"])
def test_a_server_gets_exactly_the_pictures_that_the_cards_were_measured_on(name: str, tmp_path: Path) -> None:
    manifest = bundles.load(ZOO / name / "1").manifest
    data = load(name, "test").spread(500)
    folder.write(tmp_path / "test", data, manifest.classes, dataset=name, split="test")
    served = [
        open_picture(file.path.read_bytes(), 10_000).to_input(manifest.input)
        for file in labels.read(tmp_path / "test", manifest.classes)
    ]
    assert np.array_equal(np.stack(served), data.images)


# --- What is there already -------------------------------------------------------------------------------------------


def test_a_folder_of_its_own_is_replaced_completely(tmp_path: Path) -> None:
    target = tmp_path / "test"
    target.mkdir()  # an empty one may be written too
    write(target, pictures(20))
    write(target, pictures(6))
    assert len(contents(target)) == 6 + 2
    assert [path.name for path in tmp_path.iterdir()] == ["test"]


def _strange_file(target: Path) -> None:
    (target / "notes.txt").write_text("mine")


def _strange_folder(target: Path) -> None:
    (target / "more").mkdir()


def _corrected_labels(target: Path) -> None:
    path = target / "labels.csv"
    path.write_text(path.read_text().replace("ring", "bar"))


def _no_longer_said_to_be_its_own(target: Path) -> None:
    (target / "about.json").unlink()


def _said_to_be_of_another_kind(target: Path) -> None:
    (target / "about.json").write_text("{}")


def _a_file_instead(target: Path) -> None:
    target.rename(target.with_name("moved"))
    target.write_text("mine")


@pytest.mark.parametrize(
    "change",
    [
        _strange_file,
        _strange_folder,
        _corrected_labels,
        _no_longer_said_to_be_its_own,
        _said_to_be_of_another_kind,
        _a_file_instead,
    ],
)
def test_what_somebody_else_put_there_stays(tmp_path: Path, change: Callable[[Path], None]) -> None:
    target = tmp_path / "test"
    write(target, pictures())
    change(target)
    before = sorted(tmp_path.rglob("*")), contents(tmp_path)
    with pytest.raises(ValueError, match=r"not written by this command|no folder"):
        write(target, pictures(3))
    assert (sorted(tmp_path.rglob("*")), contents(tmp_path)) == before


def test_the_current_folder_is_not_replaced_under_ones_feet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="current folder"):
        write(Path(), pictures())
    assert list(tmp_path.iterdir()) == []


class _Interrupts:
    """Ends with Ctrl-C the time after so many calls."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self, *_: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("there", [True, False])
def test_what_is_interrupted_leaves_everything_as_it_was(tmp_path: Path, there: bool) -> None:
    target = tmp_path / "test"
    if there:
        write(target, pictures(20))
    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(target, pictures(12), on_picture=_Interrupts(5))
    assert contents(tmp_path) == before
    assert list(tmp_path.iterdir()) == ([target] if there else [])


@pytest.mark.parametrize("renames", [0, 1])
def test_an_interruption_between_old_and_new_brings_the_old_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    target = tmp_path / "test"
    write(target, pictures(20))
    before = contents(tmp_path)
    interrupt, replace = _Interrupts(renames), Path.replace

    def interrupted(path: Path, to: Path) -> Path:
        if interrupt.left >= 0:
            interrupt()
        return replace(path, to)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(target, pictures(12))
    assert contents(tmp_path) == before


def test_a_label_without_a_class_is_refused(tmp_path: Path) -> None:
    data = LabelledImages(np.zeros((2, 1, 1, 1), np.float32), np.array([0, 3]))
    with pytest.raises(ValueError, match="more classes than the model's 3"):
        write(tmp_path / "test", data)
    assert list(tmp_path.iterdir()) == []


# --- The command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def mnist(tmp_path: Path) -> Callable[..., Path]:
    """Writes a manifest like that of `mnist`; nothing else of a bundle is read."""

    def write(version: str, **changed: Any) -> Path:
        manifest = bundles.load(ZOO / "mnist" / "1").manifest
        path = tmp_path / "models" / "digits" / version
        path.mkdir(parents=True)
        made = Manifest.model_validate(manifest.model_dump() | changed)
        (path / bundles.MANIFEST).write_text(made.model_dump_json())
        return path

    return write


def test_a_model_is_a_bundle_a_folder_of_versions_or_a_bundled_name(
    mnist: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nine, ten = mnist("9"), mnist("10", classes=[f"ten {digit}" for digit in range(10)])
    (ten.parent / "11").mkdir()  # no bundle
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()  # no model, for all its name
    labels_of = {}
    for model in (nine, ten.parent, "mnist"):
        code, shown, error = run("data", str(model), "--limit", "50", "--output", "out")
        assert code == 0, error
        assert "50 of 1,000 pictures of mnist, test" in shown
        labels_of[str(model)] = [label for _, label in rows(tmp_path / "out")]
    expected = [str(label) for label in load("mnist", "test").labels[::20]]
    assert labels_of[str(nine)] == labels_of["mnist"] == expected
    assert labels_of[str(ten.parent)] == [f"ten {label}" for label in expected]


def test_another_split_has_other_pictures(tmp_path: Path) -> None:
    for split in ("test", "validation"):
        assert run("data", "mnist", "--split", split, "--limit", "50", "--output", str(tmp_path / split))[0] == 0
    first = (tmp_path / "validation" / rows(tmp_path / "validation")[0][0]).read_bytes()
    assert first == folder.png(load("mnist", "validation").images[0])
    assert first not in contents(tmp_path / "test").values()


def test_a_model_that_is_none_is_refused_with_what_there_is(tmp_path: Path) -> None:
    assert "mnist, mnist-full, numbers, numbers-factored" in complaint("nope", "--output", tmp_path / "out")


def test_a_model_without_a_data_set_is_refused(mnist: Callable[..., Path], tmp_path: Path) -> None:
    budgets = [b.model_dump() for b in bundles.load(ZOO / "mnist" / "1").manifest.budgets]
    unmeasured = [budget | {"accuracy": None} for budget in budgets]
    assert "no labelled pictures" in complaint(mnist("1", budgets=unmeasured), "--output", tmp_path / "out")
    mixed = [budgets[0], *(b | {"accuracy": b["accuracy"] | {"dataset": "numbers"}} for b in budgets[1:])]
    assert "mnist and numbers" in complaint(mnist("2", budgets=mixed), "--output", tmp_path / "out")
    tiny.write(tmp_path / "tiny" / "1")
    assert "unknown data set 'tiny'" in complaint(tmp_path / "tiny", "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_root_that_nothing_reads_is_refused(tmp_path: Path) -> None:
    assert "--root" in complaint("mnist", "--root", tmp_path, "--output", tmp_path / "out")


def test_a_folder_that_may_not_be_written_is_refused_before_the_data_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.commands.data.load", lambda *_: pytest.fail("data were read"))
    (tmp_path / "notes.txt").write_text("mine")
    assert "notes.txt" in complaint("mnist", "--output", tmp_path)


def test_a_place_that_cannot_be_written_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "--output" in complaint("mnist", "--limit", 2, "--output", tmp_path / "file" / "out")
