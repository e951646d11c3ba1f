"""Command line: parse, call the API, print. `api` and torch are imported only once arguments are parsed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from wavefold.core.errors import UserError, plural
from wavefold.core.interrupt import Interrupted
from wavefold.core.version import __version__

if TYPE_CHECKING:
    from wavefold.core.run import RunFolder
    from wavefold.recipe import Recipe


class RecipeName(click.types.StringParamType):
    """A recipe's name or a TOML file; shell completion offers both."""

    name = "recipe"

    def shell_complete(self, context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Recipes with this prefix, or else the shell's own file completion."""
        from wavefold.recipe import recipe_names  # noqa: PLC0415

        there = [CompletionItem(name) for name in recipe_names() if name.startswith(incomplete)]
        return there or [CompletionItem(incomplete, type="file")]


class Source(click.types.StringParamType):
    """A file or folder of data, completed by the shell."""

    name = "data"

    def shell_complete(self, context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The shell's own file completion."""
        return [CompletionItem(incomplete, type="file")]


RECIPE = click.argument("recipe", type=RecipeName())
SKIP_BAD = click.option("--skip-bad", is_flag=True, help="Skip samples that cannot be read, and list them.")
SET = click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a value, such as stage.*.epochs=5.")


RATE = click.FloatRange(0, min_open=True)
_SEARCH = (
    click.option("--drift", type=RATE, help="Search: the steepest line, Hz/s.  [default: 4]"),
    click.option(
        "--false-alarms",
        type=click.FloatRange(0, min_open=True),
        help="Search: lines of noise to expect at most.  [default: 0.1]",
    ),
    click.option("--on", metavar="NAME", help="Search: the source name of the ON scans.  [default: scans 1, 3 and 5]"),
    click.option("--mask", metavar="CSV", help="Search: frequencies to leave out, columns low_mhz and high_mhz."),
    click.option("--pictures", is_flag=True, help="Search: draw the best candidates into a folder beside the file."),
    click.option("--cutouts", is_flag=True, help="Search: save the scans around them as .fil, too."),
    click.option("--page", metavar="HTML", help="Search: a page with the candidates' pictures, to say which are needles."),
    click.option("--product", help="Search of several polarisations: 1 for the first, and so on, or sum for the first two."),
    click.option("--ignore-names", is_flag=True, help="Search: take the scans' order, whatever their source names say."),
)


def SEARCH(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a search of scans."""
    for option in reversed(_SEARCH):
        command = option(command)
    return command


CLUSTER = click.option("--cluster", default="", metavar="WHERE", help="Work on local:4, tcp://host:8786 or scheduler.json.")


class Words(click.Group):
    """Command group that prints errors as one line; user errors exit with 2, internal errors with 1."""

    def invoke(self, context: click.Context) -> object:
        """Run the command and report its errors."""
        try:
            done: object = super().invoke(context)
            return done
        except UserError as error:
            if context.params.get("debug"):
                raise
            click.echo(f"wavefold: {error}", err=True)
            context.exit(2)
        except click.UsageError as error:
            words = error.ctx.command_path.split()[1:] if error.ctx else []
            command = " ".join(["wavefold", *words])
            message = " ".join(error.format_message().split()).rstrip(".")
            click.echo(f"wavefold: {message}; see `{command} --help`", err=True)
            context.exit(2)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Interrupted as stop:
            saved = "stopped, and the state is saved" if stop.saved else "stopped"
            click.echo(f"wavefold: {saved}; run the same command again to resume", err=True)
            context.exit(128 + stop.number)
        except KeyboardInterrupt:
            click.echo("wavefold: interrupted; run the same command again (training resumes where it stopped)", err=True)
            context.exit(130)
        except OSError as error:
            if context.params.get("debug") or not error.strerror:
                raise
            click.echo(f"wavefold: {error.filename or 'I/O error'}: {error.strerror}", err=True)
            context.exit(2)
        except Exception as error:
            if context.params.get("debug"):
                raise
            message = " ".join(str(error).split())
            click.echo(
                f"wavefold: internal error: {type(error).__name__}: {message}; `wavefold --debug ...` shows where", err=True
            )
            context.exit(1)


@click.group(cls=Words, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="wavefold")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Train models on labelled scientific signals, evaluate them and predict with them.

    \b
    wavefold train heartbeat --data train.csv     train, score and save everything in runs/heartbeat
    wavefold predict runs/heartbeat testA.csv --out submission.csv
    wavefold train spectra --data FOLDER          a folder with index.csv and txt or FITS files

    RECIPE is a recipe's name (see `wavefold recipes`) or a TOML file; DATA is a file or folder.

    \b
    Shell completion (or zsh_source, fish_source):
    eval "$(_WAVEFOLD_COMPLETE=bash_source wavefold)"
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # a spinning barrier is 30 times slower on a busy machine


@main.command()
def recipes() -> None:
    """List the recipes."""
    from wavefold.recipe import Recipe, recipe_names, recipe_text  # noqa: PLC0415

    for name in recipe_names():
        Recipe.load(name)
        click.echo(f"{name:<12} {recipe_text(name).splitlines()[0].lstrip('# ').removeprefix(name).lstrip(': ')}")


@main.command()
@RECIPE
@SET
@click.option("--model", is_flag=True, help="List each net's layers, output shapes and parameter counts.")
def show(recipe: str, changes: tuple[str, ...], model: bool) -> None:
    """Print the resolved recipe, or its nets."""
    api = _api()
    chosen = _resolve(recipe, changes)
    api.check(chosen)
    click.echo(api.describe_nets(chosen) if model else chosen.toml(), nl=model)


@main.command()
@RECIPE
@click.argument("file", type=click.Path(path_type=Path))
def copy(recipe: str, file: Path) -> None:
    """Copy a recipe to FILE for editing."""
    from wavefold.recipe import recipe_text  # noqa: PLC0415

    text = recipe_text(recipe)
    if file.exists():
        raise UserError(f"{file}: already exists; choose another file name")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    click.echo(f"{file}: edit it, then `wavefold train {file}`")


@main.command(short_help="Check a recipe and data for problems.")
@RECIPE
@SET
@click.option("--data", type=Source(), help="Check this file or folder too.")
@SKIP_BAD
def check(recipe: str, changes: tuple[str, ...], data: str | None, skip_bad: bool) -> None:
    """Check a recipe, and data if given, for problems before any training."""
    api = _api()
    chosen = _resolve(recipe, changes, skip_bad=skip_bad)
    for line in api.check(chosen, data or ""):
        click.echo(line)
    click.echo(f"{chosen.name}: no problems found")


@main.command(short_help="Describe DATA on one HTML page.")
@click.argument("data", type=Source())
@click.option("--recipe", type=RecipeName(), required=True, help="How to read DATA: a recipe's name or a TOML file.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("look.html"), show_default=True, help="An .html file.")
@SET
def look(data: str, recipe: str, out: Path, changes: tuple[str, ...]) -> None:
    """Describe DATA on one HTML page that works offline: counts, classes, statistics, samples, defects."""
    api = _api()
    click.echo(f"{api.look(_resolve(recipe, changes), data, out=out)}: open it in a browser")


@main.command(short_help="Write simulated samples to FOLDER.")
@RECIPE
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(1), default=4000, show_default=True, help="Samples to write.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@SET
def simulate(recipe: str, folder: Path, count: int, seed: int, changes: tuple[str, ...]) -> None:
    """Write simulated samples to FOLDER, in the file layout of the recipe's real data."""
    api = _api()
    click.echo(
        f"{api.simulate(_resolve(recipe, changes), folder, count=count, seed=seed)}: {plural(count, 'simulated sample')}"
    )


@main.command(short_help="Write DATA as training maps it, if memory is too small.")
@click.argument("data", type=Source())
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--recipe", type=RecipeName(), help="How to read DATA, and which columns are targets or groups.")
@SET
@click.option("--workers", type=click.IntRange(0), default=0, help="Processes.  [default: one per processor]")
@SKIP_BAD
def pack(data: str, folder: Path, recipe: str | None, changes: tuple[str, ...], workers: int, skip_bad: bool) -> None:
    """Write DATA to FOLDER as .npy parts with checksums, which other commands take as DATA and read without much memory.

    If FOLDER holds packed samples, those of DATA are added to them. The same command goes on after a kill.
    """
    if changes and recipe is None:
        raise UserError("--set: changes a recipe; name one with --recipe")
    chosen = _resolve(recipe, changes) if recipe else None
    made = _api().pack(data, folder, recipe=chosen, workers=workers, skip_bad=skip_bad, warn=_warn)
    size = f"{plural(made.rows, 'sample')} in {plural(made.parts, 'part')}, {made.bytes / 1e9:.3g} GB"
    click.echo(f"{folder}: {size}{'' if made.added else '; these samples were already there'}")


@main.command(short_help="Train, score and save everything in one folder.")
@RECIPE
@click.option("--data", type=Source(), default="", help="Labelled file or folder.  [default: simulated samples]")
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder.  [default: runs/RECIPE or runs/RECIPE-quick]")
@SET
@click.option("--quick", is_flag=True, help="Run the whole pipeline in seconds, with the recipe's [quick] values.")
@click.option("--fresh", is_flag=True, help="Delete the run in the folder and start again.")
@SKIP_BAD
@CLUSTER
@click.option("--prepare", is_flag=True, help="Only prepare every fold; `wavefold unit` then fits each member by itself.")
def train(
    recipe: str,
    data: str,
    out: Path | None,
    changes: tuple[str, ...],
    quick: bool,
    fresh: bool,
    skip_bad: bool,
    cluster: str,
    prepare: bool,
) -> None:
    """Train, score and save everything in one folder; repeat the same command to resume.

    With --cluster the members of all folds are fitted side by side: by processes here (local:4) or on the workers of a Dask
    scheduler (tcp://host:8786, or the .json file that it writes), which must see the run's folder and the data under the same
    paths.
    """
    options = {"quick": quick, "fresh": fresh, "skip_bad": skip_bad, "overrides": _overrides(changes)}
    _api().train(recipe, data, out=out or "", log=click.echo, cluster=cluster, prepare=prepare, **options)


@main.command(short_help="Search the ranges of a recipe's [tune].")
@RECIPE
@click.option("--data", type=Source(), required=True, help="Labelled file or folder.")
@click.option("--out", type=click.Path(path_type=Path), help="The folder of the trials.  [default: runs/RECIPE-tune]")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="End after so many minutes.")
@click.option("--trials", type=click.IntRange(1), default=30, show_default=True, help="End after so many trials.")
@SET
@click.option("--quick", is_flag=True, help="Search with the recipe's [quick] values.")
@SKIP_BAD
@CLUSTER
def tune(
    recipe: str,
    data: str,
    out: Path | None,
    minutes: float | None,
    trials: int,
    changes: tuple[str, ...],
    quick: bool,
    skip_bad: bool,
    cluster: str,
) -> None:
    """Search the ranges of a recipe's [tune] on the validation part; repeat the same command to go on.

    Each trial is a run's folder, and is stopped early where it is behind the others. The test part is never scored. The best
    recipe is written to best.toml in the folder: train it.
    """
    options = {"quick": quick, "skip_bad": skip_bad, "overrides": _overrides(changes), "cluster": cluster}
    api = _api()
    best = api.tune(recipe, data, out=out or "", minutes=minutes, trials=trials, log=click.echo, **options)
    click.echo(f"train it: wavefold train {best} --data {data}")


@main.command(short_help="Fit one member of a run by itself.")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("name", default="")
@click.option("--data", type=Source(), default="", help="The run's data, if they were moved.")
def unit(run: Path, name: str, data: str) -> None:
    """Fit one member of one fold of a run that `train --prepare` has begun; repeat the same command to resume.

    NAME is fold0/member1, or a number from 0 as a Slurm job array has it; without NAME all units are listed. When all are
    done, the train command without --prepare scores the run.
    """
    api = _api()
    opened = api.open_run(run)
    if name:
        api.fit(opened, name, data=data, log=click.echo)
        return
    for number, one in enumerate(api.units(opened)):
        click.echo(f"{number} {one.name} {'done' if one.done else 'to do'}")


@main.command(short_help="Predict every sample of DATA, or search six scans.")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data", nargs=-1, required=True, type=Source())
@click.option(
    "--out",
    required=True,
    help=".csv (the submission), .xlsx, .parquet or .npz, for frames also .nc, .npy, .gif or .png; - for standard output.",
)
@click.option("--batch", type=click.IntRange(1), default=512, show_default=True, help="Samples per batch.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="For a search: the lowest probability to list.  [default: 0]")
@SEARCH
@CLUSTER
@SKIP_BAD
def predict(
    run: Path,
    data: tuple[str, ...],
    out: str,
    batch: int,
    threshold: float | None,
    skip_bad: bool,
    **how: float | str | bool | None,
) -> None:
    """Predict every sample of DATA, in order; for frames, forecast those after the last ones.

    If DATA is the six scans of a cadence (.h5, .fil or PSRFITS: ON OFF ON OFF ON OFF, in time order), they are searched as by
    `wavefold search`, and the run's probability that a line is a needle stands beside each candidate.
    """
    api = _api()
    named = {"threshold": threshold, **how}
    if len(data) > 1 or api.is_scan(data[0]):
        _search(api.open_run(run), data, out, named, size=batch)
        return
    if alien := next((name for name, used in named.items() if used not in (None, False, "")), ""):
        option = f"--{alien.replace('_', '-')}"
        raise UserError(f"{option}: applies only to a search of six scans; DATA is a file or folder of samples")
    count = api.predict_file(api.open_run(run), data[0], out=out, size=batch, skip_bad=skip_bad, warn=_warn)
    click.echo(f"{out}: {plural(count, 'prediction')}", err=out == "-")


@main.command(short_help="Search six scans of a cadence for drifting lines.")
@click.argument("scans", nargs=-1, required=True, type=Source())
@click.option("--out", required=True, help="Candidates: .csv, .xlsx, .parquet or .npz; - for standard output.")
@SEARCH
@CLUSTER
def search(scans: tuple[str, ...], out: str, **how: float | str | bool | None) -> None:
    """Search the six scans of a cadence for lines in ON only: .h5, .fil or PSRFITS, ON OFF ON OFF ON OFF in time order.

    The three ON scans are added along every line, of any drift up to --drift and of several widths, on the scans' own clock;
    lines that are in OFF too are left out. Of more than six scans, or of a quoted pattern such as 'night/*.h5', every cadence
    is searched, by source names and times. False alarms are counted on the same scans: ON scans shifted against each other, and
    OFF in the place of ON. No run is needed; `wavefold predict RUN SCAN...` adds a run's probability. The same command goes on
    where the last one stopped. With --page, a person can look through the candidates, and their verdicts can train a run.
    """
    _search(None, scans, out, how)


def _search(run: RunFolder | None, scans: tuple[str, ...], out: str, how: Mapping[str, object], size: int = 512) -> None:
    given = {name: value for name, value in how.items() if value is not None}
    candidates = _api().search(run, scans, out=out, size=size, warn=_warn, **given)
    click.echo(f"{out}: {plural(len(candidates), 'candidate')}", err=out == "-")


@main.command(short_help="Score a run on labelled DATA.")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data", type=Source())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--by", multiple=True, metavar="COLUMN", help="Also score each value of a column of DATA; may be repeated.")
@SKIP_BAD
def score(run: Path, data: str, as_json: bool, by: tuple[str, ...], skip_bad: bool) -> None:
    """Score a run on labelled DATA: the recipe's metric with n and a 95 % interval, and the others that apply."""
    api = _api()
    result = api.score(api.open_run(run), data, skip_bad=skip_bad, warn=_warn, by=by)
    click.echo(json.dumps(result.as_json()) if as_json else result.text())


@main.command(short_help="Report on a run on one HTML page.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="An .html file.  [default: report.html in the run's folder]")
@click.option("--data", type=Source(), default="", help="The run's data, if they were moved.")
def report(run: Path, out: Path | None, data: str) -> None:
    """Report on a run on one HTML page that works offline: scores, learning curves, errors, reproduction."""
    api = _api()
    click.echo(f"{api.report(api.open_run(run), out=out, data=data, warn=_warn)}: open it in a browser")


@main.command(short_help="Export a run as one ONNX file.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("model.onnx"), show_default=True, help="An .onnx file.")
@click.option("--member", type=click.IntRange(0), help="Export only this member, not the whole ensemble.")
def export(run: Path, out: Path, member: int | None) -> None:
    """Export a run as one ONNX file: raw samples in, probabilities out; checked against torch on real samples."""
    api = _api()
    api.export(api.open_run(run), out=out, member=member, log=click.echo)


@main.command(short_help="Serve a run's predictions over HTTP.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 accepts other machines.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 picks a free one.")
def serve(run: Path, host: str, port: int) -> None:
    """Serve a run's predictions over HTTP, with a page to drop files on; stop with Ctrl-C."""
    api = _api()
    api.serve(api.open_run(run), host=host, port=port, log=click.echo)


def _warn(line: str) -> None:
    click.echo(f"wavefold: {line}", err=True)


def _api() -> ModuleType:
    from wavefold import api  # noqa: PLC0415

    return api


def _resolve(name: str, changes: tuple[str, ...], skip_bad: bool = False) -> Recipe:
    made: Recipe = _api().resolve(name, overrides=_overrides(changes), skip_bad=skip_bad)
    return made


def _overrides(changes: tuple[str, ...]) -> dict[str, object]:
    from wavefold.recipe import parse_override  # noqa: PLC0415

    return dict(parse_override(change) for change in changes)
