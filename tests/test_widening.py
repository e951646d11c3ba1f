"""Signals of more axes than one, read as they are needed; targets that mixers change; scores cut by a column."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from wavefold import api
from wavefold.core.errors import DataError, UserError
from wavefold.data.dataset import Dataset, shape_words
from wavefold.data.fingerprints import count_known, fingerprints, save_fingerprints
from wavefold.data.lazy import Lazy, blocks_of, by_blocks, read_ahead, row_blocks
from wavefold.domains.radio.cadence import MIRRORS
from wavefold.evaluation.metrics import METRICS, cut_score
from wavefold.models import MODELS, describe
from wavefold.models.views import Views
from wavefold.recipe import Member, Recipe
from wavefold.tasks.samples import fit, reading
from wavefold.tasks.samples.inference import predictions_for
from wavefold.tasks.samples.reading import read_for
from wavefold.tasks.samples.validation import check_data, check_recipe
from wavefold.training.losses import LOSSES
from wavefold.training.sampler import Draw, EachOnce, Mix, OnDemand, TrainingSet
from wavefold.transforms import AUGMENTATIONS, MIXERS, TRANSFORMS, Mixup, Scale, Standardise

ONE = (6, 4, 8)  # panels, rows, columns


class Tiny(nn.Module):
    """Logits (N, classes) of (N, C, R, W)."""

    def __init__(self, channels: int, rows: int, columns: int, classes: int, *, width: int = 4) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width)
        self.last = nn.Linear(width * rows, classes)

    def forward(self, signals):
        return self.last(self.norm(self.first(signals)).relu().amax(3).flatten(1))


class Source:
    """Values on demand that counts how many samples it was asked for at once."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.most = values, 0

    def __call__(self, rows):
        self.most = max(self.most, len(rows))
        return self.values[rows]

    def lazy(self) -> Lazy:
        return Lazy(self, np.arange(len(self.values)), self.values.shape[1:])


