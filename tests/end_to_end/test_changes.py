"""Models come and go in a live server while requests for them go on."""

from __future__ import annotations

import math
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from models.bundle import ZOO
from tests.live import Process, running
from tests.serving import PATIENCE_S

PICTURE = (Path(__file__).parents[1] / "data" / "seven.png").read_bytes()
CLIENTS, ROUNDS = 3, 3
MIB = 1024 * 1024


class Traffic:
    """Clients that ask one after the other for as long as the ``with`` statement lasts.

    ``answers`` are when each request was sent and answered, its status and the version that answered.
    """

    def __init__(self, url: str, path: str) -> None:
        self.answers: list[tuple[float, float, int, str]] = []
        self._url, self._path = url, path
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=PATIENCE_S) as client:
            while not self._over.is_set():
                sent = time.monotonic()
                try:
                    answer = client.post(self._path, content=PICTURE, headers={"content-type": "image/png"})
                    found = answer.status_code, answer.json().get("version", "")
                except httpx.HTTPError as error:
                    found = 0, repr(error)
                self.answers.append((sent, time.monotonic(), *found))

    def wait_for(self, count: int) -> None:
        """Return once there are so many more answers."""
        target = len(self.answers) + count
        until = time.monotonic() + PATIENCE_S
        while len(self.answers) < target:
            assert time.monotonic() < until
            time.sleep(0.005)

    def versions(self, began: float, ended: float = math.inf) -> set[str]:
        """Which ones answered what was sent and answered within a time."""
        return {version for sent, done, _, version in self.answers if began < sent and done < ended}

    def statuses(self) -> set[int]:
        return {status for _, _, status, _ in self.answers}

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    shutil.copytree(ZOO / "numbers" / "1", tmp_path / "numbers" / "1")
    return tmp_path


@pytest.fixture
def server(repository: Path) -> Iterator[Process]:
    with running(repository) as process:
        yield process


def resident(process: Process) -> int:
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert found
    return 1024 * int(found[1])


def test_a_second_version_comes_and_goes_under_traffic_without_a_failed_request(
    server: Process, repository: Path
) -> None:
    unloaded: list[int] = []
    growth = 0
    with (
        httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client,
        Traffic(server.url, "/v1/models/numbers/classify?timesteps=1") as traffic,
    ):
        traffic.wait_for(20)
        before = resident(server)
        shutil.copytree(repository / "numbers" / "1", repository / "numbers" / "2")
        for _ in range(ROUNDS):
            client.post("/v2/repository/models/numbers/load").raise_for_status()
            loaded = time.monotonic()
            growth = resident(server) - before
            traffic.wait_for(20)
            unloading = time.monotonic()
            client.post("/v2/repository/models/numbers/unload", json={"parameters": {"version": 2}}).raise_for_status()
            gone = time.monotonic()
            unloaded.append(resident(server))
            traffic.wait_for(20)
            assert traffic.versions(loaded, unloading) == {"2"}
            assert traffic.versions(gone) == {"1"}
    assert traffic.statuses() == {200}
    # What the second version took is given back, each time.
    assert growth > 8 * MIB
    assert max(unloaded) - before < growth / 2, (before, growth, unloaded)
    assert unloaded[-1] - unloaded[0] < growth / 4, unloaded


def test_a_model_that_is_replaced_in_place_is_served_until_the_new_one_is_there(
    server: Process, repository: Path
) -> None:
    def describe(text: str) -> None:
        manifest = repository / "numbers" / "1" / "manifest.json"
        changed = re.sub(r'"description": "[^"]*"', f'"description": "{text}"', manifest.read_text(encoding="utf-8"))
        manifest.with_suffix(".new").write_text(changed, encoding="utf-8")
        manifest.with_suffix(".new").replace(manifest)

    with (
        httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client,
        Traffic(server.url, "/v1/models/numbers/classify?timesteps=1") as traffic,
    ):
        traffic.wait_for(10)
        describe("the second one")
        assert client.get("/v1/models/numbers").json()["description"] != "the second one"
        client.post("/v2/repository/models/numbers/load").raise_for_status()
        assert client.get("/v1/models/numbers").json()["description"] == "the second one"
        # One that is broken changes nothing.
        (repository / "numbers" / "1" / "t4.onnx").write_bytes(b"no graph")
        describe("the third one")
        refused = client.post("/v2/repository/models/numbers/load")
        assert refused.status_code == 400
        assert "t4.onnx: its sha256 is not the manifest's" in refused.json()["error"]
        (state,) = client.post("/v2/repository/index").json()
        assert state["state"] == "READY"
        assert "t4.onnx" in state["reason"]
        assert client.get("/v1/models/numbers").json()["description"] == "the second one"
        assert client.get("/readyz").json()["failed"].keys() == {"numbers/1"}
        traffic.wait_for(10)
    assert traffic.statuses() == {200}
