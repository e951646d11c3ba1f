"""A recipe: a TOML file of a published system, checked strictly, changed by one language of overrides.

The sections stand in the order in which things happen. What this file knows by name it checks here; the options of a
part (a net, a step, a loss) are checked by `pipeline` against the part's own signature.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from wavefold.base.errors import UserError, listed, nearest


class Section(BaseModel):
    """A part of a recipe with exactly these keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Choice(BaseModel):
    """A part of a recipe that names an entry of a table; further keys are that entry's own options."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    @property
    def options(self) -> dict[str, Any]:
        """The keys that go to the part itself."""
        return dict(self.model_extra or {})


class Data(Section):
    """Where samples come from."""

    layout: str = "auto"  # of the file; "auto" goes by its suffix and header
    label: str = ""  # the column of the labels; "" is the layout's own
    test: str = ""  # a file to predict once trained; a folder's own test files are predicted without being named
    limit: int = Field(0, ge=0)  # so many samples only, drawn class by class; 0 takes all
    skip_bad: bool = False  # go on without samples that cannot be read; the run lists them
    grid: list[float] | None = Field(None, min_length=3, max_length=3)  # first, last, step in angstrom, for FITS
    simulator: str
    writes: str  # the layout of simulated samples
    count: int = Field(4000, ge=1)  # simulated samples where no data is given
    backgrounds: str = ""  # samples that the simulator puts its signals into, real ones; "" simulates those too
    digits: str = ""  # an .npz of `images` (n, 28, 28), such as MNIST's, for the simulator 'digits'; "" takes scikit-learn's
    # that simulate and show use: channels and length; panels, rows and columns; or channels, rows and columns of frames
    shape: list[Annotated[int, Field(ge=1)]] = Field(min_length=2)
    # that simulate and show use; data bring their own. Of two, in this order if so named, the last is what is looked for
    classes: list[str] = []  # frames have none


class EventTable(Section):
    """How a table of dated events becomes frames; its keys are those of data.reading_as.Events."""

    box: list[float] = Field(min_length=4, max_length=4)  # west, east, south, north, in the units of x and y
    cells: list[Annotated[int, Field(ge=1)]] = Field(min_length=2, max_length=2)  # rows, columns
    time: str = ""  # columns; "" finds the usual names
    x: str = ""
    y: str = ""
    kind: str = ""
    epoch: str = ""  # date that a column of numbers counts from
    every: str = "1 day"
    smooth: float = Field(0.0, ge=0, allow_inf_nan=False)  # cells
    memory: float = Field(0.0, ge=0, allow_inf_nan=False)  # half-life in steps
    kinds: dict[str, list[str]] = {}  # channel -> kinds


class SeriesRecipe(Section):
    """What to take of a source of frames; a stored value means value * scale + offset."""

    variable: str = ""  # of .npz, NetCDF and Zarr; "" takes the only one that can be frames
    axes: str = ""  # of an array, in their order: "time row column"; "" goes by their number
    channels: list[str] = []  # keep these; [] keeps all
    targets: list[str] = []  # channels to forecast; [] forecasts all that are kept
    scale: float = Field(default=1.0, allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False)
    missing: list[float] = []  # stored values that mean that there is none
    unit: str = ""
    events: EventTable | None = None


class WindowsRecipe(Section):
    """How many frames a forecast is made from, how many it has, and where windows are cut."""

    past: int = Field(ge=1)
    ahead: int = Field(ge=1)
    stride: int = Field(1, ge=1)  # frames from a window to the next
    crop: list[Annotated[int, Field(ge=1)]] = Field([], max_length=2)  # rows, columns; [] takes whole frames
    crop_stride: list[Annotated[int, Field(ge=1)]] = Field([], max_length=2)  # [] cuts tiles that do not overlap
    anywhere: bool = False  # learn from crops at places drawn anew each time, not from the tiles


class Step(Choice):
    """One step of preparation: a transform, a balancer, an augmentation or a mixer."""

    step: str


class Split(Choice):
    """How samples are set apart for scoring and for choosing."""

    way: str
    group: str = ""  # the column whose values must not straddle the split; "auto" takes the source's own, if it has any


class Batches(Section):
    """How samples are visited."""

    size: int = Field(ge=1)
    steps: int = Field(0, ge=0)  # batches an epoch at most; 0 sets no limit: an epoch is as many samples as there are
    fractions: str | dict[str, float] = (
        "each"  # sample once an epoch; or shares of a batch by class, as FRACTIONS or a table say
    )
    save_every: float = Field(30.0, ge=0)  # seconds between states on disk; 0 saves after each batch


class Member(Choice):
    """One net or classifier of the ensemble."""

    model: str
    seed: int | None = None
    flips: list[Literal["time", "frequency"]] = []  # axes of a cadence: a net's answer is the mean over its mirror images
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)  # of its vote in the mean; what stacks learns its own


class StageRecipe(Choice):
    """One stretch of training with one loss; further keys are the loss's own."""

    loss: str
    epochs: int = Field(ge=0)  # 0 leaves the stage out
    rate: float = Field(gt=0, allow_inf_nan=False)
    optimiser: str = "adam"
    weight_decay: float = Field(0.0, ge=0)
    schedule: str = "constant"
    patience: int = Field(0, ge=0)
    average: float = Field(0.0, ge=0)
    best: str = "log-loss"


