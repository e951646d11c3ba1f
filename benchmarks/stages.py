"""Does the soft-F1 stage pay? Stage 1 only, soft F1 from scratch, both stages, and averages over seeds.

python benchmarks/stages.py lamost 2 DATA    the star-wise split of the recipe, nets of 2 seeds; about half an hour on one core
python benchmarks/stages.py simulated 3      4,000 simulated spectra of 650 values, tested on 4,000 more; about 20 minutes

Every net is the recipe's, on one split, and differs from the next by its seed alone. Each row of benchmarks/stages.csv is a
way: macro-F1 of the nets alone (their mean, least and most) and of their average, with 95 % intervals over test samples (by
star where the data know stars), and how much better than stage 1 only, each sample drawn with its own pair.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from wavefold.core.device import make_deterministic
from wavefold.core.random import key as make_key
from wavefold.data import SIMULATORS, read
from wavefold.evaluation.metrics import METRICS
from wavefold.models import MODELS, prepare_for_prediction
from wavefold.models.heads import Softmax
from wavefold.recipe import Recipe
from wavefold.tasks.samples.reading import split_samples
from wavefold.training.checkpoint import CheckpointFile
from wavefold.training.loop import Stage, fit_stage, predict_all
from wavefold.training.losses import LOSSES
from wavefold.training.sampler import ByClass, TrainingSet, class_fractions
from wavefold.transforms import TRANSFORMS

DRAWS = 2000
HERE = Path(__file__).resolve().parent
COLUMNS = ["data", "way", "nets_mean", "nets_least", "nets_most", "nets_more", "nets_more_low", "nets_more_high"]
COLUMNS += ["average", "average_low", "average_high", "average_more", "average_more_low", "average_more_high"]
COLUMNS += ["n", "seeds", "seconds_a_net", "threads", "commit", "command"]


class Quiet:
    """The loop's watch; says nothing."""

    def step(self, state, steps):
        pass

    def epoch(self, state):
        pass


def main() -> None:
    """Train every way's nets, then write its rows."""
    make_deterministic()
    recipe, name, seeds = Recipe.load("spectra"), sys.argv[1], int(sys.argv[2])
    parts = simulated_parts(recipe) if name == "simulated" else real_parts(recipe, Path(sys.argv[3]) / name)
    answers: dict[str, list[np.ndarray]] = {}
    seconds: dict[str, float] = {}
    for seed in range(seeds):
        for way, answer, took in ways(recipe, parts, seed):
            answers.setdefault(way, []).append(answer)
            seconds[way] = seconds.get(way, 0) + took / seeds
            print(f"{name}, seed {seed}, {way}: {macro(answer, parts['labels']):.4f} ({took:.0f} s)", flush=True)
    write_rows(name, answers, seconds, parts)


def real_parts(recipe, source):
    """Parts of a labelled folder, split as the recipe splits it."""
    dataset = read(source, group="auto")
    (fold,) = split_samples(recipe, dataset)
    labels = dataset.known_labels()
    groups = dataset.groups[fold.test] if dataset.groups is not None else None
    return _parts(recipe, dataset, fold, dataset.signals[fold.test], labels[fold.test], groups)


def simulated_parts(recipe):
    """Parts of 4,000 simulated spectra; the test part is 4,000 others."""
    make = SIMULATORS["spectra"]
    dataset, test = make(4000, 0, shape=(1, 650)), make(4000, 1, shape=(1, 650))
    (fold,) = split_samples(recipe, dataset)
    return _parts(recipe, dataset, fold, test.signals, test.known_labels(), None)


def _parts(recipe, dataset, fold, test, labels, groups):
    signals = [dataset.signals[fold.train], dataset.signals[fold.validation], test]
    for step in recipe.prepare:
        transform = TRANSFORMS[step.step](**step.options)
        transform.fit(signals[0])
        signals = [np.ascontiguousarray(transform.apply(s)) for s in signals]
    known = dataset.known_labels()
    units = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    names = ("train", "validation", "test")
    more = {"train_labels": known[fold.train], "validation_labels": known[fold.validation], "labels": labels}
    return {**dict(zip(names, signals, strict=True)), **more, "units": units, "classes": dataset.classes}


