"""What is written as ONNX gives what torch gives: steps, nets, whole runs; one file, whole or not at all."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from wavefold.api import train
from wavefold.core.errors import UserError
from wavefold.core.onnx_ops import eigh, lower_median, middle, orthonormal
from wavefold.domains.radio import straight
from wavefold.domains.radio.dedoppler import DeDoppler
from wavefold.domains.radio.on_off import OnOff
from wavefold.ensemble import COMBINERS, Ensemble
from wavefold.ensemble.calibrate import Temperature
from wavefold.export.onnx import OnnxModel, count_nodes, write_onnx
from wavefold.models import CLASSIFIERS, MODELS, prepare_for_prediction
from wavefold.models.views import Views, answers_of
from wavefold.recipe import Recipe
from wavefold.tasks.base import recipe_of
from wavefold.tasks.samples.ensemble_module import ensemble_module
from wavefold.tasks.samples.export import export_run
from wavefold.transforms import TRANSFORMS

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'wavefold[onnx]'")
pytest.importorskip("onnxscript", reason="needs onnxscript: pip install 'wavefold[onnx]'")

SMALL = {"split_sum": {"widths": [4, 8]}, "lstm": {"width": 4}, "repvgg": {"width": 4, "blocks": (1,)}, "on_off": {"width": 4}}
CADENCE = (6, 16, 32)
LINES = [(name, (1, 40)) for name in MODELS if name != "on_off" and not name.startswith("efficientnet")]


def random_signals(count, *shape, seed=1):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def with_statistics(net):
    """A net whose batch norms do something."""
    rng = torch.Generator().manual_seed(2)
    for part in net.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(generator=rng)
            part.running_var.uniform_(0.5, 2, generator=rng)
    return net


def largest_difference(path, net, inputs):
    """Between ONNX Runtime and torch, over all samples, one and an odd number of them."""
    model = OnnxModel(path)
    with torch.inference_mode():
        return max(np.abs(model.predict(inputs[:n].numpy()) - net(inputs[:n]).numpy()).max() for n in (len(inputs), 1, 7))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("name", "shape"), LINES)
def test_each_net_of_a_line_is_written_and_answers_alike(tmp_path, name, shape):
    torch.manual_seed(0)
    net = prepare_for_prediction(with_statistics(MODELS[name](*shape, 4, **SMALL.get(name, {}))))
    inputs = random_signals(9, *shape)
    path = tmp_path / "net.onnx"
    write_onnx(path, net, [inputs[:2]], inputs=["signals"], outputs=["logits"], metadata={"name": name})
    assert largest_difference(path, net, inputs) < 1e-5
    assert "BatchNormalization" not in count_nodes(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.onnx"]  # no data beside it
    assert OnnxModel(path).metadata == {"name": name}
    assert b"/site-packages/" not in path.read_bytes()


@pytest.mark.skipif(find_spec("timm") is None, reason="needs timm: pip install 'wavefold[vision]'")
def test_efficientnet_is_written_and_answers_alike(tmp_path):
    torch.manual_seed(0)
    net = prepare_for_prediction(with_statistics(MODELS["efficientnet_b0"](6, 32, 32, 2)))
    inputs = random_signals(7, 6, 32, 32)
    write_onnx(tmp_path / "net.onnx", net, [inputs[:2]], inputs=["signals"], outputs=["logits"], metadata={})
    assert largest_difference(tmp_path / "net.onnx", net, inputs) < 1e-5
    assert "BatchNormalization" not in count_nodes(tmp_path / "net.onnx")


@pytest.mark.slow
def test_on_off_with_its_search_is_written_and_answers_alike(tmp_path):
    torch.manual_seed(0)
    straight._scorer.cache_clear()
    net = prepare_for_prediction(with_statistics(OnOff(*CADENCE, 2, width=4, search=True)))
    inputs = random_signals(5, *CADENCE)
    write_onnx(tmp_path / "net.onnx", net, [inputs[:2]], inputs=["signals"], outputs=["logits"], metadata={})
    assert largest_difference(tmp_path / "net.onnx", net, inputs) < 1e-4


def test_nets_of_several_folds_take_their_common_first_steps_once():
    torch.manual_seed(0)
    folds = [Views(OnOff(*CADENCE, 2, width=4), ["time", "frequency"]).eval() for _ in range(2)]
    cadences = random_signals(3, *CADENCE)
    with torch.inference_mode():
        for together, net in zip(answers_of(folds, [cadences]), folds, strict=True):
            torch.testing.assert_close(together, net(cadences), rtol=0, atol=1e-6)


def test_the_drift_search_as_a_net_finds_the_same_to_the_bit():
    search = DeDoppler(seed=0, drift=0.4)
    search.slope, search.bias = 2.0, -3.0
    cadences = random_signals(5, 6, 21, 32)
    with torch.inference_mode():
        answers = search.module((6, 21, 32))(cadences).numpy()
    np.testing.assert_allclose(answers, search.probabilities(cadences.numpy()), rtol=1e-12)


def test_a_net_that_fixes_the_number_of_samples_is_refused(tmp_path):
    class Fixed(torch.nn.Module):
        def forward(self, signals):
            return signals.reshape(len(signals), -1) * torch.ones(len(signals), 1)

    with pytest.raises(RuntimeError, match="number of samples"):
        write_onnx(tmp_path / "m.onnx", Fixed(), [torch.zeros(2, 3)], inputs=["x"], outputs=["y"], metadata={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("channels", [1, 3])
def test_kernel_features_count_alike_to_the_last_position(tmp_path, channels):
    rng = np.random.default_rng(0)
    signals, labels = rng.normal(size=(40, channels, 40)).astype(np.float32).cumsum(2), np.arange(40) % 3
    kernels = CLASSIFIERS["kernels"](seed=0, features=168).fit(signals, labels, 3)
    features = kernels.module((channels, 40))[0].eval()
    np.testing.assert_array_equal(features(torch.from_numpy(signals)).numpy(), kernels.features.apply(signals))
    example = torch.from_numpy(signals[:2])
    write_onnx(tmp_path / "k.onnx", features, [example], inputs=["signals"], outputs=["features"], metadata={})
    np.testing.assert_array_equal(OnnxModel(tmp_path / "k.onnx").predict(signals), kernels.features.apply(signals))


STEPS = [
    ("scale", {"by": by, "per": per}) for by in ("max", "range", "std", "median", "l2") for per in ("sample", "channel")
] + [
    ("scale", {"by": "constant", "constant": 100.0}),
    ("continuum", {"width": 7, "gain": 3.0, "keep": True}),
    ("continuum", {"width": 50}),
    ("crop_tail", {"share": 0.2, "multiple": 4}),
    ("standardise", {}),
]


@pytest.mark.parametrize(("name", "options"), STEPS)
def test_each_transform_as_a_module_gives_what_it_applies(name, options):
    signals = random_signals(12, 2, 31).numpy() + 1
    signals[0] = 0  # all zeros
    signals[1] = 5  # flat
    signals[2:, :, 25:] = 0
    step = TRANSFORMS[name](**options).fit(signals)
    made = step.module()(torch.from_numpy(signals)).numpy()
    summed = options.get("by") in ("std", "l2")
    np.testing.assert_allclose(made, step.apply(signals), rtol=1e-5 if summed else 0, atol=1e-6 if summed else 0)


def test_every_transform_is_among_those_tested():
    assert set(TRANSFORMS) == {name for name, _ in STEPS}


@pytest.mark.parametrize("by", COMBINERS)
@pytest.mark.parametrize("calibrate", ["none", "temperature"])
def test_each_combiner_and_calibration_as_a_module_gives_the_same(by, calibrate):
    rng = np.random.default_rng(0)
    scores, labels = rng.dirichlet(np.ones(3), size=(2, 60)), np.arange(60) % 3
    scores[0, 0] = [1, 0, 0]  # a certain answer has no logarithm of its own
    options = {"mean": {"weights": [2.0, 1.0]}, "stack_net": {"epochs": 3}}.get(by, {})
    ensemble = Ensemble.fit(by, calibrate, scores, labels=labels, seed=0, options=options)
    made = ensemble.module()(torch.from_numpy(scores)).detach().numpy()
    np.testing.assert_allclose(made, ensemble.probabilities(scores), rtol=0, atol=1e-6)


def test_a_temperature_softens_in_torch_as_in_numpy():
    calibration = Temperature().load({"temperature": np.array([2.0])})
    made = calibration.module()(torch.tensor([[0.8, 0.2]], dtype=torch.float64))
    np.testing.assert_allclose(made.numpy(), [[2 / 3, 1 / 3]])  # sqrt(.8) to sqrt(.2) is 2 to 1


def test_steps_written_out_are_those_of_torch(monkeypatch):
    columns = random_signals(3, 20, 6) * torch.logspace(0, 3, 6)
    products = columns.transpose(1, 2) @ columns
    values, odd = torch.linalg.eigvalsh(products.double()), random_signals(2, 9, 10)
    basis, medians = torch.linalg.qr(columns).Q, [odd.median(axis).values for axis in (1, 2)]
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    found, axes = eigh(products.double())
    torch.testing.assert_close(found.sort(1).values, values, rtol=1e-7, atol=1e-6)
    torch.testing.assert_close(axes @ torch.diag_embed(found) @ axes.transpose(1, 2), products.double(), rtol=1e-9, atol=1e-3)
    own = orthonormal(columns)
    torch.testing.assert_close(own @ own.transpose(1, 2), basis @ basis.transpose(1, 2), rtol=0, atol=1e-5)
    for axis, median in zip((1, 2), medians, strict=True):
        assert torch.equal(lower_median(odd, axis), median)
        np.testing.assert_array_equal(middle(odd, axis).numpy(), np.median(odd.numpy(), axis, keepdims=True))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two folds: two nets of different weight and kernel features, a learned step, stacked and calibrated."""
    recipe = Recipe.load("heartbeat").with_(
        {
            "data.count": 120,
            "data.shape": [1, 40],
            "prepare": [{"step": "standardise"}],
            "split.way": "kfold",
            "split.folds": 2,
            "split.validation": 0.2,
            "member": [
                {"model": "lstm", "width": 4},
                {"model": "repvgg", "width": 4, "blocks": [1], "weight": 2.0},
                {"model": "kernels", "features": 84},
            ],
            "stage.*.epochs": 1,
            "combine.by": "stack_logistic",
            "output.baseline": "",
        }
    )
    return train(recipe, out=tmp_path_factory.mktemp("run") / "run", log=lambda line: None)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    return export_run(run, tmp_path_factory.mktemp("out") / "model.onnx", log=lambda line: None)


