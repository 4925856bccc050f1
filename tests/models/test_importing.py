"""Import of checkpoints in the authors' layout: what fits is computed by the equations, what does not is refused."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.importing import CheckpointError, import_checkpoint, read
from tests.models import authors
from tests.models.authors import Network, State


def refusal(state: State, *, levels: int = 2, timesteps: int | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(state, architecture="resnet18", levels=levels, timesteps=timesteps)
    return str(caught.value)


@pytest.fixture(scope="module")
def complete() -> State:
    return authors.checkpoint(Network("resnet18"))


# What fits


def test_thresholds_are_the_files_own_and_odd_ones_are_pointed_out(complete: State) -> None:
    state = complete | {"layer2.0.sn1.v_threshold": torch.tensor([0.75])}
    found = import_checkpoint(state, architecture="resnet18", levels=2)
    assert found.network.get_buffer("body.stage2.block1.unit1.neuron.threshold") == 0.75
    assert "1 of 17 thresholds" in found.notes[0]


def test_mean_and_std_are_those_that_are_given(complete: State) -> None:
    given = import_checkpoint(complete, architecture="resnet18", levels=2, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0))
    image = torch.tensor([1.1, 2.2, 4.3]).view(1, 3, 1, 1)
    torch.testing.assert_close(given.network.normalise(image).flatten(), torch.ones(3))
    with pytest.raises(ValueError, match="3 channels"):
        import_checkpoint(complete, architecture="resnet18", levels=2, mean=(0.5,))


# Tensors that do not fit


def nan(tensor: Tensor) -> Tensor:
    spoilt = tensor.clone()
    spoilt.view(-1)[:2] = torch.tensor([float("nan"), float("inf")][: spoilt.numel()])
    return spoilt


DEFECTS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "conv1.weight": (lambda x: torch.zeros(64, 3, 5, 5), "shape [64, 3, 5, 5], not [64, 3, 3, 3]"),
    "layer3.1.conv2.0.weight": (nan, "2 of 589824 values are NaN or infinite"),
    "layer1.0.conv1.1.running_var": (lambda x: -x, "a variance is negative"),
    "layer1.0.sn1.v_threshold": (lambda x: 0 * x, "a threshold must be positive"),
    "layer1.0.sn1.alpha": (lambda x: x.expand(2), "shape [2], not [1]"),
    "layer2.0.sn2.mask": (lambda x: x[:1, :1], "shape [1, 1, 1, 1, 1, 1], not [2, 2, 1, 1, 1, 1]"),
    "layer4.1.conv1.0.weight": (lambda x: x.to(torch.int8), "int8 numbers, not floating-point ones"),
    "fc.0.bias": (lambda x: x[:-1], "shape [9], not [10]"),
}


def test_each_unfit_tensor_is_named_with_what_is_wrong_and_no_other(complete: State) -> None:
    spoilt = {key: spoil(complete[key]) for key, (spoil, _) in DEFECTS.items()}
    lines = refusal(complete | spoilt).splitlines()
    assert sorted(line.strip() for line in lines[1:]) == sorted(f"{key}: {text}" for key, (_, text) in DEFECTS.items())


def test_pictures_have_one_or_three_channels(complete: State) -> None:
    assert "conv1.weight: reads 2 channels" in refusal(complete | {"conv1.weight": complete["conv1.weight"][:, :2]})


def test_missing_and_unknown_tensors_are_listed(complete: State) -> None:
    state = {key: value for key, value in complete.items() if not key.startswith(("layer2.0.downsample", "conv1"))}
    message = refusal(state | {"layer5.0.conv1.0.weight": torch.zeros(8, 4)})
    assert "conv1.weight: missing; its shape would be [64, 3, 3, 3]" in message
    assert "layer2.0.downsample.0.0.weight: missing; its shape would be [128, 64, 1, 1]" in message
    assert "layer2.0.downsample.0.1.running_var: missing" in message
    assert "layer5.0.conv1.0.weight: unknown, shape [8, 4]" in message
    assert len(message.splitlines()) == 1 + 6 + 1


def test_a_long_list_is_cut_and_counted(complete: State) -> None:
    state = complete | {f"extra.{i}": torch.zeros(1) for i in range(50)}
    lines = refusal(state).splitlines()
    assert len(lines) == 22
    assert lines[-1].strip() == "… and 30 more"


def test_what_the_file_does_not_say_is_asked_for(complete: State) -> None:
    plain = {
        key: value for key, value in complete.items() if not key.endswith(("mask", "mask_linear", "core", "alpha"))
    }
    assert "must be given" in refusal(plain, levels=1)
    assert "imported with L = 1" in refusal(plain, levels=2)
    assert "plain integrate-and-fire" in refusal(complete, levels=1, timesteps=2)
    assert "2 time-steps, not 4" in refusal(complete, timesteps=4)
    assert "there can be 1 to 1024" in refusal(plain, levels=1, timesteps=0)


# Files that are no checkpoints


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("place", ["model", "optimizer", "weights"])
def test_a_pickle_bomb_runs_no_code_and_is_named(tmp_path: Path, place: str) -> None:
    path, folder = tmp_path / "bomb.pth", tmp_path / "exploded"
    content: dict[str, Any] = {"model": {"conv1.weight": torch.zeros(1)}, "optimizer": {}}
    bomb = Bomb(folder)
    torch.save(content | ({"model": {"conv1.weight": bomb}} if place == "weights" else {place: bomb}), path)
    with pytest.raises(CheckpointError, match=r"refused.*posix\.mkdir.*Nothing was run"):
        read(path)
    assert not folder.exists()
    torch.load(path, weights_only=False)
    assert folder.exists()  # the bomb was live


def test_a_bare_pickle_is_not_unpickled(tmp_path: Path) -> None:
    path, folder = tmp_path / "bomb.pth", tmp_path / "exploded"
    path.write_bytes(pickle.dumps(Bomb(folder)))
    with pytest.raises(CheckpointError, match="a bare pickle, which is a program and was not run"):
        read(path)
    assert not folder.exists()


def test_a_file_that_is_no_checkpoint_says_why(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": {"conv1.weight": torch.zeros(1000)}}, path)
    whole = path.read_bytes()

    def reason(content: bytes) -> str:
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            read(path)
        return str(caught.value)

    assert "cut short" in reason(whole[: len(whole) // 2])
    assert "torch.save writes a zip archive, and this is none" in reason(b"conv1.weight 0.5\n" * 100)
    assert "empty" in reason(b"")
    # The pickle's own bytes: the zip archive stays well-formed, the program in it does not.
    start = whole.index(b"\x80\x02}")
    assert "damaged, or not a PyTorch checkpoint; Unsupported" in reason(
        whole[: start + 2] + b"u" * 8 + whole[start + 10 :]
    )
    with pytest.raises(CheckpointError, match="No such file"):
        read(tmp_path / "absent.pth")


def test_a_huge_sparse_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "sparse.pth"
    path.touch()
    os.truncate(path, 5 * 2**30)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read(path)


def test_archives_that_unpack_to_more_than_they_are_get_refused(tmp_path: Path) -> None:
    path, packed = tmp_path / "checkpoint.pth", tmp_path / "packed.pth"
    torch.save({"model": {"conv1.weight": torch.zeros(100_000)}}, path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for record in source.infolist():
            target.writestr(record.filename, source.read(record))
    with pytest.raises(CheckpointError, match="compressed"):
        read(packed)
    with zipfile.ZipFile(packed, "w") as target:
        target.writestr("notes/readme.txt", "no checkpoint")
    with pytest.raises(CheckpointError, match=r"not one that torch\.save wrote"):
        read(packed)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"state_dict": {}}, "no \"model\" in it.*'state_dict'"),
        ([torch.zeros(1)], "there is no mapping"),
        ({"model": [torch.zeros(1)]}, '"model" is no mapping of names to tensors but list'),
        ({"model": {"epoch": 3, "a": torch.zeros(1)}}, "epoch: no tensor but int"),
        ({"model": {3: torch.zeros(1)}}, "a name is no text: 3"),
        ({"model": {"a": torch.zeros(3).to_sparse()}}, "a: not a plain tensor"),
        ({"model": {"a": torch.zeros(3, device="meta")}}, "a: not a plain tensor"),
        ({"model": {"a": torch.zeros(1).expand(2**40)}}, r"a: shape \[1099511627776\] is larger than what is stored"),
    ],
)
def test_a_checkpoint_without_a_state_dict_of_tensors_is_refused(tmp_path: Path, content: object, reason: str) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=f"(?s){reason}"):
        read(path)
