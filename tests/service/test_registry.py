"""The registry over repository folders with tiny bundles."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import MANIFEST, Bundle, BundleError, Engine, FloatArray, Outputs
from service.engines import EngineError, EngineOptions, open_engine
from service.loading import ServedModel
from service.registry import LoadFailed, NotReady, Registry, Status, UnknownModel, UnknownVersion
from tests import tiny


class Recorder:
    """An engine that answers nothing and remembers its runs."""

    name = "recorder"
    batch_sizes = (1, 4)

    def __init__(self, opened: Bundle) -> None:
        self.path = opened.path
        self.runs: list[tuple[tuple[int, ...], int]] = []
        self.closed = 0

    def run(self, images: FloatArray, timesteps: int) -> Outputs:
        self.runs.append((images.shape, timesteps))
        counts = np.zeros((len(images), 2))
        return Outputs(np.zeros((len(images), 3), np.float32), counts, counts)

    def close(self) -> None:
        self.closed += 1


class Opener:
    """Opens recorders, in order; fails for the paths it is told to."""

    def __init__(self) -> None:
        self.engines: list[Recorder] = []
        self.failures: dict[str, Exception] = {}

    def __call__(self, opened: Bundle) -> Engine:
        key = f"{opened.path.parent.name}/{opened.path.name}"
        if key in self.failures:
            raise self.failures[key]
        self.engines.append(Recorder(opened))
        return self.engines[-1]

    @property
    def opened(self) -> list[str]:
        return [f"{engine.path.parent.name}/{engine.path.name}" for engine in self.engines]


def put(repository: Path, name: str, version: int | str = 1, *, manifest_name: str | None = None) -> Path:
    path = repository / name / str(version)
    tiny.write(path, name=manifest_name or name)
    return path


def load(*repositories: Path, opener: Opener | None = None) -> Registry:
    registry = Registry(repositories, opener or Opener())
    asyncio.run(registry.load_all())
    return registry


def keys(registry: Registry) -> list[str]:
    return [f"{model.name}/{model.version}" for model in registry.models()]


def test_models_are_served_with_a_real_engine_whose_answers_are_right(tmp_path: Path) -> None:
    put(tmp_path, "tiny")
    options = EngineOptions(threads=1, batch_sizes=(2,), provider="cpu")
    registry = Registry([tmp_path], lambda opened: open_engine(opened, options))
    asyncio.run(registry.load_all())
    model = registry.get("tiny")
    images = tiny.images(3)
    np.testing.assert_array_equal(model.engine.run(images, 2).logits, tiny.reference(images, 2).logits)
    assert (model.name, model.version, model.manifest.name) == ("tiny", 1, "tiny")
    assert {t: sorted(seconds) for t, seconds in model.seconds.items()} == {1: [1, 2], 2: [1, 2], 4: [1, 2]}
    assert all(taken > 0 for seconds in model.seconds.values() for taken in seconds.values())
    assert registry.ready
    assert registry.failures == {}
    asyncio.run(registry.close())


def test_the_highest_version_is_served_unless_one_is_named(tmp_path: Path) -> None:
    for version in (2, 10, 9):
        put(tmp_path, "tiny", version)
    registry = load(tmp_path)
    assert registry.get("tiny").version == 10
    assert registry.get("tiny", 9).version == 9
    assert keys(registry) == ["tiny/2", "tiny/9", "tiny/10"]


def test_highest_versions_are_loaded_before_the_others(tmp_path: Path) -> None:
    for name, version in (("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2)):
        put(tmp_path, name, version)
    opener = Opener()
    load(tmp_path, opener=opener)
    assert opener.opened == ["a/3", "b/2", "a/2", "a/1", "b/1"]


def test_every_budget_is_warmed_up_in_every_bucket_before_it_is_timed(tmp_path: Path) -> None:
    put(tmp_path, "tiny")
    opener = Opener()
    load(tmp_path, opener=opener)
    runs = opener.engines[0].runs
    assert {(shape[0], timesteps) for shape, timesteps in runs[:6]} == {(n, t) for n in (1, 4) for t in (1, 2, 4)}
    assert all(shape[1:] == (1, 8, 8) for shape, _ in runs)
    assert {(shape[0], timesteps) for shape, timesteps in runs[6:]} == {(n, t) for n in (1, 4) for t in (1, 2, 4)}


def test_what_is_not_there_is_told_apart(tmp_path: Path) -> None:
    put(tmp_path, "tiny")
    registry = load(tmp_path)
    with pytest.raises(UnknownModel, match=r"'other'.* tiny"):
        registry.get("other")
    with pytest.raises(UnknownModel):
        registry.get("other", 1)
    with pytest.raises(UnknownVersion, match="no version 7; it has 1"):
        registry.get("tiny", 7)


def test_before_loading_nothing_is_ready_and_nothing_is_unknown(tmp_path: Path) -> None:
    put(tmp_path, "tiny")
    registry = Registry([tmp_path], Opener())
    assert not registry.loaded
    assert not registry.ready
    with pytest.raises(NotReady, match="being loaded"):
        registry.get("tiny")


def test_an_empty_repository_is_loaded_but_not_ready(tmp_path: Path) -> None:
    registry = load(tmp_path)
    assert registry.loaded
    assert not registry.ready
    assert registry.failures == {}
    with pytest.raises(UnknownModel, match="there are none"):
        registry.get("tiny")


def test_a_model_that_fails_leaves_the_others_serving_and_says_why(tmp_path: Path) -> None:
    for name in ("changed", "engineless", "fine", "manifestless", "odd", "wrong"):
        put(tmp_path, name)
    (tmp_path / "manifestless" / "1" / MANIFEST).unlink()
    manifest = tmp_path / "wrong" / "1" / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"levels": 0}))
    opener = Opener()
    opener.failures = {
        "changed/1": BundleError("t1.onnx: its sha256 is not the manifest's"),
        "engineless/1": EngineError("no such provider"),
        "odd/1": ZeroDivisionError("surprise"),
    }
    registry = load(tmp_path, opener=opener)
    assert keys(registry) == ["fine/1"]
    assert registry.ready
    assert registry.failures.keys() == {"changed/1", "engineless/1", "manifestless/1", "odd/1", "wrong/1"}
    assert registry.failures["changed/1"].startswith("t1.onnx: its sha256")
    assert registry.failures["engineless/1"] == "no such provider"
    assert registry.failures["manifestless/1"].startswith("manifest.json: missing")
    assert "surprise" in registry.failures["odd/1"]
    assert "levels" in registry.failures["wrong/1"]
    with pytest.raises(NotReady, match=r"wrong/1 could not be loaded: .*levels"):
        registry.get("wrong")
    with pytest.raises(NotReady, match="levels"):
        registry.get("wrong", 1)
    with pytest.raises(UnknownVersion, match="none that could be loaded"):
        registry.get("wrong", 2)


def test_a_broken_highest_version_leaves_the_one_below_serving(tmp_path: Path) -> None:
    put(tmp_path, "tiny", 1)
    put(tmp_path, "tiny", 2)
    opener = Opener()
    opener.failures = {"tiny/2": EngineError("no")}
    registry = load(tmp_path, opener=opener)
    assert registry.get("tiny").version == 1
    with pytest.raises(NotReady):
        registry.get("tiny", 2)


def test_an_engine_that_fails_in_warm_up_is_closed_and_not_served(tmp_path: Path) -> None:
    put(tmp_path, "tiny")

    class Failing(Recorder):
        def run(self, images: FloatArray, timesteps: int) -> Outputs:
            raise EngineError("out of memory")

    engines: list[Failing] = []

    def opener(opened: Bundle) -> Engine:
        engines.append(Failing(opened))
        return engines[-1]

    registry = Registry([tmp_path], opener)
    asyncio.run(registry.load_all())
    assert registry.failures == {"tiny/1": "out of memory"}
    assert engines[0].closed == 1


def test_files_and_hidden_folders_are_passed_over_and_mistakes_are_named(tmp_path: Path) -> None:
    put(tmp_path, "tiny", 3)
    (tmp_path / "README.md").write_text("about these models")
    (tmp_path / "tiny" / "notes.txt").write_text("about this one")
    for folder in (".git/1", "lost+found", "tiny/.3-scratch", "tiny/latest", "tiny/03", "tiny/0", "tiny/-1", "tiny/v4"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "tiny" / ("9" * 30)).mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "white space" / "1").mkdir(parents=True)
    registry = load(tmp_path)
    assert keys(registry) == ["tiny/3"]
    assert registry.failures.keys() == {
        "tiny/latest", "tiny/03", "tiny/0", "tiny/-1", "tiny/v4", f"tiny/{'9' * 30}", "empty", "white space",
    }  # fmt: skip
    assert "without leading zeros" in registry.failures["tiny/03"]
    assert registry.failures["empty"] == "has no version folder"
    assert "not a name" in registry.failures["white space"]


def test_a_manifest_of_another_name_is_refused_before_its_engine_is_opened(tmp_path: Path) -> None:
    put(tmp_path, "copy", manifest_name="original")
    opener = Opener()
    registry = load(tmp_path, opener=opener)
    assert registry.failures == {"copy/1": "its manifest is that of 'original', but its folder is 'copy'"}
    assert opener.engines == []


def test_a_version_that_is_a_link_out_of_the_repository_is_refused(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    put(outside, "tiny")
    put(outside, "whole")
    (inside / "tiny").mkdir(parents=True)
    (inside / "tiny" / "1").symlink_to(outside / "tiny" / "1")
    (inside / "whole").symlink_to(outside / "whole")
    registry = load(inside)
    assert registry.models() == []
    assert registry.failures == dict.fromkeys(("tiny/1", "whole/1"), "a link that leads out of the repository")


def test_of_a_name_in_two_repositories_the_first_is_served_and_the_second_is_no_failure(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    put(first, "tiny", 1)
    put(second, "tiny", 2)
    put(second, "other", 1)
    registry = load(first, second)
    assert keys(registry) == ["other/1", "tiny/1"]
    assert registry.failures == {}


def test_a_repository_that_cannot_be_read_is_a_failure_and_the_next_one_is_served(tmp_path: Path) -> None:
    put(tmp_path / "there", "tiny")
    registry = load(tmp_path / "missing", tmp_path / "there")
    assert keys(registry) == ["tiny/1"]
    assert registry.failures == {str(tmp_path / "missing"): "cannot be read: No such file or directory"}


def test_closing_closes_every_engine_once_and_serves_nothing_more(tmp_path: Path) -> None:
    put(tmp_path, "a")
    put(tmp_path, "b")
    opener = Opener()
    registry = load(tmp_path, opener=opener)
    asyncio.run(registry.close())
    asyncio.run(registry.close())
    assert [engine.closed for engine in opener.engines] == [1, 1]
    assert not registry.ready
    assert registry.models() == []
    with pytest.raises(NotReady, match="stopping"):
        registry.get("a")


def test_models_are_loaded_off_the_event_loop_and_served_as_they_come(tmp_path: Path) -> None:
    put(tmp_path, "a")
    put(tmp_path, "b")
    gate, opener = threading.Event(), Opener()

    def wait_for_second(opened: Bundle) -> Engine:
        if opened.path.parent.name == "b":
            assert gate.wait(20)
        return opener(opened)

    async def scenario() -> None:
        registry = Registry([tmp_path], wait_for_second)
        loading = asyncio.create_task(registry.load_all())
        while not registry.models():
            await asyncio.sleep(0)
        assert registry.get("a").version == 1
        assert not registry.ready
        with pytest.raises(NotReady, match="being loaded"):
            registry.get("b")
        gate.set()
        await loading
        assert registry.ready
        assert keys(registry) == ["a/1", "b/1"]

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_closing_while_models_are_loaded_keeps_none_of_them(tmp_path: Path) -> None:
    put(tmp_path, "a")
    put(tmp_path, "b")
    entered, gate, opener = threading.Event(), threading.Event(), Opener()

    def wait(opened: Bundle) -> Engine:
        entered.set()
        assert gate.wait(20)
        return opener(opened)

    async def scenario() -> None:
        registry = Registry([tmp_path], wait)
        loading = asyncio.create_task(registry.load_all())
        while not entered.is_set():
            await asyncio.sleep(0)
        await registry.close()
        gate.set()
        await loading
        assert registry.models() == []
        assert not registry.loaded
        assert [(engine.path.parent.name, engine.closed) for engine in opener.engines] == [("a", 1)]

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_one_model_can_be_loaded_without_the_others(tmp_path: Path) -> None:
    for name in ("a", "ab", "b"):
        put(tmp_path, name)
    (tmp_path / "ab" / "1" / "manifest.json").write_text("{")
    opener = Opener()
    registry = Registry([tmp_path], opener)

    async def load_only(name: str) -> list[str]:
        await registry.load_all(name)
        return await registry.names()

    assert asyncio.run(load_only("a")) == ["a", "ab", "b"]
    assert (keys(registry), opener.opened, registry.failures) == (["a/1"], ["a/1"], {})
    asyncio.run(registry.close())


def test_loading_one_broken_model_says_why(tmp_path: Path) -> None:
    put(tmp_path, "a")
    put(tmp_path, "b")
    (tmp_path / "b" / "1" / "manifest.json").write_text("{")
    registry = Registry([tmp_path], Opener())
    asyncio.run(registry.load_all("b"))
    assert registry.failures.keys() == {"b/1"}
    with pytest.raises(NotReady, match=r"b/1 could not be loaded: manifest\.json"):
        registry.get("b")


# --- Changes while it serves -----------------------------------------------------------------------------------------


def states(found: list[Status]) -> dict[str, str]:
    return {f"{status.name}/{status.version}": status.state for status in found}


def changing(scenario: Callable[[Registry, Opener], Awaitable[None]], *repositories: Path, **options: Any) -> None:
    """Run a scenario on a registry that has loaded everything."""

    async def run() -> None:
        opener = Opener()
        registry = Registry(repositories, opener, **options)
        await registry.load_all()
        await scenario(registry, opener)
        await registry.close()
        assert all(engine.closed == 1 for engine in opener.engines)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_new_version_is_loaded_beside_the_old_and_unloaded_again(tmp_path: Path) -> None:
    put(tmp_path, "tiny", 1)

    async def scenario(registry: Registry, opener: Opener) -> None:
        first = registry.get("tiny")
        put(tmp_path, "tiny", 2)
        assert states(await registry.load("tiny")) == {"tiny/1": "READY", "tiny/2": "READY"}
        assert registry.get("tiny").version == 2
        assert registry.get("tiny", 1) is first  # what has not changed is not opened anew
        assert states(await registry.unload("tiny", 2)) == {"tiny/1": "READY", "tiny/2": "UNAVAILABLE"}
        assert registry.get("tiny") is first
        assert [engine.closed for engine in opener.engines] == [0, 1]
        with pytest.raises(UnknownVersion):
            registry.get("tiny", 2)

    changing(scenario, tmp_path)


def test_a_version_can_be_loaded_without_the_others(tmp_path: Path) -> None:
    put(tmp_path, "tiny", 1)

    async def scenario(registry: Registry, opener: Opener) -> None:
        put(tmp_path, "tiny", 2)
        put(tmp_path, "tiny", 3)
        found = states(await registry.load("tiny", 3))
        assert found == {"tiny/1": "READY", "tiny/2": "UNAVAILABLE", "tiny/3": "READY"}
        assert opener.opened == ["tiny/1", "tiny/3"]

    changing(scenario, tmp_path)


def test_what_has_left_the_repository_is_let_go_and_what_was_unloaded_comes_back(tmp_path: Path) -> None:
    put(tmp_path, "tiny", 1)
    put(tmp_path, "tiny", 2)

    async def scenario(registry: Registry, opener: Opener) -> None:
        await registry.unload("tiny")
        with pytest.raises(UnknownModel):
            registry.get("tiny")
        assert not registry.ready
        shutil.rmtree(tmp_path / "tiny" / "2")
        assert states(await registry.load("tiny")) == {"tiny/1": "READY"}
        put(tmp_path, "tiny", 3)
        await registry.load("tiny")
        shutil.rmtree(tmp_path / "tiny" / "1")
        assert states(await registry.load("tiny")) == {"tiny/3": "READY"}
        assert registry.ready

    changing(scenario, tmp_path)


def test_a_changed_version_replaces_the_one_that_serves_only_once_it_is_warm(tmp_path: Path) -> None:
    put(tmp_path, "tiny", 1)

    async def scenario(registry: Registry, opener: Opener) -> None:
        before = registry.get("tiny")
        seen: list[object] = []
        open_it = opener.__call__

        def watching(opened: Bundle) -> Engine:
            seen.append(registry.get("tiny"))
            return open_it(opened)

        registry._open_engine = watching
        tiny.write(tmp_path / "tiny" / "1", seed=6)
        assert states(await registry.load("tiny")) == {"tiny/1": "READY"}
        assert seen == [before]
        assert registry.get("tiny") is not before
        assert [engine.closed for engine in opener.engines] == [1, 0]

    changing(scenario, tmp_path)


def test_one_that_cannot_be_loaded_leaves_what_serves_and_says_why(tmp_path: Path) -> None:
    put(tmp_path, "tiny", 1)
    put(tmp_path, "other", 1)

    async def scenario(registry: Registry, opener: Opener) -> None:
        before = registry.get("tiny")
        put(tmp_path, "tiny", 2)
        opener.failures["tiny/2"] = EngineError("out of memory")
        with pytest.raises(LoadFailed, match="tiny/2: out of memory"):
            await registry.load("tiny")
        assert registry.get("tiny") is before
        (failed,) = [status for status in await registry.index("tiny") if status.version == "2"]
        assert (failed.state, failed.reason) == ("UNAVAILABLE", "out of memory")
        del opener.failures["tiny/2"]
        await registry.load("tiny")  # one that failed is tried again
        assert registry.get("tiny").version == 2
        assert registry.failures == {}
        # The one that serves is changed for the worse: it goes on as it was loaded.
        tiny.write(tmp_path / "tiny" / "2", seed=6)
        opener.failures["tiny/2"] = BundleError("broken")
        with pytest.raises(LoadFailed, match="tiny/2: broken"):
            await registry.load("tiny", 2)
        (kept,) = [status for status in await registry.index("tiny") if status.version == "2"]
        assert kept.state == "READY"
        assert "broken" in kept.reason
        assert registry.get("tiny").version == 2
        assert registry.get("other")

    changing(scenario, tmp_path)


def test_what_was_said_to_have_failed_is_forgotten_by_unloading(tmp_path: Path) -> None:
    put(tmp_path, "tiny", 1)
    put(tmp_path, "bad", 1)
    (tmp_path / "bad" / "1" / "t1.onnx").unlink()

    async def scenario(registry: Registry, opener: Opener) -> None:
        assert registry.failures == {"bad/1": "broken"}
        await registry.unload("bad")
        assert registry.failures == {}
        with pytest.raises(UnknownModel):
            registry.get("bad")

    class Broken(Opener):
        def __call__(self, opened: Bundle) -> Engine:
            if opened.manifest.name == "bad":
                raise BundleError("broken")
            return super().__call__(opened)

    async def run() -> None:
        opener = Broken()
        registry = Registry([tmp_path], opener)
        await registry.load_all()
        await scenario(registry, opener)

    asyncio.run(run())


def test_what_is_asked_for_in_vain_is_told_apart(tmp_path: Path) -> None:
    put(tmp_path, "tiny", 1)
    (tmp_path / "empty").mkdir()

    async def scenario(registry: Registry, opener: Opener) -> None:
        with pytest.raises(UnknownModel, match="'nope'"):
            await registry.load("nope")
        with pytest.raises(UnknownModel, match=r"'\.\./tiny'"):
            await registry.load("../tiny")
        with pytest.raises(UnknownVersion, match="version 2"):
            await registry.load("tiny", 2)
        with pytest.raises(LoadFailed, match="no version folder"):
            await registry.load("empty")
        with pytest.raises(UnknownModel, match="not loaded"):
            await registry.unload("nope")
        with pytest.raises(UnknownVersion, match="version 2"):
            await registry.unload("tiny", 2)
        assert keys(registry) == ["tiny/1"]
        await registry.close()
        with pytest.raises(NotReady, match="stopping"):
            await registry.load("tiny")

    changing(scenario, tmp_path)


def test_somebodys_backup_beside_the_versions_fails_no_load(tmp_path: Path) -> None:
    put(tmp_path, "tiny", 1)
    put(tmp_path, "tiny", "1-backup")

    async def scenario(registry: Registry, opener: Opener) -> None:
        put(tmp_path, "tiny", 2)
        found = {status.version: status for status in await registry.load("tiny")}
        assert {version: status.state for version, status in found.items()} == {
            "1": "READY",
            "2": "READY",
            "1-backup": "UNAVAILABLE",
        }
        assert "not a version" in found["1-backup"].reason

    changing(scenario, tmp_path)


def test_a_model_is_closed_only_when_nobody_works_with_it_and_its_queue_is_empty(tmp_path: Path) -> None:
    put(tmp_path, "tiny", 1)
    drained = asyncio.Event()
    asked: list[tuple[str, int]] = []

    async def wait(served: ServedModel) -> None:
        asked.append(served.key)
        await drained.wait()

    async def scenario(registry: Registry, opener: Opener) -> None:
        served = registry.get("tiny")
        with served.users:
            unloading = asyncio.create_task(registry.unload("tiny"))
            while registry.models():
                await asyncio.sleep(0)
            assert states(await registry.index()) == {"tiny/1": "UNLOADING"}
            assert not asked
        while not asked:
            await asyncio.sleep(0)
        assert opener.engines[0].closed == 0
        drained.set()
        assert states(await unloading) == {"tiny/1": "UNAVAILABLE"}
        assert opener.engines[0].closed == 1

    changing(scenario, tmp_path, drained=wait)


def test_unloading_does_not_wait_for_ever_for_an_engine_that_hangs(tmp_path: Path) -> None:
    put(tmp_path, "tiny", 1)

    async def scenario(registry: Registry, opener: Opener) -> None:
        served = registry.get("tiny")
        with served.users:
            assert states(await registry.unload("tiny")) == {"tiny/1": "UNLOADING"}
            # Meanwhile it can be loaded again.
            assert states(await registry.load("tiny")) == {"tiny/1": "READY"}
            assert registry.get("tiny") is not served
            assert opener.engines[0].closed == 0
        while not opener.engines[0].closed:
            await asyncio.sleep(0)

    changing(scenario, tmp_path, patience_s=0.01)


def test_the_index_shows_what_is_being_loaded(tmp_path: Path) -> None:
    put(tmp_path, "tiny", 1)
    entered, gate = threading.Event(), threading.Event()

    async def scenario(registry: Registry, opener: Opener) -> None:
        def wait(opened: Bundle) -> Engine:
            entered.set()
            assert gate.wait(20)
            return opener(opened)

        registry._open_engine = wait
        put(tmp_path, "tiny", 2)
        loading = asyncio.create_task(registry.load("tiny"))
        while not entered.is_set():
            await asyncio.sleep(0)
        assert states(await registry.index()) == {"tiny/1": "READY", "tiny/2": "LOADING"}
        gate.set()
        assert states(await loading) == {"tiny/1": "READY", "tiny/2": "READY"}

    changing(scenario, tmp_path)


def test_a_change_is_told_of_once_it_is_made(tmp_path: Path) -> None:
    put(tmp_path, "tiny", 1)
    told: list[int] = []

    async def scenario(registry: Registry, opener: Opener) -> None:
        assert told == [1]
        await registry.unload("tiny")
        await registry.load("tiny")
        assert told == [1, 1, 1]

    changing(scenario, tmp_path, on_change=lambda: told.append(1))


def test_only_what_is_chosen_is_loaded(tmp_path: Path) -> None:
    put(tmp_path, "tiny", 1)
    put(tmp_path, "tiny", 2)
    put(tmp_path, "other", 1)

    async def choose() -> set[str]:
        return {"tiny/1"}

    async def run() -> None:
        registry = Registry([tmp_path], Opener())
        await registry.load_all(choose=choose)
        assert keys(registry) == ["tiny/1"]
        assert states(await registry.index()) == {
            "other/1": "UNAVAILABLE",
            "tiny/1": "READY",
            "tiny/2": "UNAVAILABLE",
        }

    asyncio.run(run())
