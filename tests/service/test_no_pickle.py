"""Nothing that comes from outside is ever unpickled or run: not by what is imported, and not when a server works."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Modules that make programs out of bytes.
LOADERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}
# Calls that do so, and what they have to be told not to.
CALLS = {
    **dict.fromkeys(
        ("eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen")
    ),
    **dict.fromkeys(("np.load", "numpy.load"), "allow_pickle=False"),
    "torch.load": "weights_only=True",
}


def served() -> list[Path]:
    """The modules of the service, and those of models/ that it may import, or that make networks of bundles for it."""
    names = ("bundle", "energy", "cpu.py", "labels.py", "tools.py")
    on_a_gpu = ("evaluation.py", "export", "fused", "kernels", "networks", "neuron.py")
    shared = [ROOT / "models" / name for name in (*names, *on_a_gpu)]
    files = [ROOT / "service", *(path if path.exists() else path.with_suffix(".py") for path in shared)]
    found = [path for file in files for path in (file.rglob("*.py") if file.is_dir() else [file])]
    assert len(found) > 100
    return found


def risks(source: str) -> Iterator[str]:
    """What in a module could unpickle or run what it is given."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in LOADERS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in LOADERS:
            yield str(node.module)
        elif isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in CALLS:
            told = {f"{keyword.arg}={ast.unparse(keyword.value)}" for keyword in node.keywords}
            if CALLS[called] not in told:
                yield called


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import pickle", 1),
        ("from joblib import load", 1),
        ("def f():\n    import dill.source", 1),
        ("import numpy as np\nnp.load(p)", 1),
        ("np.load(p, allow_pickle=True)", 1),
        ("np.load(p, allow_pickle=False)", 0),
        ("torch.load(p)", 1),
        ("torch.load(p, weights_only=True)", 0),
        ("eval(text)", 1),
        ("model.eval()", 0),
        ("re.compile(text)", 0),
    ],
)
def test_what_could_is_recognised(source: str, count: int) -> None:
    assert len(list(risks(source))) == count


def test_no_module_on_the_serving_path_could() -> None:
    assert {
        f"{path.relative_to(ROOT)}: {risk}" for path in served() for risk in risks(path.read_text("utf-8"))
    } == set()


# The interpreter reports each class or function that an unpickler looks up, and each code that is run from a text.
PROGRAM = """
import pickle
import sys
from pathlib import Path

import numpy as np

from service.app import create_app
from service.settings import Settings
from tests import tiny
from tests.images import encode
from tests.mutations import valid
from tests.serving import RunningApp

seen = []
watching = False

def hook(event, arguments):
    if watching and event in ("pickle.find_class", "marshal.loads", "marshal.load"):
        seen.append((event, arguments))

sys.addaudithook(hook)
images = tiny.images(2)
pictures = [encode((image[0] * 255).astype(np.uint8)) for image in images]
settings = Settings(models=(Path(sys.argv[1]),), batch_sizes=(1, 4), threads=1)

def work():
    with RunningApp(create_app(settings)) as app:
        app.ready()
        for request in valid("tiny", pictures, images.tolist(), images.shape):
            path = request.path.decode() + "?" + request.query.decode()
            headers = {name.decode(): value.decode() for name, value in request.headers}
            answer = app.post(path, content=request.body, headers=headers)
            assert answer.status_code == 200, answer.text
        assert app.post("/v2/repository/models/tiny/load").status_code == 200
        assert app.get("/metrics").status_code == 200

work()  # what is imported late is imported now
watching = True
work()
print("seen at work", seen)
pickle.loads(pickle.dumps(Path))
print("seen on purpose", seen)
"""


def test_loading_a_model_and_answering_in_every_form_unpickles_nothing(repository: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(repository)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "seen at work []\n" in ended.stdout
    assert "seen on purpose [('pickle.find_class'," in ended.stdout
