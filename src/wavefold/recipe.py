"""Recipes: TOML files that describe a training run, validated strictly and changed by overrides.

Sections are in the order of execution. Keys known here are validated here; the options of a part (a net, a step, a loss)
are checked by `api` against the part's own signature.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from wavefold.core.errors import UserError, listed, nearest
from wavefold.core.registry import recipe_files


def _as_word(value: object) -> object:
    """A number as text: --set data.label=187 names a column."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Word = Annotated[str, BeforeValidator(_as_word)]  # a name in the data, which may be a number


class Section(BaseModel):
    """A section of a recipe with exactly these keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Choice(BaseModel):
    """A section of a recipe that names a part; further keys are that part's own options."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    @property
    def options(self) -> dict[str, Any]:
        """The part's own options."""
        return dict(self.model_extra or {})


class Data(Section):
    """Where samples come from."""

    layout: str = "auto"  # file layout; "auto" detects it from suffix and header
    label: Word = ""  # label column; "" uses the layout's own
    targets: list[Word] | None = None  # columns of numbers to predict, or of 0 and 1 for each label
    target_units: list[str] | None = None  # of the numbers, for display
    test: str = ""  # a file to predict after training; test files in the data folder are predicted anyway
    limit: int = Field(0, ge=0)  # maximum number of samples, stratified by class; 0 takes all
    missing: list[float] | None = None  # stored values that mean missing: samples with one cannot be read
    skip_bad: bool = False  # skip samples that cannot be read; the run lists them
    grid: list[float] | None = Field(None, min_length=3, max_length=3)  # first, last, step in angstrom, for FITS
    rate: int | None = Field(None, ge=1)  # values per second, for sources that have several
    signal: str | None = None  # of WFDB records, to cut beats from; or several in order of preference: "MLII,II"
    wavelength_unit: Literal["angstrom", "nm", "micron", "log10 angstrom"] | None = None  # in wavelength.txt; else by size
    medium: Literal["vacuum", "air"] | None = None  # of the wavelengths; FITS that state the other one are converted
    simulator: str
    writes: str  # layout of simulated samples
    count: int = Field(4000, ge=1)  # simulated samples, if no data are given
    backgrounds: str = ""  # real samples to inject simulated signals into; "" simulates these too
    digits: str = ""  # an .npz of `images` (n, 28, 28), such as MNIST's, for the simulator 'digits'; "" takes scikit-learn's
    # for simulate and show: channels and length; panels, rows and columns; or channels, rows and columns of frames
    shape: list[Annotated[int, Field(ge=1)]] = Field(min_length=2)
    # for simulate and show; real data have their own. Of two classes, the last is positive
    classes: list[Word] = []  # frames have none


class EventTable(Section):
    """How a table of dated events becomes frames; its keys are those of data.reading_as.Events."""

    box: list[float] = Field(min_length=4, max_length=4)  # west, east, south, north, in the units of x and y
    cells: list[Annotated[int, Field(ge=1)]] = Field(min_length=2, max_length=2)  # rows, columns
    time: str = ""  # columns; "" looks for the usual names
    x: str = ""
    y: str = ""
    kind: str = ""
    epoch: str = ""  # date from which a numeric time column counts
    dates: Literal["", "day first", "month first"] = ""  # order of dates such as 03/04/2023; "" decides from all rows, or asks
    clock: Literal["utc", "local"] = "utc"  # in which the days of times with an offset are counted
    every: str = "1 day"
    smooth: float = Field(0.0, ge=0, allow_inf_nan=False)  # cells
    memory: float = Field(0.0, ge=0, allow_inf_nan=False)  # half-life in steps
    kinds: dict[str, list[str]] = {}  # channel -> kinds


class SeriesRecipe(Section):
    """What to read from a source of frames; the true value is stored value * scale + offset."""

    variable: str = ""  # of .npz, NetCDF and Zarr; "" takes the only suitable one
    axes: str = ""  # of an array, in order: "time row column"; "" infers them from their number
    channels: list[str] = []  # keep these; [] keeps all
    targets: list[str] = []  # channels to forecast; [] forecasts all kept channels
    scale: float = Field(default=1.0, allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False)
    missing: list[float] = []  # stored values that mean missing
    unit: str = ""
    events: EventTable | None = None