def test_a_whole_run_is_written_and_says_how_near_it_is(exported):
    assert exported.largest_difference < 1e-5
    assert exported.compared == "120 simulated rows"  # the run's own simulated ones
    assert exported.contents == "2 nets and kernel features, 2 folds"
    assert "largest difference from torch" in exported.line()
    assert [entry.name for entry in exported.path.parent.iterdir()] == ["model.onnx"]


def test_the_file_tells_what_it_is(run, exported):
    model = OnnxModel(exported.path)
    assert (model.inputs, model.outputs) == (["signals"], ["probabilities"])
    fields = model.metadata
    assert json.loads(fields["classes"]) == list(run.metadata.classes)
    assert json.loads(fields["shape"]) == [1, 40]
    assert fields["decision"] == "l1"
    assert json.loads(fields["score"])["n"] == 120
    assert fields["recipe"].startswith("name")


def test_probabilities_of_a_file_add_up_for_any_number_of_rows(exported):
    model = OnnxModel(exported.path)
    signals = random_signals(40, 1, 40).numpy()
    answers = model.predict(signals)
    assert (answers.shape, answers.dtype) == ((40, 4), np.float32)
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(model.predict(signals[5:6]), answers[5:6], atol=1e-6)


def test_one_member_is_written_alone(run, tmp_path):
    fields = export_run(run, tmp_path / "one.onnx", member=1, log=lambda line: None)
    assert fields.contents == "1 net, 2 folds"
    assert OnnxModel(tmp_path / "one.onnx").metadata["member"].startswith("1 repvgg")


