from __future__ import annotations

import csv
import functools
import io
import json
from pathlib import Path

import httpx
import pytest

from service import schemas
from service.client import Client
from tests import tiny
from tests.clients import ThroughApp, Time
from tests.command_line import run
from tests.drawings import drawn, expected
from tests.serving import RunningApp

COLUMNS = ["file", "index", "label", "probability", "timesteps", "spikes", "synops", "energy_nj", "error"]
SERVER = ("--url", "http://test")


def rows(text: str) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(text))
    assert reader.fieldnames == COLUMNS
    return list(reader)


@pytest.mark.parametrize("where", ["here", "there"])
def test_each_picture_of_a_folder_gets_a_row_whatever_a_request_may_hold(
    folder: Path, repository: Path, by_server: RunningApp, where: str
) -> None:
    asked = ("--models", str(repository)) if where == "here" else SERVER
    code, shown, complaint = run("classify", str(folder), *asked)
    assert code == 0
    found = rows(shown)
    names = [f"{seed:02}.{'PNG' if seed % 2 else 'png'}" for seed in range(20)]
    names = [f"more/{name}" if name >= "15" else name for name in names]
    assert [row["file"] for row in found] == [str(folder / name) for name in names]
    for seed, row in enumerate(found):
        label, spikes = expected(seed)
        assert (row["label"], row["timesteps"], row["error"]) == (label, "4", "")
        assert int(row["spikes"]) == pytest.approx(spikes, abs=2)
        assert tiny.CLASSES[int(row["index"])] == label
        assert 1 / len(tiny.CLASSES) <= float(row["probability"]) <= 1
        assert float(row["energy_nj"]) > 0
        assert int(row["synops"]) > 0
    assert complaint.splitlines()[0] == "20 pictures"
    mean = sum(int(row["spikes"]) for row in found) / len(found)
    assert f"{mean:,.0f} spikes" in complaint
    assert "nJ" in complaint
    assert "accuracy" not in complaint


def test_broken_pictures_get_rows_with_their_errors_and_lose_no_other(folder: Path, by_server: RunningApp) -> None:
    (folder / "03.PNG").write_text("no picture")
    (folder / "07.PNG").write_bytes(b"")
    (folder / "12.png").write_bytes(drawn(12) + bytes(70_000))  # more than the server takes in one body
    code, shown, complaint = run("classify", str(folder), *SERVER)
    assert code == 1
    failed = {Path(row["file"]).name: row for row in rows(shown) if row["error"]}
    assert list(failed) == ["03.PNG", "07.PNG", "12.png"]
    assert "picture" in failed["03.PNG"]["error"]
    assert "too large" in failed["12.png"]["error"]
    assert {row["label"] for row in failed.values()} == {""}
    good = [row for row in rows(shown) if not row["error"]]
    assert len(good) == 17
    assert good[3]["label"] == expected(4)[0]
    assert complaint.splitlines()[0] == "20 pictures, 3 failed"