class WindowsRecipe(Section):
    """How many past frames a forecast uses, how many frames it predicts, and where windows are cut."""

    past: int = Field(ge=1)
    ahead: int = Field(ge=1)
    stride: int = Field(1, ge=1)  # frames between starts of windows
    crop: list[Annotated[int, Field(ge=1)]] = Field([], max_length=2)  # rows, columns; [] takes whole frames
    crop_stride: list[Annotated[int, Field(ge=1)]] = Field([], max_length=2)  # [] cuts tiles that do not overlap
    anywhere: bool = False  # train on crops at random positions, drawn anew each time, instead of tiles


class Step(Choice):
    """One step of preparation: a transform, a balancer, an augmentation or a mixer."""

    step: str


class Split(Choice):
    """How samples are split into training, validation and test parts."""

    way: str
    group: Word = ""  # column whose groups stay on one side of the split; "auto" uses the source's own groups, if any


class Batches(Section):
    """How training samples are batched."""

    size: int = Field(ge=1)
    steps: int = Field(0, ge=0)  # maximum batches per epoch; 0: no limit, an epoch has as many samples as the training part
    fractions: str | dict[str, float] = (
        "each"  # sample once per epoch; or shares of a batch by class, from FRACTIONS or as a table
    )
    save_every: float = Field(30.0, ge=0)  # seconds between checkpoints; 0 saves after each batch


class Member(Choice):
    """One net or classifier of the ensemble."""

    model: str
    seed: int | None = None
    flips: list[str] = []  # a net's predictions are averaged over mirror images along these axes
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)  # in the mean; stackers learn their own


class StageRecipe(Choice):
    """One stage of training with one loss; further keys are the loss's own."""

    loss: str
    epochs: int = Field(ge=0)  # 0 skips the stage
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    optimiser: str = "adam"
    weight_decay: float = Field(0.0, ge=0)
    schedule: str = "constant"
    patience: int = Field(0, ge=0)
    average: float = Field(0.0, ge=0)
    best: str = "log-loss"


class Combine(Choice):
    """How members are combined; further keys are the combiner's own."""

    by: str = "mean"
    calibrate: str = "none"
    decide: str = "probabilities"
    threshold: float = Field(default=0.49, gt=0, lt=1)  # of the decision "thresholds"


class Range(Section):
    """A range of numbers to search: whole numbers if both ends are."""

    low: int | float
    high: int | float
    log: bool = False  # even in the logarithm
    step: int | float | None = None  # between values; None takes any

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high or (self.log and (self.low <= 0 or self.step is not None)):
            raise PydanticCustomError(
                "range", "expected low < high, and with log=true low > 0 and no step, got {given}", {"given": str(self)}
            )
        return self


class Output(Section):
    """What is measured, and the baselines it is compared with."""

    metric: str
    per: int = Field(0, ge=0)  # number of rows to quote a summed metric for; 0 quotes the sum
    baseline: str = ""  # a classifier trained on the same part, for comparison
    baselines: list[str] = []  # further ones; of forecasts, all of them
    period: float = Field(86400.0, gt=0, allow_inf_nan=False)  # seconds, cycle of the baseline 'climatology'
    thresholds: list[float] = []  # for CSI and FSS, in the unit of the frames; `csi` and `fss` use the first one
    scales: list[Annotated[int, Field(ge=1)]] = [1]  # cells, for FSS
    range: float = Field(0.0, ge=0, allow_inf_nan=False)  # of the values, for SSIM and PSNR; 0 uses the training part's
    pictures: bool = True  # of forecasts, if the extra `pictures` is installed
    tensorboard: bool = False
    submission: Literal["labels", "types", "target"] = "labels"  # columns of the CSV, a name in SUBMISSIONS

    @property
    def compared(self) -> list[str]:
        """The names of all baselines."""
        return [*([self.baseline] if self.baseline else []), *self.baselines]


