"""The house: who may import whom, what is named where, what the wheel holds, what importing costs."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import rlce

ROOT = Path(__file__).parents[1]
# What stands where; a module imports only from layers below its own, and the two wings of layer 3 never meet.
GROUND = ("version", "objective", "network", "data", "checkpoint", "optimization", "tracking", "threads", "plots",
          "bar")  # fmt: skip
WITHIN = {  # rooms of one wing, each of which imports from rooms before it only
    "rules": ("ranges", "targets", "weights", "returns", "binding"),
    "supervised": ("calibration", "fields", "csv_files", "splits", "columns", "frames", "tables", "rows", "loss",
                   "scaling", "plan", "shown", "fitting", "classes", "files", "estimator", "classifier", "regressor",
                   "report", "measuring"),
    "reinforcement": ("masks", "spaces", "contract", "environments", "credit", "rollout", "methods", "settings",
                      "recipes", "networks", "evaluation", "loss", "shown", "files", "policy_gradient", "pictures",
                      "recording", "window"),
}  # fmt: skip
LAYERS = {
    **dict.fromkeys(GROUND, 0),
    **dict.fromkeys(("heads", "trainer", "scalars"), 1),
    "rules": 2,
    **dict.fromkeys(("supervised", "reinforcement"), 3),
    "onnx_columns": 4,
    "onnx": 5,
}
MODULES = sorted(
    ".".join(path.relative_to(ROOT / "rlce").with_suffix("").parts)
    for path in (ROOT / "rlce").rglob("*.py")
    if path.stem != "__init__"
)


def path_of(module: str) -> Path:
    return ROOT / "rlce" / f"{module.replace('.', '/')}.py"


def imports(path: Path) -> set[str]:
    """Every module that a file imports, inside functions as well."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        assert getattr(node, "level", 0) == 0, f"{path.name} imports by a relative name"
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def imported_rooms(module: str) -> set[str]:
    """The library's own modules that one imports, as named in `MODULES`."""
    names = {name.removeprefix("rlce.") for name in imports(path_of(module)) if name.startswith("rlce.")}
    return {room for room in MODULES if any(name == room or name.startswith(f"{room}.") for name in names)}