def test_csv_goes_where_it_is_told_for_single_files_too(picture: Path, repository: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    code, shown, _ = run("classify", str(picture), "--models", str(repository), "--csv", str(target))
    assert (code, shown) == (0, "")
    assert rows(target.read_text())[0]["file"] == str(picture)
    code, shown, _ = run("classify", str(picture), "--models", str(repository), "--csv", "-")
    assert code == 0
    assert shown == target.read_text()
    code, _, complaint = run("classify", str(picture), "--models", str(repository), "--csv", str(tmp_path / "no" / "x"))
    assert code == 1
    assert "cannot be written" in complaint
    assert run("classify", str(picture), "--csv", "-", "--json")[0] == 2


def test_json_of_a_folder_is_a_document_a_line(folder: Path, by_server: RunningApp, tmp_path: Path) -> None:
    (folder / "00.png").write_text("no picture")
    target = tmp_path / "out.csv"
    code, shown, _ = run("classify", str(folder), *SERVER, "--json", "--csv", str(target), "--top-k", "1")
    assert code == 1
    first, second, *others = [json.loads(line) for line in shown.splitlines()]
    assert len(others) == 18
    assert set(first) == {"file", "error"}
    assert (second.pop("file"), second.pop("model")) == (str(folder / "01.PNG"), "tiny/1")
    assert schemas.Prediction.model_validate(second).label == expected(1)[0]
    assert len(second["top_k"]) == 1
    assert [row["label"] for row in rows(target.read_text())][1] == second["label"]


def test_with_labels_there_is_an_accuracy(folder: Path, by_server: RunningApp) -> None:
    wrong = next(name for name in tiny.CLASSES if name != expected(0)[0])
    lines = [f"{'more/' if s >= 15 else ''}{s:02}.{'PNG' if s % 2 else 'png'},{expected(s)[0]}" for s in range(1, 18)]
    (folder / "labels.csv").write_text("\n".join(["file,label", f"00.png,{wrong}", *lines, "gone.png,ring"]))
    code, _, complaint = run("classify", str(folder), *SERVER)
    assert code == 0
    assert f"{100 * 17 / 18:.2f} % (17 of 18 with a label)" in complaint


@pytest.mark.parametrize("content", [b"picture,class\n00.png,ring\n", b"", b"file,label\n\xff,ring\n"])
def test_labels_that_cannot_be_read_are_a_message(folder: Path, by_server: RunningApp, content: bytes) -> None:
    (folder / "labels.csv").write_bytes(content)
    code, shown, complaint = run("classify", str(folder), *SERVER)
    assert (code, shown) == (1, "")
    assert "labels.csv" in complaint


def test_a_folder_without_pictures_is_a_message(tmp_path: Path, by_server: RunningApp) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    code, _, complaint = run("classify", str(tmp_path), *SERVER)
    assert code == 1
    assert "has no pictures" in complaint


def test_a_mistake_in_an_option_ends_a_folder_at_once(folder: Path, by_server: RunningApp) -> None:
    code, shown, complaint = run("classify", str(folder), *SERVER, "--timesteps", "0")
    assert code == 1
    assert rows(shown) == []
    assert "timesteps" in complaint
    assert complaint.splitlines()[-1] == "0 of 20 pictures"


def test_the_bar_is_on_a_terminal_only_and_not_among_the_rows(
    folder: Path, by_server: RunningApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, quiet, complaint = run("classify", str(folder), *SERVER)
    assert "classifying" not in complaint
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich takes standard error for a terminal
    _, shown, complaint = run("classify", str(folder), *SERVER)
    assert "classifying" in complaint
    assert "20/20" in complaint
    assert shown == quiet


# --- Where it ends early ---------------------------------------------------------------------------------------------


class _EndsAfter(httpx.BaseTransport):
    """The app, until a request too many."""

    def __init__(self, running: RunningApp, requests: int, error: BaseException) -> None:
        self._app = ThroughApp(running)
        self._left = requests
        self._error = error

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/classify"):
            if not self._left:
                raise self._error
            self._left -= 1
        return self._app.handle_request(request)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [(KeyboardInterrupt(), 130, "interrupted"), (httpx.ConnectError("refused"), 1, "no answer from http://test")],
)
def test_what_was_classified_before_it_ended_is_in_the_csv(
    folder: Path,
    server: RunningApp,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: BaseException,
    status: int,
    message: str,
) -> None:
    # 20 are refused, then 10, then 5 are taken twice; the next request is one too many.
    transport = _EndsAfter(server, 4, error)
    monkeypatch.setattr(
        "service.commands.sources.Client", functools.partial(Client, transport=transport, clock=Time().clock)
    )
    target = tmp_path / "out.csv"
    code, _, complaint = run("classify", str(folder), *SERVER, "--csv", str(target))
    assert code == status
    assert message in complaint
    found = rows(target.read_text())
    assert [row["label"] for row in found] == [expected(seed)[0] for seed in range(10)]
    assert "10 of 20 pictures" in complaint
