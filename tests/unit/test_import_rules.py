"""Which package may import which, and what must stay light."""

import ast
import graphlib
import sys
from pathlib import Path

import pytest

import edgekd

ROOT = Path(edgekd.__file__).parent
CORE = {"errors", "entries", "reading", "schema", "resources", "artifacts", "files"}
CORE |= {
    "file_record",
    "parts",
    "folders",
    "model_card",
    "run_folder",
    "progress",
    "recipe",
    "recipe_distill",
    "recipe_losses",
    "recipe_search",
    "target",
    "libraries",
    "plot_style",
}
# Upstream first: a package may import itself, the core and what stands before it.
ORDER = ["processes", "measure", "devices", "diffusion", "data", "metrics", "training", "student"]
ORDER += ["search", "distill", "export", "bundle", "report", "benchmark", "teach"]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return {name.split(".")[1] for name in names if name.startswith("edgekd.")}


@pytest.mark.parametrize("package", ORDER)
def test_no_downstream_import(package):
    # Runtime imports none of them: it stands before all.
    allowed = CORE | {"runtime", "__version__"} | set(ORDER[: ORDER.index(package) + 1])
    if package == "devices":
        allowed |= {"serve"}  # an agent's server; it is in the distribution for devices
    for path in sorted((ROOT / package).rglob("*.py")):
        assert imported(path) <= allowed, path


def test_every_package_has_a_place():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(ORDER) | {"starter", "runtime", "serve", "cli", "jobs"}


def test_runtime_imports_only_itself_and_what_needs_nothing():
    """It is a distribution of its own, which has nothing else of edgekd."""
    light = {"__future__", "edgekd", "numpy", "tokenizers"} | sys.stdlib_module_names
    for path in sorted((ROOT / "runtime").rglob("*.py")):
        assert imported(path) <= {"errors", "file_record", "reading", "runtime"}, path
        statements = ast.parse(path.read_text(encoding="utf-8")).body
        for node in (node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)):
            names = [node.module] if isinstance(node, ast.ImportFrom) else node.names
            tops = {str(getattr(name, "name", name)).split(".")[0] for name in names}
            assert tops <= light, path


def test_serve_imports_only_itself_and_the_runtime():
    """It is in the distribution for devices."""
    for path in sorted((ROOT / "serve").rglob("*.py")):
        found = imported(path) - {"file_record"}
        assert found <= {"errors", "reading", "runtime", "serve", "__version__"}, path


def test_core_imports_only_core():
    for name in CORE:
        assert imported(ROOT / f"{name}.py") <= CORE | {"__version__"}, name


def imported_modules(path: Path, modules: set[str]) -> set[str]:
    """Modules of edgekd that a file imports when it runs, inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            found |= names or {node.module} & modules
    return found


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """What each module imports of edgekd."""

    def name(path: Path) -> str:
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        return ".".join(parts).removesuffix(".__init__")

    paths = {name(path): path for path in ROOT.rglob("*.py")}
    return {module: imported_modules(path, set(paths)) for module, path in paths.items()}


def test_no_circle_of_imports(graph):
    # Raises CycleError, which names the circle.
    graphlib.TopologicalSorter(graph).prepare()


def test_an_agent_is_whole_in_its_distribution(graph):
    hook = ast.parse((ROOT.parent / "runtime" / "hatch_build.py").read_text(encoding="utf-8"))
    (files,) = (
        ast.literal_eval(node.value)
        for node in hook.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "FILES"
    )
    packed = {path for pattern in files for path in ROOT.glob(pattern)}
    needed, left = set(), {"edgekd.devices.__main__", "edgekd.runtime.__main__"}
    while left:
        module = left.pop()
        needed.add(module)
        left |= graph[module] - needed
    for module in needed:
        path = ROOT.parent.joinpath(*module.split("."))
        assert packed & {path.with_suffix(".py"), path / "__init__.py"}, module


def test_a_class_name_has_one_meaning():
    places: dict[str, list[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_module_is_above_300_lines():
    long = {
        str(path.relative_to(ROOT)): count
        for path in sorted(ROOT.rglob("*.py"))
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 300
    }
    assert long == {}