def ways(recipe, parts, seed):
    """(way, probabilities of the test part, seconds) of one seed's nets; both stages go on from stage 1 only."""
    first, second = recipe.stage[0], recipe.stage[1].model_copy(update={"epochs": 10})
    begun = time.monotonic()
    states = []
    for stages in (
        [first, second],
        [second.model_copy(update={"epochs": first.epochs, "learning_rate": first.learning_rate, "schedule": "one_cycle"})],
    ):
        with tempfile.TemporaryDirectory() as folder:
            file = CheckpointFile(Path(folder) / "state.pt", 1e9)
            state, model = file.read(), net(parts, seed)
            for number, stage in enumerate(stages):
                fit_stage(
                    model, learn(recipe, parts), checker(parts), loop_stage(parts, number, stage, seed), state, file, Quiet()
                )
                states.append(
                    (predict_all(prepare_for_prediction(model), Softmax(), torch.from_numpy(parts["test"])), time.monotonic())
                )
    names = ("stage 1 only", "both stages", "soft F1 from scratch")
    starts = (begun, begun, states[1][1])
    return [(n, answer, end - start) for n, (answer, end), start in zip(names, states, starts, strict=True)]


def net(parts, seed):
    """The recipe's net with the first weights of a seed."""
    torch.manual_seed(make_key(seed, 1))
    _, channels, length = parts["train"].shape
    return MODELS["split_sum"](channels, length, len(parts["classes"]))


def learn(recipe, parts):
    """The training part in the recipe's batches."""
    labels = parts["train_labels"]
    fractions = class_fractions(recipe.batches.fractions, labels, parts["classes"])
    batches = ByClass(labels, fractions, recipe.batches.size, recipe.batches.steps)
    return TrainingSet(torch.from_numpy(parts["train"]), torch.from_numpy(labels), torch.arange(len(labels)), batches)


def loop_stage(parts, number, stage, seed):
    """A recipe's stage as the loop takes it."""
    shared = ("epochs", "learning_rate", "optimiser", "weight_decay", "schedule", "patience", "average")
    more = {n: getattr(stage, n) for n in shared}
    loss = LOSSES[stage.loss](torch.from_numpy(np.bincount(parts["train_labels"], minlength=len(parts["classes"]))))
    return Stage(number=number, loss=loss, metric="macro-f1", higher_is_better=True, key=make_key(seed, 2), **more)


def checker(parts):
    """Macro-F1 of the whole validation part."""

    def check(model):
        probabilities = predict_all(model, Softmax(), torch.from_numpy(parts["validation"]))
        return {"macro-f1": macro(probabilities, parts["validation_labels"])}

    return check


def macro(probabilities, labels):
    """Macro-F1 of the most probable classes."""
    return METRICS["macro-f1"].function(probabilities, labels)


def write_rows(name, answers, seconds, parts):
    """A row a way; what is more than stage 1 only is drawn in pairs."""
    alone = {way: np.array([drawn(a, parts) for a in every]).mean(axis=0) for way, every in answers.items()}
    together = {way: drawn(np.mean(every, axis=0), parts) for way, every in answers.items()}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True)
    path = HERE / "stages.csv"
    new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([COLUMNS] if new else [])
        for way, every in answers.items():
            nets = [macro(a, parts["labels"]) for a in every]
            more = [alone[way] - alone["stage 1 only"], together[way] - together["stage 1 only"]]
            values = [np.mean(nets), min(nets), max(nets), more[0][0], *ends(more[0]), together[way][0], *ends(together[way])]
            values += [more[1][0], *ends(more[1])]
            about = [len(parts["labels"]), len(every), round(seconds[way]), torch.get_num_threads(), commit.stdout.strip()]
            command = f"python benchmarks/stages.py {name} {len(every)}" + (" DATA" if name != "simulated" else "")
            writer.writerow([name, way, *(f"{v:.4f}" for v in values), *about, command])


def drawn(probabilities, parts):
    """Macro-F1 of the test part as it is, then of samples drawn with replacement by whole units; (1 + draws,)."""
    rng, units = np.random.default_rng(0), parts["units"]
    count, classes = units.max() + 1, probabilities.shape[1]
    there, said = parts["labels"], probabilities.argmax(axis=1)
    weights = np.concatenate([np.ones((1, count)), rng.multinomial(count, np.full(count, 1 / count), DRAWS)])[:, units]
    scores = []
    for c in range(classes):
        hit, sums = weights @ ((there == c) & (said == c)), weights @ ((there == c) * 1.0 + (said == c))
        scores.append(2 * hit / np.maximum(sums, 1e-12))
    return np.mean(scores, axis=0)


def ends(values):
    """The 95 % interval of drawn values, the first of which is none of them."""
    return np.percentile(values[1:], [2.5, 97.5])


if __name__ == "__main__":
    main()