def cadences(count: int = 48, seed: int = 0) -> Dataset:
    """Small cadences whose positives have a bright row in the ON panels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    signals = rng.normal(0, 1, (count, *ONE)).astype(np.float32)
    signals[labels == 1, ::2, :, 3] += 3
    family = np.where(labels == 1, np.where(np.arange(count) % 4 == 1, "linear", "sine"), "")
    strength = np.where(labels == 1, np.arange(count) + 0.5, 0).astype(str)
    names = np.array([f"s{i}" for i in range(count)])
    columns = {"family": family, "snr": strength}
    return Dataset(signals, names, labels, ("0", "1"), digest="d", source="cadences", columns=columns)


def recipe(**more) -> Recipe:
    tree = {
        "name": "tiny",
        "data": {"simulator": "ecg", "writes": "contest", "shape": list(ONE), "classes": ["0", "1"]},
        "prepare": [
            {"step": "scale", "by": "std", "per": "channel"},
            {"step": "standardise"},
            {"step": "flip"},
            {"step": "mixup", "label": "or"},
            {"step": "roll", "most": 2},
        ],
        "split": {"way": "kfold", "folds": 2, "validation": 0.25},
        "batches": {"size": 8},
        "member": [{"model": "tiny", "flips": ["time", "frequency"]}],
        "stage": [{"loss": "cross_entropy", "epochs": 1, "learning_rate": 1e-2, "best": "auc"}],
        "output": {"metric": "auc", "baseline": "logistic"},
    }
    return Recipe.checked({**tree, **more}, "tiny")


def checked(**more) -> None:
    check_recipe(recipe(**more))


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(MODELS, "tiny", Tiny)


@pytest.fixture
def given(monkeypatch):
    """Hands a dataset to whoever reads."""

    def give(dataset):
        monkeypatch.setattr(reading, "read", lambda *_, **__: dataset)
        return "somewhere"

    return give


def train(given, dataset, out, chosen=None):
    return api.train(chosen or recipe(), data=given(dataset), out=out, log=lambda line: None)


def scores_of(run):
    paths = sorted(run.folder.glob("fold*/*/scores.npz"))
    return [np.load(path)["test"] for path in paths]


def test_signals_on_demand_are_learned_from_with_the_same_bits(given, tmp_path):
    dataset = cadences()
    source = Source(dataset.signals)
    chosen = recipe(prepare=[s for s in recipe().tree()["prepare"] if s["step"] != "standardise"])
    whole = train(given, dataset, tmp_path / "whole", chosen)
    lazy = train(given, replace(dataset, signals=source.lazy()), tmp_path / "lazy", chosen)
    for one, other in zip(scores_of(whole), scores_of(lazy), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not [t for t in threading.enumerate() if t.name.startswith("read-ahead")]


def test_a_run_of_cadences_tells_folds_intervals_and_cuts(given, tmp_path):
    dataset = cadences()
    run = train(given, replace(dataset, signals=Source(dataset.signals).lazy()), tmp_path / "run")
    scores = run.scores
    assert [fold.n for fold in scores.folds] == [24, 24]
    for row in (scores.score, scores.members[0], scores.folds[0]):
        value, low, high = row.measure("auc")
        assert low <= value <= high
    assert "\nby fold: auc " in api.describe_scores(run)
    new = cadences(40, seed=1)
    result = api.score(run, given(new), by=["family", "snr"], warn=lambda line: None)
    requested = predictions_for(run, new)
    rows = (new.columns["family"] == "sine") | (new.labels == 0)
    fields = json.loads(json.dumps(result.as_json()))
    assert fields["by"]["family"]["sine"]["value"] == METRICS["auc"].function(requested[rows], new.labels[rows])
    assert fields["by"]["family"]["sine"]["n"] == 10
    assert list(fields["by"]["snr"]) == ["1.5 to 11", "11 to 20.5", "20.5 to 30", "30 to 39.5"]
    assert "auc by family:\n  linear" in result.text()
    assert "by" not in api.score(run, given(new), warn=lambda line: None).as_json()
    with pytest.raises(UserError, match=r"no column 'famly' to group by.*did you mean 'family'"):
        api.score(run, given(new), by=["famly"])


def test_answers_depend_on_neither_the_batch_nor_the_way_of_reading(given, tmp_path):
    run, new = train(given, cadences(), tmp_path / "run"), cadences(30, seed=2)
    whole = predictions_for(run, new)
    lazy = predictions_for(run, replace(new, signals=Source(new.signals).lazy()), size=7)
    np.testing.assert_allclose(whole, lazy, atol=1e-6)
    odd = replace(new, signals=new.signals[..., :6])
    with pytest.raises(DataError, match="samples are 6 x 4 x 6; the run was trained on 6 x 4 x 8"):
        api.predict(run, given(odd), out=str(tmp_path / "x.csv"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"member": [{"model": "net1"}]},
            r"member\.0\.model: 'net1' expects signals \(sample, channel, position\), .* 6 x 4 x 8",
        ),
        ({"member": [{"model": "logistic", "flips": ["time"]}]}, r"member\.0\.flips: 'logistic' is not a net"),
        (
            {"prepare": [{"step": "mixup", "label": "max"}], "data": {"classes": ["a", "b", "c"]}},
            r"mixup\.label: 'max' needs 2",
        ),
        ({"prepare": [{"step": "mixup"}, {"step": "scale"}]}, r"prepare\.1: 'scale' must come before 'mixup'"),
        ({"prepare": [{"step": "mixup", "alfa": 1.0}]}, r"prepare\.0\.alfa: no such option; did you mean 'alpha'"),
        ({"data": {"shape": [6]}}, r"data\.shape"),
    ],
)
def test_what_does_not_fit_is_told_before_any_training(change, words):
    data = {**recipe().tree()["data"], **change.get("data", {})}
    with pytest.raises(UserError, match=words):
        checked(**{**change, "data": data})


def test_what_does_not_fit_the_data_is_told_before_any_training(given, tmp_path):
    beats = replace(cadences(), signals=np.zeros((48, 1, 205), np.float32))
    with pytest.raises(UserError, match=r"'tiny' expects signals \(sample, channel, row, column\).*1 channel of 205 values"):
        train(given, beats, tmp_path / "run")
    flipped = Recipe.load("heartbeat").with_({"member": [{"model": "net3", "flips": ["time"]}]})
    with pytest.raises(UserError, match=r"member\.0\.flips: only signals \(sample, panel, time, frequency\)"):
        check_recipe(flipped)
    many = Lazy(lambda rows: np.zeros((len(rows), *ONE), np.float32), np.arange(9), (6, 9000, 20000))
    with pytest.raises(UserError, match=r"prepare\.0: 'smote' needs all signals in memory.*these 3 samples .* 13\.0 GB"):
        train(
            given, replace(cadences().take(np.arange(9)), signals=many), tmp_path / "other", recipe(prepare=[{"step": "smote"}])
        )
    with pytest.raises(UserError, match="crop_tail: expected signals"):
        TRANSFORMS["crop_tail"]().fit(np.zeros((1, *ONE), np.float32))
    with pytest.raises(UserError, match=r"gain|shift: expected signals"):
        AUGMENTATIONS["shift"]()(torch.zeros(1, *ONE), torch.arange(1), 0)


def test_a_classifier_that_needs_all_signals_is_told_before_any_training(given, tmp_path):
    many = Lazy(lambda rows: np.zeros((len(rows), *ONE), np.float32), np.arange(48), (6, 4000, 4000))
    fields = given(replace(cadences(), signals=many))
    with pytest.raises(UserError, match=r"output\.baseline: 'logistic' needs all signals in memory"):
        train(lambda _: fields, None, tmp_path / "run", recipe(prepare=[]))
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob("fold*"))
    lines = check_data(recipe(prepare=[], output={"metric": "auc", "baseline": "dedoppler"}), fields)
    assert lines[0].startswith("48 samples, 6 x 4000 x 4000")


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("flip", "flip: expected signals .*1 channel.* of 205"),
        ("inject", "inject: expected cadences of 6 panels and 2 classes; got 1 x 205"),
    ],
)
def test_a_step_of_cadences_is_refused_for_beats_before_any_training(step, words, given):
    beats = Recipe.load("heartbeat").with_({"prepare": [{"step": step}]})
    with pytest.raises(UserError, match=words):
        check_recipe(beats)
    chosen = recipe(prepare=[{"step": step}], member=[{"model": "net1"}])
    with pytest.raises(UserError, match=words):
        check_data(chosen, given(replace(cadences(), signals=np.zeros((48, 1, 205), np.float32))))


def test_of_two_classes_the_last_is_looked_for_and_the_recipe_may_order_them(given):
    named = replace(cadences(), classes=("needle", "none"), labels=1 - cadences().labels)
    note = (
        "note: class 'none' is taken as the positive class; if it is 'needle', add --set 'data.classes=[\"none\",\"needle\"]'"
    )
    chosen = recipe(output={"metric": "auc", "submission": "target"})
    assert note in check_data(chosen, given(named))
    assert not [line for line in check_data(chosen, given(cadences())) if "the positive class" in line]
    ordered = chosen.with_({"data.classes": ["none", "needle"]})
    dataset = read_for(ordered, given(named))
    assert dataset.classes == ("none", "needle")
    np.testing.assert_array_equal(dataset.labels, cadences().labels)
    assert not [line for line in check_data(ordered, given(named)) if "the positive class" in line]


def test_what_was_seen_is_marked_once(given, tmp_path, monkeypatch):
    run = train(given, cadences(), tmp_path / "run")
    marks = (run.folder / "seen.npy").read_bytes()
    (run.folder / "scores.json").unlink()
    monkeypatch.setattr("wavefold.tasks.samples.run.save_fingerprints", lambda *_: pytest.fail("read again"))
    train(given, cadences(), tmp_path / "run")
    assert (run.folder / "seen.npy").read_bytes() == marks


def test_check_says_shape_and_extent_of_a_few(given):
    dataset = cadences(100)
    source = Source(dataset.signals)
    lines = check_data(recipe(), given(replace(dataset, signals=source.lazy())))
    assert lines[0].startswith("100 samples, 6 x 4 x 8 values from -")
    assert lines[0].endswith("(in 64 samples checked)")
    assert source.most == 1
    assert shape_words((12, 5000)) == "12 channels of 5,000 values"


def test_summaries_of_nets_of_two_axes_count_a_shared_layer_once():
    assert api.describe_nets(recipe()).startswith("member 0: tiny, 6 x 4 x 8 to 2 classes\n  first")
    shared = nn.Conv2d(6, 6, 1)
    layers = describe(nn.Sequential(shared, shared), *ONE)
    assert [(layer.shape, layer.parameters) for layer in layers] == [(ONE, 42)]


def test_the_key_of_flips_changes_nothing_where_it_is_empty():
    plain = recipe(member=[{"model": "tiny"}])
    assert plain.digest() == recipe(member=[{"model": "tiny", "flips": []}]).digest()
    assert plain.digest() != recipe(member=[{"model": "tiny", "flips": ["time"]}]).digest()


# reading


def test_blocks_are_bounded_in_values():
    assert [(r.start, r.stop) for r in row_blocks(5, values=1 << 23)] == [(0, 2), (2, 4), (4, 5)]
    assert [(r.start, r.stop) for r in row_blocks(2, values=1 << 30)] == [(0, 1), (1, 2)]


def test_steps_on_signals_on_demand_read_nothing(tmp_path):
    source = Source(cadences().signals)
    half = by_blocks(Scale("std").apply, source.lazy(), tmp_path, np.array([5, 2]))
    assert source.most == 0
    np.testing.assert_array_equal(half[:], Scale("std").apply(source.values[[5, 2]]))
    np.testing.assert_array_equal(np.concatenate([v for _, v in blocks_of(half)]), half[:])
    assert half[np.empty(0, np.int64)].shape == (0, *ONE)


def test_reading_ahead_keeps_the_order_and_ends_with_an_error():
    assert list(read_ahead(lambda n: n * n, range(5))) == [(n, n * n) for n in range(5)]

    def bad(n):
        if n == 2:
            raise DataError("sample 2: is torn")
        return n

    seen = []
    with pytest.raises(DataError, match="torn"):
        seen.extend(n for n, _ in read_ahead(bad, range(5)))
    first = next(ahead := read_ahead(bad, range(5)))
    ahead.close()
    assert first == (0, 0)
    assert not [t for t in threading.enumerate() if t.name.startswith("read-ahead")]


def test_fingerprints_of_large_samples(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 3, 3001)).astype(np.float16).astype(np.float32)  # an odd number of values
    numbers = fingerprints(values)
    for place in (0, 1, 9001, 9002):
        other = values.copy()
        other.reshape(5, -1)[3, place] += 1
        assert (fingerprints(other) != numbers).tolist() == [False, False, False, True, False]
    lazy = Source(values).lazy()
    np.testing.assert_array_equal(fingerprints(lazy), numbers)
    save_fingerprints(tmp_path / "seen.npy", lazy, np.array([1, 4]))
    assert count_known(tmp_path / "seen.npy", values) == 2
    assert len(set(fingerprints(np.eye(50, 9000, dtype=np.float32)))) == 50


# scaling


def test_scale_by_channel_and_standardise_on_demand():
    signals = cadences().signals
    scaled = Scale("range", per="channel").apply(signals)
    np.testing.assert_array_equal(scaled.min(axis=(2, 3)), 0)
    np.testing.assert_array_equal(scaled.max(axis=(2, 3)), 1)
    whole = Scale("max").apply(signals)
    np.testing.assert_allclose(np.abs(whole).max(axis=(1, 2, 3)), 1)
    kept, lazy = Standardise().fit(signals).state(), Standardise().fit(Source(signals).lazy()).state()
    np.testing.assert_allclose(kept["mean"], lazy["mean"], atol=1e-6)
    np.testing.assert_allclose(kept["std"], lazy["std"], rtol=1e-6)


# mirror images


def test_flips_are_the_mirrors_and_rolls_go_round():
    signals, samples = torch.from_numpy(cadences(200).signals), torch.arange(200)
    flipped = AUGMENTATIONS["flip"](axes=["time"])(signals, samples, 3)
    kept = (flipped == signals).flatten(1).all(1)
    assert 70 < kept.sum() < 130
    assert torch.equal(flipped[~kept], MIRRORS["time"](signals[~kept]))
    rolled = AUGMENTATIONS["roll"](most=2)(signals, samples, 3)
    moves = [
        [torch.equal(a, b.roll(step, -1)) for step in range(-2, 3)].index(True) for a, b in zip(rolled, signals, strict=True)
    ]
    assert min(np.bincount(moves, minlength=5)) > 20


def test_views_are_the_mean_of_probabilities():
    torch.manual_seed(0)
    net, signals = Tiny(*ONE, 2).eval(), torch.randn(3, *ONE)
    views = [signals, signals.flip(3), MIRRORS["time"](signals), MIRRORS["time"](signals).flip(3)]
    mean = torch.stack([net(v).softmax(1) for v in views]).mean(0)
    torch.testing.assert_close(Views(net, ["time", "frequency"])(signals).softmax(1).float(), mean)


# mixing


def test_labels_of_mixtures_by_hand():
    targets, others = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    signals, samples = torch.ones(2, 1, 3), torch.arange(2)
    made = {
        label: Mixup(classes=2, label=label)(signals, targets, samples, 5, (0 * signals, others))
        for label in ("mix", "max", "or")
    }
    share = made["mix"][0][:, 0, 0]  # of each sample in its mixture
    assert ((share > 0) & (share < 1)).all()
    torch.testing.assert_close(made["mix"][1][:, 1], torch.tensor([1 - share[0], 1.0]))
    assert made["max"][1].tolist() == [[0, 1], [0, 1]]
    torch.testing.assert_close(made["or"][1][:, 1], torch.tensor([1 - share[0], 1 - (1 - share[1]) * share[1]]))
    left = Mixup(classes=2, share=0.0)(signals, targets, samples, 5, (0 * signals, others))
    assert torch.equal(left[0], signals)
    assert torch.equal(left[1], targets)
    shares = Mixup(classes=4, label="mix", alpha=1.0)._weights(1, torch.arange(4000))
    assert abs(shares.mean() - 0.5) < 0.02  # beta(1, 1) is uniform
    assert abs(shares.var() - 1 / 12) < 0.01


@pytest.mark.parametrize("steps", [["flip", "mixup", "roll"], ["mixup", "flip", "mixup"], ["roll", "flip"]])
def test_a_batch_is_mixed_alike_by_any_number_of_processes(steps):
    made = {"flip": AUGMENTATIONS["flip"](), "roll": AUGMENTATIONS["roll"](most=3), "mixup": Mix(MIXERS["mixup"](classes=2))}
    dataset = cadences()
    source = Source(dataset.signals)
    signals = OnDemand(source.lazy(), torch.device("cpu"))
    numbers = torch.arange(100, 148)
    rest = (torch.from_numpy(dataset.labels), numbers, EachOnce(48, 16), tuple(made[s] for s in steps), 2)
    index = torch.randperm(48, generator=torch.Generator().manual_seed(0))[:17]
    whole = next(TrainingSet(torch.from_numpy(dataset.signals), *rest).drawn([Draw(index, 9, torch.arange(17))]))
    assert whole[1].is_floating_point() == ("mixup" in steps)
    for rank in range(3):
        own = torch.arange(rank, 17, 3)
        source.most = 0
        share = next(TrainingSet(signals, *rest).drawn([Draw(index, 9, own)]))
        assert torch.equal(share[0], whole[0][own])
        assert torch.equal(share[1], whole[1][own])
        assert source.most <= (24 if steps.count("mixup") > 1 else 12 if "mixup" in steps else 6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_pure_shares_is_that_of_labels(name):
    options = {"class_weights": "balanced"} if name in ("cross_entropy", "label_smoothed") else {}
    loss = LOSSES[name](torch.tensor([5, 2, 9]), **options)
    logits, labels = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), torch.arange(7) % 3
    torch.testing.assert_close(loss(logits, labels), loss(logits, torch.eye(3)[labels]))
    half = loss(logits, torch.full((7, 3), 1 / 3))
    assert torch.isfinite(half)


# cutting


def test_a_cut_takes_all_of_the_classes_that_a_mark_lacks():
    odds = np.array([0.1, 0.6, 0.2, 0.9, 0.5, 0.3])
    labels, marks = np.array([0, 0, 0, 1, 1, 1]), np.array(["", "", "", "a", "b", "b"])
    cuts = cut_score("auc", np.stack([1 - odds, odds], 1), labels, marks)
    assert {mark: (cut.value, cut.n) for mark, cut in cuts.items()} == {"a": (1.0, 1), "b": (pytest.approx(4 / 6), 2)}


def test_a_new_net_is_given_what_its_signature_names():
    assert isinstance(fit.new_net(Member(model="tiny", width=2), (3, *ONE), 2, 0), Tiny)
    with pytest.raises(UserError, match="expects signals"):
        fit.new_net(Member(model="tiny"), (3, 1, 205), 2, 0)