class Recipe(Section):
    """A complete, resolved recipe."""

    name: str = Field(min_length=1)
    task: str | None = None  # a file in tasks/; recipes without one forecast if they have windows, and classify otherwise
    seed: int = Field(0, ge=0)
    data: Data
    series: SeriesRecipe | None = None  # of frames
    windows: WindowsRecipe | None = None  # of frames
    prepare: list[Step] = []
    split: Split
    batches: Batches
    member: list[Member] = Field(min_length=1)
    stage: list[StageRecipe] = Field(min_length=1)
    combine: Combine = Combine()
    output: Output
    tune: dict[str, Range | list[object]] = {}  # key -> what `wavefold tune` tries for it: a range, or a list of values
    quick: dict[str, object] = {}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Recipes of frames need both sections."""
        if self.series is not None and self.windows is None:
            raise PydanticCustomError("incomplete", "windows: must be set if there is a [series]")
        return self

    @property
    def kind(self) -> str:
        """The name of the task."""
        return _kind_of(self.task, self.windows)

    def changed(self, section: str, keys: Sequence[str]) -> list[str]:
        """Those of the given keys of a section that differ from their defaults, as section.key."""
        part: BaseModel = getattr(self, section)
        usual = {key: field.get_default(call_default_factory=True) for key, field in type(part).model_fields.items()}
        return [f"{section}.{key}" for key in keys if getattr(part, key) != usual[key]]

    @classmethod
    def load(cls, name: str) -> Self:
        """Load a recipe by name, or from a TOML file."""
        text = recipe_text(name)
        recipe = cls.from_toml(text, name)
        for stage in tomllib.loads(text).get("stage", []):
            _note_old_keys(stage, name)
        return recipe

    @classmethod
    def from_toml(cls, text: str, place: str) -> Self:
        """Parse a recipe from TOML text; place names it in errors."""
        try:
            tree = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"{place}: is not valid TOML: {error}") from None
        return cls.checked(tree, place)

    @classmethod
    def checked(cls, tree: Mapping[str, object], place: str) -> Self:
        """Validate a tree of plain values as a recipe; UserError for the first invalid key or value."""
        try:
            return cls.model_validate(_with_usual(tree))
        except ValidationError as error:
            raise UserError(f"{place}: {_first_problem(cls, error)}") from None

    def with_(self, overrides: Mapping[str, object]) -> Self:
        """A copy with values changed: {"stage.*.epochs": 5, "split.fraction": 0.2}.

        Naming another part (split.way, member.0.model) drops the options of the previous one.
        """
        for path in overrides:
            if _today(path) != path:
                _note_old_keys([path.rpartition(".")[2]], path)
        tree, overrides = self.tree(), {_today(path): value for path, value in overrides.items()}
        for path, value in sorted(overrides.items(), key=lambda item: not _names_part(item[0].split("."))):
            _set(tree, path.split("."), value, path)
        return self.checked(tree, self.name)

    def quickly(self) -> Self:
        """The recipe with its own [quick] overrides: the whole pipeline in seconds."""
        return self.with_(self.quick)

    def tree(self) -> dict[str, object]:
        """Plain values, as TOML holds them."""
        made: dict[str, object] = json.loads(self.model_dump_json(exclude_none=True))
        if not self.tune:
            del made["tune"]
        return made

    def toml(self) -> str:
        """The resolved recipe as TOML."""
        return tomli_w.dumps(self.tree())

    def digest(self) -> str:
        """SHA-256 of everything that affects members, not of how they are combined, evaluated and saved."""
        # values at their defaults are left out, so that a new key does not change the digest of older runs
        tree = json.loads(self.model_dump_json(exclude=_NOT_LEARNED, exclude_none=True, exclude_defaults=True))
        if any(stage.best.startswith(_BY_OPTIONS) for stage in self.stage):
            tree["chosen by"] = [self.output.thresholds, self.output.scales, self.output.range]
        return digest_of(tree)


def _with_usual(tree: Mapping[str, object]) -> Mapping[str, object]:
    """The tree with today's names of keys, and with the metric that usually selects weights in its task."""
    stages, kind = tree.get("stage"), _kind_of(tree.get("task"), tree.get("windows"))
    if not isinstance(stages, list):
        return tree
    usual = {"best": _USUALLY_BEST[kind]} if kind in _USUALLY_BEST else {}
    return {**tree, "stage": [{**usual, **_renamed(stage)} if isinstance(stage, dict) else stage for stage in stages]}


_USUALLY_BEST = {"forecasting": "mse", "regression": "r2", "multilabel": "auc"}  # task -> metric; else log-loss


def _kind_of(task: object, windows: object) -> str:
    return str(task or ("classification" if windows is None else "forecasting"))


_OLD_KEYS = {"rate": "learning_rate"}  # of a stage: recipes and overrides of earlier versions are read


def _note_old_keys(keys: Iterable[str], place: str) -> None:
    for key in _OLD_KEYS.keys() & set(keys):
        print(f"wavefold: {place}: the key '{key}' is now '{_OLD_KEYS[key]}'; it is still read", file=sys.stderr)


def _renamed(stage: Mapping[str, object]) -> dict[str, object]:
    return {_OLD_KEYS.get(key, key): value for key, value in stage.items()}


def _today(path: str) -> str:
    """The path of an override with today's name of its key."""
    section, _, key = path.partition(".")[0], *path.rpartition(".")[1:]
    return path[: -len(key)] + _OLD_KEYS[key] if section == "stage" and key in _OLD_KEYS else path


