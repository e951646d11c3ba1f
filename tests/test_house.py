"""Rules for the source tree beside the import contracts in pyproject.toml: imports, docstrings, what starting costs."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from wavefold.core.registry import installed_domains
from wavefold.data import LAYOUTS, SIMULATORS
from wavefold.models import MODELS
from wavefold.transforms import MIXERS, TRANSFORMS

SOURCE = Path(importlib.import_module("wavefold").__file__ or "").parent
FILES = sorted(SOURCE.rglob("*.py"))
OPTIONAL = (
    *("skops", "wfdb", "astropy", "imblearn", "lightgbm", "openpyxl", "pyarrow", "torch.utils.tensorboard"),
    *("distributed", "dask", "optuna"),
    *("timm", "torchvision", "h5py", "hdf5plugin", "matplotlib", "xarray", "zarr", "h5netcdf", "PIL"),
)


def imports(path: Path) -> list[tuple[str, bool]]:
    """Modules that a file imports when it runs, so not for types only, with whether that stands in a function."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    inner = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inner) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.module or "", id(node) in inner)]
            found += [(f"{node.module}.{alias.name}", id(node) in inner) for alias in node.names]
    return found


@pytest.mark.parametrize("path", [f for f in FILES if f.name != "cli.py"], ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_import_in_a_function(path):
    assert [module for module, inside in imports(path) if inside] == []


@pytest.mark.parametrize("package", OPTIONAL)
def test_an_optional_package_has_one_door(package):
    users = [f.name for f in FILES if any(m == package or m.startswith(f"{package}.") for m, _ in imports(f))]
    assert users == [], f"{package} is imported outright by {users}"
    doors = [f.name for f in FILES if f'optional("{package}' in f.read_text()]
    assert len(doors) == 1, f"{package} has the doors {doors}"


def test_no_public_name_is_that_of_another_module():
    modules = {f.stem for f in FILES} | {f.parent.name for f in FILES}
    for path in FILES:
        if path.name in ("cli.py", "api.py"):  # commands and the API have the same verbs
            continue
        tree = ast.parse(path.read_text())
        public = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")}
        assert not public & (modules - {path.stem}), f"{path.name}: {public & modules}"


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


def test_no_code_asks_for_a_domain_by_name():
    """Outside its package no domain is imported: what it brings is found through the tables."""
    names = ("heartbeat", "maps", "radio", "spectra")
    for path in FILES:
        if "domains" not in path.parts:
            users = [m for m, _ in imports(path) if m.startswith(tuple(f"wavefold.domains.{name}" for name in names))]
            assert users == [], f"{path.name} imports {users}"


def test_every_part_of_a_domain_reaches_its_table():
    tables = {"models": MODELS, "layouts": LAYOUTS, "simulators": SIMULATORS, "transforms": TRANSFORMS, "mixers": MIXERS}
    assert set(installed_domains()) >= {"heartbeat", "maps", "radio", "spectra"}
    for domain in installed_domains().values():
        for kind, table in tables.items():
            assert set(getattr(domain, kind)) <= set(table), f"{kind} of {domain.name}"


def test_every_ignored_type_error_has_its_reason():
    lines = [f"{f.name}: {line.strip()}" for f in FILES for line in f.read_text().splitlines() if "type: ignore" in line]
    assert [line for line in lines if "]  # " not in line] == []
