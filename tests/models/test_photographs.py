"""Training on photographs: crop and flip, the source of CIFAR's batches, and the commands that are told a folder."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from torch import Tensor
from typer.testing import CliRunner, Result

from models import bundle as bundles
from models import data
from models.commands.evaluate import evaluate
from models.commands.export import export
from models.commands.train import train
from models.data import DATASETS, cifar, load
from models.tools import Tools
from models.training import augment, recipes, sources
from models.training.sources import Cropped, source
from service.cli import _decode, _open_engine, _open_graph
from tests.models.published_cifar import content, small, unpack


def variants(picture: Tensor, padding: int) -> dict[tuple[int, int, bool], Tensor]:
    """By plain loops: a picture [C, H, W] moved down, right, then mirrored or not; black where nothing was."""
    _, height, width = picture.shape
    found: dict[tuple[int, int, bool], Tensor] = {}
    for down in range(-padding, padding + 1):
        for right in range(-padding, padding + 1):
            moved = torch.zeros_like(picture)
            for y in range(height):
                for x in range(width):
                    if 0 <= y - down < height and 0 <= x - right < width:
                        moved[:, y, x] = picture[:, y - down, x - right]
            mirrored = torch.zeros_like(moved)
            for x in range(width):
                mirrored[:, :, width - 1 - x] = moved[:, :, x]
            found |= {(down, right, False): moved, (down, right, True): mirrored}
    return found


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crop_and_flip_moves_and_mirrors_each_picture_on_its_own_and_all_ways_alike(dtype: torch.dtype) -> None:
    picture = torch.arange(1, 2 * 5 * 7 + 1).reshape(2, 5, 7).to(dtype)
    batch = picture.expand(5000, 2, 5, 7).clone()
    changed = augment.crop_and_flip(batch, torch.Generator().manual_seed(3), padding=2)
    assert torch.equal(batch, picture.expand(5000, 2, 5, 7))
    assert (changed.shape, changed.dtype) == (batch.shape, dtype)
    known = {moved.numpy().tobytes(): way for way, moved in variants(picture, 2).items()}
    assert len(known) == 50
    ways = Counter(known[picture.numpy().tobytes()] for picture in changed)
    # 100 times each, give or take; 49 degrees of freedom, of which chance exceeds 90 once in 3,000.
    assert sum((ways[way] - 100) ** 2 / 100 for way in known.values()) < 90


def test_crop_and_flip_pads_cifar_by_four_and_keeps_each_picture_its_place() -> None:
    pictures = torch.randint(1, 256, (200, 3, 32, 32), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    changed = augment.crop_and_flip(pictures, torch.Generator().manual_seed(2))
    shifts = set()
    for picture, result in zip(pictures, changed, strict=True):
        for side in (result, result.flip(-1)):
            # What is left of the picture is where it is not black.
            rows, columns = (side[0] > 0).any(1).nonzero()[:, 0], (side[0] > 0).any(0).nonzero()[:, 0]
            height, width = len(rows), len(columns)
            kept = side[:, rows[0] : rows[0] + height, columns[0] : columns[0] + width]
            top, left = (0 if rows[0] else 32 - height), (0 if columns[0] else 32 - width)
            if torch.equal(kept, picture[:, top : top + height, left : left + width]):
                shifts |= {32 - height, 32 - width}
                break
        else:
            pytest.fail("not a part of the picture at its place")
    assert shifts == {0, 1, 2, 3, 4}


def grey(count: int) -> tuple[Cropped, list[int]]:
    """Pictures that are told apart by their grey, which the middle keeps in any crop."""
    pixels = np.broadcast_to(np.arange(1, count + 1, dtype=np.uint8)[:, None, None, None], (count, 3, 32, 32)).copy()
    labels = [(7 * index) % 10 for index in range(count)]
    return Cropped(pixels, np.array(labels, np.int64)), labels


def test_an_epoch_has_every_photograph_once_with_its_label_in_another_order_each_time() -> None:
    photographs, labels = grey(90)
    generator = torch.Generator().manual_seed(4)
    orders = []
    for _ in range(2):
        batches = list(photographs.batches(40, generator))
        assert [len(images) for images, _ in batches] == [40, 40, 10]
        images, told = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert (images.dtype, told.dtype) == (torch.float32, torch.int64)
        which = (images[:, 1, 16, 16] * 255).round().long() - 1
        assert torch.equal(images[:, 1, 16, 16], (which + 1).float() / 255)
        assert sorted(which.tolist()) == list(range(90))
        assert told.tolist() == [labels[index] for index in which]
        orders.append(which.tolist())
    assert orders[0] != orders[1]
    assert len(photographs) == 90


def test_one_generator_gives_one_epoch() -> None:
    photographs, _ = grey(50)
    first, again, other = (
        torch.cat([images for images, _ in photographs.batches(20, torch.Generator().manual_seed(seed))])
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a small CIFAR-10 lies, 90 photographs to train on."""
    few = small("cifar10")
    monkeypatch.setattr(cifar, "COLLECTIONS", {"cifar10": few})
    described = dataclasses.replace(
        DATASETS["cifar10"], reader=lambda split, root: cifar.read(few, split, root or Path())
    )
    monkeypatch.setattr(data, "DATASETS", {**DATASETS, "cifar10": described})
    root = tmp_path / "here"
    unpack(root, "cifar10", "python", content("cifar10", "python"))
    return root


