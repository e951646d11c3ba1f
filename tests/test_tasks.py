"""Tasks: each answers every verb, one of another package is asked like ours, and nothing else asks which task a recipe has."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

from wavefold import api
from wavefold.core.errors import UserError
from wavefold.core.records import RunInfo, ScoreRow, Scores
from wavefold.recipe import Recipe
from wavefold.tasks.base import TASKS, Task, task_of
from wavefold.tasks.samples.target import target_of

SOURCE = Path(importlib.import_module("wavefold").__file__ or "").parent
FILES = sorted(SOURCE.rglob("*.py"))
ELSEWHERE = [f for f in FILES if "tasks" not in f.relative_to(SOURCE).parts and f != SOURCE / "recipe.py"]
OURS = ("classification", "forecasting", "multilabel", "regression")
VERBS = [name for name, part in vars(Task).items() if inspect.isfunction(part) and not name.startswith("_")]
FIELDS = {
    *(field.alias or name for kind in (Scores, ScoreRow) for name, field in kind.model_fields.items()),
    *RunInfo.model_fields,
}

_CLASSES = ("Forecasting", "Forecasts", "Classification", "Regression", "MultiLabel", "SampleTask")


def words_of(node: ast.expr) -> str:
    """An expression as text."""
    return ast.unparse(node)


def asks_for_a_task(node: ast.AST) -> bool:
    """Whether an expression depends on which task a recipe has, other than through task_of."""
    if isinstance(node, ast.Attribute):
        held = words_of(node.value)
        return (
            "recipe" in held
            and not held.startswith(("task_of(", "tasks.task_of("))
            and node.attr in ("windows", "series", "task", "kind")
        )
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        named = [part for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)]
        return any(part.value in OURS for part in named)
    if isinstance(node, ast.Call) and words_of(node.func) == "isinstance":
        return any(word in words_of(node.args[1]) for word in _CLASSES)
    return False


def reads_a_record(node: ast.AST) -> bool:
    """Whether an expression takes a field of run.json or scores.json by its name in the file."""
    if not isinstance(node, ast.Subscript) or not isinstance(node.slice, ast.Constant):
        return False
    holder = words_of(node.value).rpartition(".")[2]
    return holder in ("scores", "metadata", "info", "results", "row", "score") and node.slice.value in FIELDS


def found_in(path: Path, wrong) -> list[str]:
    """The lines of a file with an expression that is wrong."""
    return [f"{path.name} {n.lineno}: {ast.unparse(n)}" for n in ast.walk(ast.parse(path.read_text())) if wrong(n)]


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("if recipe.windows: pass", asks_for_a_task),
        ("a = recipe_of(run).windows is None", asks_for_a_task),
        ("a = self.recipe.kind == 'x'", asks_for_a_task),
        ("a = name in ('forecasting', 'b')", asks_for_a_task),
        ("a = isinstance(made, Forecasts)", asks_for_a_task),
        ("a = run.metadata['classes']", reads_a_record),
        ("a = scores['score']['l1'][0]", reads_a_record),
        ("a = row['f1-by-class']", reads_a_record),
    ],
)
def test_what_is_looked_for_is_found(code, wrong):
    assert any(wrong(node) for node in ast.walk(ast.parse(code)))


def test_nothing_outside_tasks_asks_which_task_a_recipe_has():
    assert len(ELSEWHERE) > 100
    assert [line for path in ELSEWHERE for line in found_in(path, asks_for_a_task)] == []


def test_no_code_takes_a_field_of_a_run_or_its_scores_by_name():
    assert [line for path in FILES for line in found_in(path, reads_a_record)] == []


def test_no_code_imports_a_task():
    """A task is found through the entry points alone; a task's file may build on another's."""
    for path in (f for f in FILES if f.parent != SOURCE / "tasks"):
        named = [n.module or "" for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
        assert not {f"wavefold.tasks.{name}" for name in OURS} & set(named), path.name


@pytest.mark.parametrize("name", OURS)
def test_a_task_answers_every_verb_as_the_protocol_says(name):
    task = TASKS[name]
    assert task.name == name
    assert task.series == (name == "forecasting")
    assert len(VERBS) >= 14
    for verb in VERBS:
        expected = list(inspect.signature(getattr(Task, verb)).parameters.values())[1:]
        given = list(inspect.signature(getattr(task, verb)).parameters.values())
        assert [(p.name, p.kind) for p in given] == [(p.name, p.kind) for p in expected], verb


@pytest.mark.parametrize(("name", "kind"), [("heartbeat", "classification"), ("frames", "forecasting")])
def test_a_recipe_without_a_task_has_the_one_of_its_data(name, kind):
    recipe = Recipe.load(name)
    assert (recipe.task, recipe.kind) == (None, kind)
    assert task_of(recipe) is TASKS[kind]


def test_a_task_that_is_not_there_is_named():
    recipe = Recipe.load("heartbeat").with_({"task": "clasification"})
    with pytest.raises(UserError, match=r"task: 'clasification' is not one of .*did you mean 'classification'"):
        api.check(recipe)
    with pytest.raises(UserError, match="task: 'forecasting' is not on labelled samples"):
        target_of(Recipe.load("frames"))


class Counting:
    """A task of another package, which says what it was asked."""

    name, series = "counting", False

    def __init__(self) -> None:
        self.asked: list[str] = []

    def check_recipe(self, recipe):
        """Note it."""
        self.asked.append("check_recipe")

    def describe_data(self, recipe, source):
        """Note it."""
        self.asked.append("describe_data")
        return [f"counted {source}"]

    def describe_nets(self, recipe):
        """Note it."""
        self.asked.append("describe_nets")
        return "no nets"

    def simulate(self, recipe, folder, *, count, seed):
        """Note it."""
        self.asked.append("simulate")
        return folder / f"{count}-{seed}"


def test_a_task_of_another_package_is_asked_like_ours(monkeypatch, tmp_path):
    task = Counting()
    monkeypatch.setitem(TASKS, "counting", task)
    recipe = Recipe.load("heartbeat").with_({"task": "counting"})
    assert api.check(recipe, "somewhere") == ["counted somewhere"]
    assert api.describe_nets(recipe) == "no nets"
    assert api.simulate(recipe, tmp_path, count=3, seed=4) == tmp_path / "3-4"
    assert task.asked == ["check_recipe", "describe_data", "describe_nets", "check_recipe", "simulate"]
