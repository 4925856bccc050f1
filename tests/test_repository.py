"""The repository's own rules: which way imports point, one lock for everything, nothing of one machine in a file."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("service", "models", "loadtest")

# --- Imports -----------------------------------------------------------------------------------------------------


def imported(source: str, package: str) -> set[str]:
    """Dotted names that a module in `package` imports, anywhere in it; `from a import b` counts as a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def modules(prefix: str) -> Iterator[tuple[str, set[str]]]:
    """Every module at or under `prefix` with what it imports."""
    for path in sorted((ROOT / prefix.split(".")[0]).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        package = ".".join(parts[:-1])
        module = package if parts[-1] == "__init__" else ".".join(parts)
        if within(module, (prefix,)):
            yield module, imported(path.read_text(encoding="utf-8"), package)


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import a.b as c, d", {"a.b", "d"}),
        ("from a.b import c, d", {"a.b.c", "a.b.d"}),
        ("from . import c", {"x.y.c"}),
        ("from ..a import c", {"x.a.c"}),
        ("def f():\n    if True:\n        import a", {"a"}),
    ],
)
def test_every_form_of_import_is_seen(source: str, names: set[str]) -> None:
    assert imported(source, "x.y") == names


@pytest.mark.parametrize(
    ("prefix", "forbidden"),
    [
        ("models", ("service", "loadtest")),
        ("service", ("loadtest", "tests")),
        (
            "service.transports",
            ("service.scheduler", "service.engines", "onnxruntime", "openvino", "models.export", "torch"),
        ),
        ("service.handler", ("service.transports", "service.app", "service.engines", "fastapi", "starlette")),
        ("service.registry", ("service.transports", "service.app", "service.handler", "fastapi", "starlette")),
        (
            "service.scheduler",
            ("service.transports", "service.app", "service.handler", "service.registry", "fastapi", "starlette"),
        ),
        (
            "service.engines",
            (
                "service.transports",
                "service.app",
                "service.handler",
                "service.registry",
                "service.scheduler",
                "fastapi",
            ),
        ),
    ],
)
def test_imports_point_one_way(prefix: str, forbidden: tuple[str, ...]) -> None:
    seen = list(modules(prefix))
    assert seen, f"there is no {prefix}"
    wrong = [f"{module} imports {name}" for module, names in seen for name in sorted(names) if within(name, forbidden)]
    assert not wrong


# What the service may import of models/, and why. None of it needs torch; one part needs an extra, to draw. What the
# engine on a GPU imports beside it is a matter of its own.
SHARED = {
    "models.bundle": "the format of what is served",
    "models.cpu": "how many cores there are",
    "models.energy": "operations and joules of an answer",
    "models.labels": "labels.csv, which lmht data writes and lmht tradeoff reads",
    "models.nvml": "what the GPU says of itself",
    "models.panels": "the plot that lmht plot and lmht tradeoff have in common",
    "models.tools": "what the command line hands to the commands of models/",
}


def test_the_service_takes_from_models_only_what_is_meant_to_be_shared() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, names in modules("service")
        for name in sorted(names)
        # The bare package is empty; its folder is where the bundled models are.
        if within(name, ("models",)) and name != "models" and not within(name, tuple(SHARED))
        if not (within(module, (ON_A_GPU,)) and within(name, ("models.fused",)))
    ]
    assert not wrong


ON_A_GPU = "service.engines.cuda"


def test_only_the_engine_on_a_gpu_imports_torch_and_only_who_opens_an_engine_imports_that() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, names in modules("service")
        for name in sorted(names)
        if within(name, ("torch", "triton", "models.fused", ON_A_GPU)) and not within(module, (ON_A_GPU,))
    ]
    assert wrong == ["service.engines imports service.engines.cuda.engine.CudaEngine"]


def test_only_lmht_tradeoff_draws() -> None:
    """What serves must not come to need matplotlib by way of what it shares."""
    drawing = {module for module, names in modules("service") if any(within(n, ("models.panels",)) for n in names)}
    assert drawing <= {"service.tradeoff.command", "service.tradeoff.report"}


def test_the_load_test_takes_only_the_client_from_the_rest() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, names in modules("loadtest")
        for name in sorted(names)
        if within(name, ("service", "models")) and not within(name, ("service.client",))
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("package", "extras"), [("service", ("otel", "gpu")), ("loadtest", ()), ("models", ("train", "gpu"))]
)
def test_every_package_that_is_imported_is_declared(package: str, extras: tuple[str, ...]) -> None:
    """An import that happens to work, since something else installed the package, breaks on the next machine."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *itertools.chain(*(project["optional-dependencies"][x] for x in extras))]
    available = {canonicalize_name(Requirement(line).name) for line in lines}
    if "fastapi" in available:
        available.add(canonicalize_name("starlette"))  # FastAPI's own classes, which its documentation imports too
    distributions = packages_distributions()
    undeclared = set()
    for module, names in modules(package):
        for top in {name.partition(".")[0] for name in names} - set(PACKAGES) - sys.stdlib_module_names:
            if not available & {canonicalize_name(name) for name in distributions.get(top, [top])}:
                undeclared.add(f"{module} imports {top}")
    assert not undeclared


@pytest.mark.parametrize("module", ["service.app", "service.cli", "service.client"])
def test_serving_imports_nothing_that_only_an_extra_installs(module: str) -> None:
    extras = {"torch", "onnx", "mlxtend", "matplotlib", "scipy", "safetensors", "pytest", "hypothesis"}
    extras |= {"opentelemetry.sdk", "opentelemetry.exporter"}  # FastAPI itself brings its API
    # None in sys.modules makes an import fail, as it would where the package is not installed.
    program = f"import sys; sys.modules.update(dict.fromkeys({sorted(extras)!r})); import {module}"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


# --- The lock ----------------------------------------------------------------------------------------------------


def locked() -> list[Requirement]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [Requirement(line.partition("#")[0].strip()) for line in lines if line.partition("#")[0].strip()]


def declared() -> list[Requirement]:
    """All that pyproject.toml asks for: the core, every extra and what builds the package; its own extras aside."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    lines = [*project["build-system"]["requires"], *project["project"]["dependencies"], *itertools.chain(*extras)]
    return [r for r in map(Requirement, lines) if r.name != project["project"]["name"]]


