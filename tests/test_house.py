"""The law of the house (docs/words.md): who may import whom, and what starting costs."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(importlib.import_module("wavefold").__file__ or "").parent
ROOMS = ("data", "prepare", "models", "training", "combine", "output")
FILES = sorted(SOURCE.rglob("*.py"))
OPTIONAL = (
    *("skops", "wfdb", "astropy", "imblearn", "lightgbm", "openpyxl", "pyarrow", "torch.utils.tensorboard"),
    *("timm", "torchvision", "h5py", "hdf5plugin", "matplotlib", "xarray", "zarr", "h5netcdf", "PIL"),
)


def imports(path: Path) -> list[tuple[str, bool]]:
    """Modules that a file imports, with whether that stands in a function."""
    tree = ast.parse(path.read_text())
    inner = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inner) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.module or "", id(node) in inner)]
            found += [(f"{node.module}.{alias.name}", id(node) in inner) for alias in node.names]
    return found


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def test_the_law_reads_the_whole_house():
    assert len(FILES) > 30
    assert {room(f) for f in FILES} >= {*ROOMS, "base", "pipeline", "recipe", "cli", "estimators"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_arrows_point_one_way(path):
    here = room(path)
    for module, _ in imports(path):
        if not module.startswith("wavefold."):
            continue
        there = module.split(".")[1]
        if here == "base":
            assert there == "base", f"base imports {module}"
        elif here in ROOMS:
            assert there in (here, "base"), f"room {here} imports {module}"
        elif here == "story":  # chapters see rooms and each other, never the story that calls them
            assert there != "pipeline", f"{path.name} imports the pipeline"
        elif here == "recipe":
            assert there == "base", f"recipe imports {module}"
        elif here == "estimators":  # the parts, never the story, the recipes or the files around them
            seen = (here, "prepare", "models", "training", "combine", "base")
            assert there in seen, f"{path.name} imports {module}"
        elif here not in ("pipeline", "cli", "__init__"):
            raise AssertionError(f"{path.name} stands in no room")
        assert there != "cli", f"{path.name} imports the command line"


@pytest.mark.parametrize("path", [f for f in FILES if f.name != "cli.py"], ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_import_in_a_function(path):
    assert [module for module, inside in imports(path) if inside] == []


@pytest.mark.parametrize("package", OPTIONAL)
def test_an_optional_package_has_one_door(package):
    users = [f.name for f in FILES if any(m == package or m.startswith(f"{package}.") for m, _ in imports(f))]
    assert users == [], f"{package} is imported outright by {users}"
    doors = [f.name for f in FILES if f'optional("{package}' in f.read_text()]
    assert len(doors) == 1, f"{package} has the doors {doors}"


def test_no_public_name_is_a_module_or_room():
    modules = {f.stem for f in FILES} | set(ROOMS)
    for path in FILES:
        if room(path) in ("cli", "pipeline"):  # commands bear the verbs of the story
            continue
        tree = ast.parse(path.read_text())
        public = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")}
        assert not public & modules, f"{path.name}: {public & modules}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_every_public_name_says_what_it_is(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        overload = isinstance(node, ast.FunctionDef) and any(ast.unparse(d) == "overload" for d in node.decorator_list)
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not overload:
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize("code", ["import wavefold", "import wavefold.cli"])
def test_starting_loads_no_torch_and_little_else(code):
    heavy = ["torch", "numpy", "sklearn", "scipy", "joblib", "astropy", "pydantic", "simdjson", "lightgbm", "wfdb", "pandas"]
    script = f"{code}\nimport sys\nprint(*[m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