def test_the_nets_alone_have_a_gradient(run):
    net = ensemble_module(run, recipe_of(run), nets_only=True)
    signals = random_signals(3, 1, 40).requires_grad_()
    net(signals)[:, 0].sum().backward()
    assert signals.grad is not None
    assert signals.grad.abs().sum() > 0


def test_a_member_that_is_no_net_is_named(run):
    recipe = recipe_of(run).with_({"member": [{"model": "random_forest"}]})
    with pytest.raises(UserError, match="member 0: 'random_forest' cannot be converted to a net"):
        ensemble_module(run, recipe)


def test_a_member_that_is_not_there_is_named(run, tmp_path):
    with pytest.raises(UserError, match="member 7: no such member; the run has members 0, 1, 2"):
        export_run(run, tmp_path / "m.onnx", member=7, log=lambda line: None)


def test_nothing_is_left_where_onnx_runtime_differs(run, tmp_path, monkeypatch):
    monkeypatch.setattr(OnnxModel, "predict", lambda self, *arrays: np.zeros((len(arrays[0]), 4), np.float32))
    with pytest.raises(UserError, match="differs from torch by"):
        export_run(run, tmp_path / "m.onnx", member=1, log=lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_onnx_file_is_an_error_in_one_line(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no")
    with pytest.raises(UserError, match="cannot read this file"):
        OnnxModel(tmp_path / "m.onnx")
    with pytest.raises(UserError, match="no such file"):
        OnnxModel(tmp_path / "other.onnx")
    with pytest.raises(UserError, match=r"ends in \.onnx"):
        write_onnx(tmp_path / "m.pt", torch.nn.Identity(), [], inputs=[], outputs=[], metadata={})


def test_weights_beyond_one_file_are_refused_before_anything_is_written(tmp_path: Path):
    with torch.device("meta"):
        large = torch.nn.Linear(2**15, 2**15)
    with pytest.raises(UserError, match="an ONNX file holds 2 GB"):
        write_onnx(tmp_path / "m.onnx", large, [], inputs=[], outputs=[], metadata={})