def test_the_lock_has_one_exact_version_a_line_and_no_index() -> None:
    for requirement in locked():
        assert requirement.url is None
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(requirement.specifier)), f"{requirement} is no exact pin"


def test_the_lock_satisfies_everything_that_the_project_declares() -> None:
    pins = {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in locked()}
    for requirement in declared():
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{requirement} is not locked: run `make lock`"
        assert requirement.specifier.contains(pins[name]), f"{requirement} but {pins[name]} is locked: run `make lock`"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "arm64"])
@pytest.mark.parametrize(("sys_platform", "system"), [("linux", "Linux"), ("darwin", "Darwin"), ("win32", "Windows")])
@pytest.mark.parametrize("read", [locked, declared])
def test_every_platform_gets_onnxruntime_and_openvino_only_where_it_is_tested(
    machine: str, sys_platform: str, system: str, read: Callable[[], list[Requirement]]
) -> None:
    platform = {"platform_machine": machine, "sys_platform": sys_platform, "platform_system": system}
    here = [r.name for r in read() if r.marker is None or r.marker.evaluate(dict(platform))]
    # Never a second build of ONNX Runtime: they share a folder.
    assert [name for name in here if name.startswith("onnxruntime")] == ["onnxruntime"]
    assert ("openvino" in here) == ((machine, sys_platform) == ("x86_64", "linux"))


def test_torch_comes_with_an_extra_only() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with_torch = {
        extra
        for extra, lines in project["optional-dependencies"].items()
        if any(Requirement(line).name == "torch" for line in lines)
    }
    assert not any(Requirement(line).name == "torch" for line in project["dependencies"])
    assert with_torch == {"train", "gpu"}


def test_makefile_image_and_ci_install_from_the_one_lock() -> None:
    locks = [p for p in tracked() if re.search(r"(requirements|constraints)[^/]*\.(txt|in|lock)$|\.lock$", str(p))]
    assert locks == [Path("requirements.lock")]

    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^LOCK := requirements\.lock$", makefile, re.MULTILINE)
    # The one other pip fetches uv, which writes the lock.
    installs = [line for line in logical_lines(makefile) if "pip install" in line and "--quiet uv" not in line]
    assert len(installs) == 1
    assert "PIP_CONSTRAINT=$(LOCK) PIP_BUILD_CONSTRAINT=$(LOCK)" in installs[0]

    runs = [line for line in dockerfile() if line.startswith("RUN") and re.search(r"pip .*\binstall\b", line)]
    assert runs
    assert all("requirements.lock" in run for run in runs)

    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in ci
    assert not re.search(r"\bpip\b", ci)


# --- The image ---------------------------------------------------------------------------------------------------


def logical_lines(text: str) -> list[str]:
    return re.sub(r"\\\n\s*", " ", text).splitlines()


def dockerfile() -> list[str]:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    return logical_lines("\n".join(line for line in lines if not line.startswith("#")))


def test_the_build_context_has_what_the_image_copies_and_no_more() -> None:
    copies = [line.split()[1:-1] for line in dockerfile() if line.startswith("COPY") and "--from" not in line]
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == set(itertools.chain(*copies))


def test_the_image_runs_as_a_numeric_user_that_is_not_root() -> None:
    last = [line for line in dockerfile() if line.startswith("USER")][-1]
    uid, _, gid = last.removeprefix("USER ").partition(":")
    assert int(uid) > 0
    assert int(gid) > 0


# --- Every file --------------------------------------------------------------------------------------------------


def tracked() -> list[Path]:
    """Files that are committed, or would be; relative to the repository's root."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted({Path(name) for name in listing.split("\0") if name and (ROOT / name).is_file()})


# In two halves, so that this file is not among its own findings.
UNWANTED = re.compile(
    "|".join(
        [
            r"(?<![\w.~$}-])/(work|ro" + r"ot)/",
            r"py" + r"pi\.(org|python)",
            r"python" + r"hosted\.org",
            r"npm" + r"js\.(org|com)",
            r"deb\.deb" + r"ian\.org",
        ]
    )
)


@pytest.mark.parametrize("text", ["see /wo" + "rk/main/x", '"/ro' + 'ot/x"', "https://py" + "pi.org/simple"])
def test_what_belongs_to_one_machine_is_recognised(text: str) -> None:
    assert UNWANTED.search(text)


def test_no_file_names_a_folder_of_one_machine_or_a_package_index() -> None:
    """Which index packages come from is for pip's own configuration to say."""
    found = []
    for path in tracked():
        content = (ROOT / path).read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8").splitlines(), 1):
            if UNWANTED.search(line):
                found.append(f"{path}:{number}: {line.strip()[:120]}")
    assert not found


def test_each_folder_a_newcomer_opens_has_a_readme() -> None:
    missing = [folder for folder in (*PACKAGES, "deploy", "tests") if not (ROOT / folder / "README.md").is_file()]
    assert not missing