def test_every_module_has_a_layer() -> None:
    rooms = {f"{folder}.{name}" for folder, names in WITHIN.items() for name in names}
    assert set(MODULES) == rooms | (set(LAYERS) - set(WITHIN))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_layers_below(module: str) -> None:
    wing, _, room = module.rpartition(".")
    folder = wing or room
    imported = imports(path_of(module))
    assert not {name.partition(".")[0] for name in imported} & {"agents", "envs", "scripts", "tests"}
    for other in imported_rooms(module):
        other_wing, _, other_room = other.rpartition(".")
        if wing and wing == other_wing:
            assert WITHIN[wing].index(other_room) < WITHIN[wing].index(room), f"{module} imports {other}"
        else:
            assert LAYERS[other_wing or other_room] < LAYERS[folder], f"{module} imports {other}"


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_the_face(module: str) -> None:
    """A name of `__init__` would load whatever it stands for."""
    for node in ast.walk(ast.parse(path_of(module).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "rlce":
            assert {alias.name for alias in node.names} <= {*GROUND, "heads", "trainer"}
        elif isinstance(node, ast.Import):
            assert "rlce" not in {alias.name for alias in node.names}


def test_the_two_wings_never_meet() -> None:
    for module in MODULES:
        for wing, other in (("supervised", "reinforcement"), ("reinforcement", "supervised")):
            if module.startswith(wing):
                assert not any(name.startswith(f"rlce.{other}") for name in imports(path_of(module))), module


def test_heads_know_no_environment() -> None:
    for module in ("heads", *(name for name in MODULES if name.startswith("supervised"))):
        assert not any(name.partition(".")[0] == "gymnasium" for name in imports(path_of(module))), module


@pytest.mark.parametrize("folder", ["agents", "scripts"])
def test_recipes_and_scripts_import_no_tests(folder: str) -> None:
    """Recipes know the library and the environments; scripts know the recipes, too."""
    paths = sorted((ROOT / folder).glob("*.py"))
    assert paths
    for path in paths:
        ours = {name.partition(".")[0] for name in imports(path)} & {"rlce", "agents", "envs", "scripts", "tests"}
        assert ours <= {"rlce", "envs", "agents", "scripts"} - ({"scripts"} if folder == "agents" else set()), path


def test_environments_import_neither_the_library_nor_torch() -> None:
    paths = sorted((ROOT / "envs").glob("*.py"))
    assert paths
    for path in paths:
        assert not {name.partition(".")[0] for name in imports(path)} & {"rlce", "torch", "agents", "scripts", "tests"}


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("trainer", r"ppo|reinforce(?!ment)|actor.?critic|rloo|policy|cartpole|gymnasium|digits"),
        ("reinforcement.rollout", r"ppo|reinforce(?!ment)|actor.?critic|rloo|advantage"),
        ("reinforcement.loss", r"\bppo|reinforce\(|rloo|grpo|cartpole|gymnasium"),
        ("reinforcement.methods", r"acrobot|pendulum|lunar|gymnasium"),
    ],
)
def test_what_a_module_may_not_know(module: str, words: str) -> None:
    """Read as code: comments and docstrings may give examples."""
    tree = ast.parse(path_of(module).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    assert re.findall(words, ast.unparse(tree), flags=re.IGNORECASE) == []


def test_the_library_names_no_data_set() -> None:
    for module in MODULES:
        text = path_of(module).read_text()
        assert not re.search(r"digits|iris|breast|load_wine|mnist", text, flags=re.IGNORECASE), module


def test_importing_is_light_and_training_stays_so() -> None:
    program = """
import sys, rlce
heavy = {"sklearn", "pandas", "tensorboard", "torch._dynamo", "gymnasium", "tyro"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
agent = rlce.PolicyGradient("CartPole-v1")
assert "threadpoolctl" not in sys.modules
agent.learn(300)
heavy -= {"gymnasium"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
rlce.Classifier
assert "sklearn" in sys.modules and "tensorboard" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_estimators_load_no_environments() -> None:
    program = """
import sys, rlce
rlce.Regressor(epochs=2).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0]).predict([[0.5]])
rlce.Classifier(epochs=2).fit([[0.0], [1.0], [2.0]], [0, 1, 1]).predict([[0.5]])
assert not {"gymnasium", "tensorboard", "torch._dynamo"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# Constructors and loaders of the public face, scikit-learn's `fit`, named methods, and a published recursion.
MANY_ARGUMENTS = {
    "Classifier.__init__",
    "Estimator.fit",
    "Regressor.__init__",
    "PolicyGradient.__init__",
    "PolicyGradient.load",
    "vtrace",
}


@pytest.mark.parametrize("module", MODULES)
def test_no_function_takes_nine_arguments(module: str) -> None:
    tree = ast.parse(path_of(module).read_text())
    for owner in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]:
        for node in ast.iter_child_nodes(owner):
            if isinstance(node, ast.FunctionDef):
                names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                count = len([name for name in names if name not in ("self", "cls")])
                full = f"{owner.name}.{node.name}" if isinstance(owner, ast.ClassDef) else node.name
                assert count < 9 or full in MANY_ARGUMENTS, f"{full} takes {count} arguments"


def test_public_names_resolve_and_are_documented() -> None:
    assert set(rlce.__all__) <= set(dir(rlce))
    for name in rlce.__all__:
        value = getattr(rlce, name)
        assert inspect.getdoc(value), name
        if inspect.ismodule(value):
            members = [m for _, m in inspect.getmembers(value) if getattr(m, "__module__", "") == value.__name__]
            for member in members:
                assert inspect.getdoc(member) or member.__name__.startswith("_"), f"{name}.{member}"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = rlce.nothing  # type: ignore[attr-defined]


def test_the_readme_s_code_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_wheel_holds_the_library_alone(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert rlce.__version__ in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"rlce", f"rlce-{rlce.__version__}.dist-info"}
    assert {"rlce/py.typed", "rlce/recipes.json"} <= set(names)
    assert {f"rlce/{module.replace('.', '/')}.py" for module in MODULES} <= set(names)


def test_top_level_folders() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    folders = {name.split("/")[0] for name in tracked if "/" in name}
    assert folders <= {"rlce", "agents", "envs", "tests", "scripts", "docs", ".ci"}


@pytest.mark.parametrize("module", MODULES)
def test_modules_stay_small(module: str) -> None:
    """About 300 lines of code a module: docstrings, comments and blank lines not counted."""
    source = path_of(module).read_text()
    tree = ast.parse(source)
    code = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt | ast.expr) and hasattr(node, "lineno")
        for line in (node.lineno, node.end_lineno)
        if line is not None
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
            documentation = node.body[0]
            code -= set(range(documentation.lineno, (documentation.end_lineno or 0) + 1))
    assert len(code) <= 330
    assert importlib.import_module(f"rlce.{module}").__doc__