def test_the_source_of_cifar_is_its_training_photographs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = torch.from_numpy(load("cifar10", "train", folder).images)
    found = source("cifar10", root=folder)
    assert isinstance(found, Cropped)
    assert len(found) == 90
    assert torch.equal(found.plain(), expected)
    third = source("cifar10", 30, folder)
    assert torch.equal(third.plain(), expected[::3])
    told = torch.cat([labels for _, labels in third.batches(8, torch.Generator())])
    assert Counter(told.tolist()) == Counter(load("cifar10", "train", folder).labels[::3].tolist())
    monkeypatch.setattr(sources, "STATISTICS", 40)
    assert torch.equal(found.plain(), expected[::3])


def test_a_source_is_told_a_folder_where_it_needs_one_and_only_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'cifar100' is read from a folder"):
        source("cifar100")
    for name in ("mnist", "numbers"):
        with pytest.raises(ValueError, match=f"{name!r} comes with a package"):
            source(name, root=tmp_path)


def call(command: Callable[..., None], *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(
        app, [str(argument) for argument in arguments], obj=Tools(_open_engine, _open_graph, _decode)
    )


@pytest.fixture
def photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe for CIFAR-10."""
    tiny = dataclasses.replace(
        recipes.recipe("mnist"),
        name="photographs",
        dataset="cifar10",
        parameters={"widths": [[2], [3], [4]]},
        budgets=(1, 2),
        epochs=1,
        batch=30,
    )
    monkeypatch.setattr(recipes, "RECIPES", {"photographs": tiny})


@pytest.mark.usefixtures("photographs")
def test_a_network_of_photographs_is_trained_exported_and_evaluated_where_they_lie(
    folder: Path, tmp_path: Path
) -> None:
    run, path = tmp_path / "run", tmp_path / "photographs" / "1"
    for command in (
        [train, "photographs", "--output", run],
        [export, run, "--output", path],
        [evaluate, path],
    ):
        result = call(*command)  # type: ignore[arg-type]
        assert (result.exit_code, "--root" in result.output) == (2, True), result.output
        result = call(*command, "--root", tmp_path)  # type: ignore[arg-type]
        assert (result.exit_code, "--root" in result.output) == (2, True), result.output
        result = call(*command, "--root", folder)  # type: ignore[arg-type]
        assert result.exit_code == 0, result.output
    manifest = bundles.load(path).manifest
    assert [b.accuracy.samples for b in manifest.budgets if b.accuracy] == [20, 20]
    assert manifest.classes[:2] == ("airplane", "automobile")
    assert "--root DIR" in (manifest.made_by or "")
    assert str(folder) not in (path / bundles.MANIFEST).read_text()


@pytest.mark.usefixtures("photographs")
def test_a_bundle_that_was_measured_on_packaged_data_refuses_a_folder(tmp_path: Path) -> None:
    result = call(evaluate, bundles.ZOO / "mnist" / "1", "--root", tmp_path)
    assert result.exit_code == 2
    assert "comes with a package" in " ".join(result.output.split())