class Combine(Choice):
    """How members become one answer; further keys are the combiner's own."""

    by: str = "mean"
    calibrate: str = "none"
    decide: str = "probabilities"
    threshold: float = Field(default=0.49, gt=0, lt=1)  # of the decision by thresholds


class Output(Section):
    """What is measured and what stands beside it."""

    metric: str
    per: int = Field(0, ge=0)  # rows that a summed metric is quoted for; 0 quotes the sum
    baseline: str = ""  # a classifier trained on the same part, beside the score
    baselines: list[str] = []  # of forecasts, beside the score
    period: float = Field(86400.0, gt=0, allow_inf_nan=False)  # seconds of the cycle that the baseline 'climatology' goes by
    thresholds: list[float] = []  # of CSI and FSS, in the unit of the frames; the first one's are `csi` and `fss`
    scales: list[Annotated[int, Field(ge=1)]] = [1]  # cells, of FSS
    range: float = Field(0.0, ge=0, allow_inf_nan=False)  # of the values, for SSIM and PSNR; 0 takes the training part's
    pictures: bool = True  # of forecasts, where the extra `pictures` is installed
    tensorboard: bool = False
    submission: Literal["labels", "types", "target"] = "labels"  # the CSV's columns, a name of SUBMISSIONS


class Recipe(Section):
    """A whole recipe, resolved."""

    name: str = Field(min_length=1)
    seed: int = Field(0, ge=0)
    data: Data
    series: SeriesRecipe | None = None  # of frames
    windows: WindowsRecipe | None = None  # of frames; a recipe without them classifies
    prepare: list[Step] = []
    split: Split
    batches: Batches
    member: list[Member] = Field(min_length=1)
    stage: list[StageRecipe] = Field(min_length=1)
    combine: Combine = Combine()
    output: Output
    quick: dict[str, Any] = {}

    folder: ClassVar = files("wavefold") / "recipes"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Of frames, both sections; of what is classified, classes."""
        if self.series is not None and self.windows is None:
            raise PydanticCustomError("incomplete", "windows: must be set where there is a [series]")
        if self.windows is None and len(self.data.classes) < 2:
            raise PydanticCustomError("incomplete", "data.classes: name two or more")
        return self

    def changed(self, section: str, keys: Sequence[str]) -> list[str]:
        """Those of some keys of a section that do not stand at what they are by themselves, as section.key."""
        part: BaseModel = getattr(self, section)
        usual = {key: field.get_default(call_default_factory=True) for key, field in type(part).model_fields.items()}
        return [f"{section}.{key}" for key in keys if getattr(part, key) != usual[key]]

    @classmethod
    def load(cls, name: str) -> Self:
        """The recipe of a name, or of a TOML file's path."""
        return cls.from_toml(recipe_text(name), name)

    @classmethod
    def from_toml(cls, text: str, place: str) -> Self:
        """The recipe that a TOML text holds; place names it in errors."""
        try:
            tree = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"{place}: is not TOML: {error}") from None
        return cls.checked(tree, place)

    @classmethod
    def checked(cls, tree: Mapping[str, Any], place: str) -> Self:
        """The recipe of a tree of plain values; UserError for the first key or value that is wrong."""
        try:
            return cls.model_validate(_with_usual(tree))
        except ValidationError as error:
            raise UserError(f"{place}: {_first_problem(cls, error)}") from None

    def with_(self, overrides: Mapping[str, Any]) -> Self:
        """A copy with values changed: {"stage.*.epochs": 5, "split.fraction": 0.2}.

        Where another part is named (split.way, member.0.model), the options of the one before go.
        """
        tree = self.tree()
        for path, value in sorted(overrides.items(), key=lambda item: not _names_part(item[0].split("."))):
            _set(tree, path.split("."), value, path)
        return self.checked(tree, self.name)

    def quickly(self) -> Self:
        """The same path in seconds: the recipe with its own [quick] overrides."""
        return self.with_(self.quick)

    def tree(self) -> dict[str, Any]:
        """Plain values, as TOML holds them."""
        return json.loads(self.model_dump_json(exclude_none=True))  # type: ignore[no-any-return]

    def toml(self) -> str:
        """The resolved recipe as TOML."""
        return tomli_w.dumps(self.tree())

    def digest(self) -> str:
        """SHA-256 of what can change a member: not of how members are combined, nor of what is measured and kept."""
        # what stands at its default is as if there were no such key: runs from before the key stay the same runs
        tree = json.loads(self.model_dump_json(exclude=_NOT_LEARNED, exclude_none=True, exclude_defaults=True))
        if any(stage.best.startswith(_BY_OPTIONS) for stage in self.stage):
            tree["chosen by"] = [self.output.thresholds, self.output.scales, self.output.range]
        return digest_of(tree)