def digest_of(value: object) -> str:
    """SHA-256 of plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def recipe_names() -> list[str]:
    """The recipes of all domains, by name."""
    return list(recipe_files())


def recipe_text(name: str) -> str:
    """The text of a recipe with its comments, by name or from a TOML file."""
    if name in recipe_files():
        return recipe_files()[name].read_text(encoding="utf-8")
    if Path(name).is_file():
        try:
            return Path(name).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{name}: byte {error.start} is not UTF-8; a recipe is a TOML text file") from None
    known = recipe_names()
    raise UserError(f"recipe '{name}': not found; expected a TOML file or one of {listed(known)}{nearest(name, known)}")


def parse_override(text: str) -> tuple[str, object]:
    """Parse KEY=VALUE from the command line; VALUE is TOML, or a plain word."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise UserError(f"--set {text}: expected KEY=VALUE, such as stage.*.epochs=5")
    try:
        return path.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        word = value.strip()
        return path.strip(), float(word) if _BARE.fullmatch(word) else word


_BARE = re.compile(r"[+-]?\.\d+")  # .01, which TOML only accepts as 0.01


_BY_OPTIONS = ("csi", "fss", "bias", "ssim", "psnr")  # metrics that depend on output.thresholds, scales or range

_NOT_LEARNED: Any = {  # what changes no member, as pydantic takes it
    **dict.fromkeys(("name", "quick", "tune", "combine", "output"), True),
    "data": {"test", "skip_bad"},
    "batches": {"save_every"},
    "member": {"__all__": {"weight"}},
}

# by section, the key that names its part, and the section's class
_NAMING: dict[str, tuple[str, type[Choice]]] = {
    "prepare": ("step", Step),
    "split": ("way", Split),
    "member": ("model", Member),
    "stage": ("loss", StageRecipe),
    "combine": ("by", Combine),
}


def _names_part(path: Sequence[str]) -> bool:
    """Whether a path is the key that names a section's part: combine.by is, prepare.0.by is an option."""
    return path[0] in _NAMING and path[-1] == _NAMING[path[0]][0]


def _set(node: object, path: Sequence[str], value: object, whole: str) -> None:
    """Set the value at a path in a tree; '*' takes every entry of a list, a number takes one."""
    head, rest = path[0], path[1:]
    if isinstance(node, list):
        for entry in _entries(node, head, whole):
            if not rest:
                raise UserError(f"{whole}: name a key of the entry, such as {whole}.KEY")
            _set(entry, rest, value, whole)
    elif not isinstance(node, dict):
        raise UserError(f"{whole}: '{node}' is a value and has no keys")
    elif not rest:
        section = whole.partition(".")[0]
        if _names_part([section, head]) and node.get(head, value) != value:
            for option in node.keys() - _NAMING[section][1].model_fields.keys():
                del node[option]
        node[head] = value
    elif head not in node:
        raise UserError(f"{whole}: the recipe has no section '{head}'{nearest(head, node)}")
    else:
        _set(node[head], rest, value, whole)


def _entries(node: list[object], head: str, whole: str) -> list[object]:
    if head == "*":
        return node
    if not head.isdigit() or int(head) >= len(node):
        raise UserError(f"{whole}: there is no entry '{head}'; use * or a number from 0 to {len(node) - 1}")
    return [node[int(head)]]


def _first_problem(recipe: type[Recipe], error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    if problem["loc"][:1] == ("tune",) and len(problem["loc"]) > 1:
        usual = f"{problem['input']!r}: expected a range, {{low = 1, high = 9}}, also with log = true or a step, or a list"
        return f"tune.{problem['loc'][1]}: {problem['msg'] if problem['type'] == 'range' else usual}"
    if problem["type"] == "extra_forbidden":
        known = _keys_at(recipe, problem["loc"][:-1])
        return f"{place}: no such key; expected one of {listed(known)}{nearest(problem['loc'][-1], known)}"
    if problem["type"] == "incomplete":
        return str(problem["msg"])
    if problem["type"] == "missing":
        return f"{place}: must be set{nearest(problem['loc'][-1], problem['input'])}"
    return f"{place}: {problem['input']!r}: {problem['msg'].lower()}"


def _keys_at(model: type[BaseModel], path: Sequence[object]) -> list[str]:
    for part in path:
        if isinstance(part, str):
            hint: Any = model.model_fields[part].annotation
            model = getattr(hint, "__args__", (hint,))[0]
    return list(model.model_fields)