def _with_usual(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """A tree in which the stages of a recipe of frames choose by MSE unless they say otherwise."""
    stages = tree.get("stage")
    if "windows" not in tree or not isinstance(stages, list):
        return tree
    return {**tree, "stage": [{"best": "mse", **stage} if isinstance(stage, dict) else stage for stage in stages]}


def digest_of(value: Any) -> str:
    """SHA-256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in Recipe.folder.iterdir() if entry.name.endswith(".toml"))


def recipe_text(name: str) -> str:
    """The text of a recipe with its comments: of a name, or of a TOML file's path."""
    if name in recipe_names():
        return (Recipe.folder / f"{name}.toml").read_text()
    if Path(name).is_file():
        try:
            return Path(name).read_text()
        except UnicodeDecodeError as error:
            raise UserError(f"{name}: byte {error.start} is not UTF-8; a recipe is a TOML text file") from None
    known = recipe_names()
    raise UserError(f"recipe '{name}': is neither one of {listed(known)} nor a file{nearest(name, known)}")


def parse_override(text: str) -> tuple[str, Any]:
    """KEY=VALUE of the command line; VALUE is TOML, or a plain word."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise UserError(f"--set {text}: write KEY=VALUE, as in stage.*.epochs=5")
    try:
        return path.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        word = value.strip()
        return path.strip(), float(word) if _BARE.fullmatch(word) else word


_BARE = re.compile(r"[+-]?\.\d+")  # .01, which TOML would have as 0.01


_BY_OPTIONS = ("csi", "fss", "bias", "ssim", "psnr")  # metrics that depend on output.thresholds, scales or range

_NOT_LEARNED: Any = {  # what changes no member, as pydantic takes it
    **dict.fromkeys(("name", "quick", "combine", "output"), True),
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
    """Whether a path leads to the key that names a section's part: combine.by does, prepare.0.by is an option."""
    return path[0] in _NAMING and path[-1] == _NAMING[path[0]][0]


def _set(node: Any, path: Sequence[str], value: Any, whole: str) -> None:
    """Set the value at a path in a tree; '*' takes every entry of a list, a number takes one."""
    head, rest = path[0], path[1:]
    if isinstance(node, list):
        for entry in _entries(node, head, whole):
            if not rest:
                raise UserError(f"{whole}: name a key of the entry, as in {whole}.KEY")
            _set(entry, rest, value, whole)
    elif not isinstance(node, dict):
        raise UserError(f"{whole}: there is nothing below '{node}'")
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


def _entries(node: list[Any], head: str, whole: str) -> list[Any]:
    if head == "*":
        return node
    if not head.isdigit() or int(head) >= len(node):
        raise UserError(f"{whole}: '{head}' is not one of the {len(node)} entries; use * or 0 to {len(node) - 1}")
    return [node[int(head)]]


def _first_problem(recipe: type[Recipe], error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _keys_at(recipe, problem["loc"][:-1])
        return f"{place}: no such key; there are {listed(known)}{nearest(problem['loc'][-1], known)}"
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
