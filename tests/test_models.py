"""Every model and every whole-fitted classifier keeps the room's promises; the layers equal PyTorch's plain ones."""

import copy
import importlib.util
import inspect

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from torch import nn

from wavefold.core.errors import UserError
from wavefold.core.registry import build_part
from wavefold.models import (
    CLASSIFIERS,
    MODELS,
    count_parameters,
    describe,
    prepare_for_prediction,
    sklearn_member,
)
from wavefold.models.layers import Conv, MaxPool, MaxPoolTo, MeanPoolTo, Norm, enter

SHORT = 40  # positions: the shortest that suits every net, so that net 5's head stays small
SMALL = {
    "kernels": {"features": 168},
    "lightgbm": {"trees": 5},
    "random_forest": {"trees": 7},
    "extra_trees": {"trees": 7},
    "hist_boosting": {"max_iter": 5},
    "mlp": {"max_iter": 20},
}


CADENCE = (6, 32, 32)  # panels, times, frequencies
UNSEEN = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs timm: pip install 'wavefold[vision]'")


def takes(name, option):
    return option in inspect.signature(MODELS[name]).parameters


def entry(name, *values):
    """A test's parameters for one net of the table."""
    return pytest.param(name, *values, marks=UNSEEN) if name.startswith("efficientnet") else pytest.param(name, *values)


NETS = [entry(name) for name in MODELS]
SHAPES = {  # signals and number of classes
    "length": [((1, SHORT), 4), ((1, 140), 5), ((1, 205), 4), ((2, 61), 3)],
    "rows": [(CADENCE, 4), (CADENCE, 2), ((6, 45, 40), 3)],
}


def kinds_of_shapes(name):
    return SHAPES["length" if takes(name, "length") else "rows"]


def shape_of(name, channels=1, length=SHORT):
    """The smallest signals that suit a net; those of panels are of one shape."""
    return (channels, length) if takes(name, "length") else CADENCE


def made(name, *shape, classes=4):
    torch.manual_seed(0)
    return MODELS[name](*(shape or shape_of(name)), classes)


def signals(count=6, *shape, seed=1):
    return torch.randn(count, *(shape or (1, SHORT)), generator=torch.Generator().manual_seed(seed))


def taught(name):
    """A net after a few steps, so that its batch norms hold statistics of their own."""
    net = made(name)
    train_in_memory = torch.optim.SGD(net.parameters(), lr=0.01)
    for step in range(3):
        train_in_memory.zero_grad()
        x = signals(8, *shape_of(name), seed=step) + 0.5
        nn.functional.cross_entropy(net(x), torch.arange(8) % 4).backward()
        train_in_memory.step()
    return net


@pytest.mark.parametrize(("name", "shape", "classes"), [entry(n, *kind) for n in MODELS for kind in kinds_of_shapes(n)])
def test_scores_have_a_column_a_class(name, shape, classes):
    if name == "net5" and shape[1] > 100:
        pytest.skip("its head alone is half a gigabyte there; shorter lengths check the same sums")
    net = made(name, *shape, classes=classes)
    with torch.no_grad():
        scores = net(signals(3, *shape))
    assert scores.shape == (3, classes)
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("name", NETS)
def test_scores_are_not_probabilities_yet(name):
    with torch.no_grad():
        scores = made(name)(signals(6, *shape_of(name)))
    assert not torch.allclose(scores.sum(1), torch.ones(6))


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_gets_a_gradient(name):
    shape = shape_of(name, channels=2)
    net = made(name, *shape)
    nn.functional.cross_entropy(net(signals(8, *shape)), torch.arange(8) % 4).backward()
    still = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # a bias before batch norm is taken out again: its gradient is zero but for rounding
    assert all(n.endswith("bias") for n in still), still
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("name", NETS)
def test_a_sample_is_scored_alike_in_any_company(name):
    net = taught(name).eval()
    x = signals(7, *shape_of(name))
    with torch.no_grad():
        together, alone, turned = net(x), torch.cat([net(x[i : i + 1]) for i in range(7)]), net(x.flip(0)).flip(0)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(turned, together, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_a_batch_of_one_can_be_learned_from(name):
    net = made(name).train()
    nn.functional.cross_entropy(net(signals(1, *shape_of(name))), torch.tensor([2])).backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("name", NETS)
def test_saved_weights_give_the_same_scores(name, tmp_path):
    net, other = taught(name).eval(), made(name).eval()
    assert all(value.is_contiguous() for value in net.state_dict().values())  # safetensors wants them so
    torch.save(net.state_dict(), tmp_path / "weights")
    other.load_state_dict(torch.load(tmp_path / "weights", weights_only=True))
    with torch.no_grad():
        x = signals(6, *shape_of(name))
        assert torch.equal(other(x), net(x))


@pytest.mark.parametrize("name", NETS)
def test_the_form_for_prediction_scores_alike(name):
    net = taught(name)
    before = copy.deepcopy(net.state_dict())
    ready, x = prepare_for_prediction(net), signals(6, *shape_of(name))
    with torch.no_grad():
        torch.testing.assert_close(ready(x), net.eval()(x), atol=1e-5, rtol=1e-5)
    assert not ready.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_repvgg_folds_to_one_convolution_a_block():
    kinds = [layer.kind for layer in describe(prepare_for_prediction(made("repvgg")), 1, SHORT)]
    assert kinds.count("Conv") == 9  # the first block and 2 + 4 + 2
    assert "Norm" not in kinds


@pytest.mark.parametrize(
    ("name", "parameters", "shapes"),
    [
        # 2 + (11*64 + 64) + (64*11*128 + 128) + 2*128 + (128*6*256 + 256) + 2*256 + (256*11*256 + 256) + 2*256
        # + (1024*256 + 256) + (256*128 + 128) + (128*4 + 4)
        ("net1", 1_306_118, {(64, 205), (128, 39), (256, 12), (256, 2), (256, 4), (1024,), (128,)}),
        ("net2", 447_556, {(32, 209), (64, 199), (128, 197), (128, 4), (256,), (1024,)}),
        ("net3", 3_425_158, {(32, 205), (64, 51), (128, 51), (256, 51), (256, 12), (3072,), (1024,), (128,)}),
        # of which the LSTM has 4*1024*(256 + 1024) + 2*4*1024 = 5,251,072
        ("net4", 9_773_958, {(32, 205), (64, 195), (64, 4), (128, 6), (256, 6), (4, 1024), (4096,), (128,)}),
        ("net6", 1_459_332, {(64, 205), (64, 103), (256, 103), (256, 4), (1024,), (256,), (4,)}),
    ],
)
def test_nets_have_the_widths_of_their_source(name, parameters, shapes):
    layers = describe(made(name, 1, 205), 1, 205)
    assert shapes <= {layer.shape for layer in layers}
    assert layers[-1].shape == (4,)
    assert count_parameters(layers) == parameters


def test_net5_head_follows_the_pooled_length():
    layers = describe(made("net5", 1, 17), 1, 17)
    widths = [layer.shape for layer in layers if layer.kind == "Linear"]
    assert widths == [(512,), (256,), (128,), (4,)]  # 17 // 8 = 2 positions left of 256, 128 and 64 wide each


@pytest.mark.parametrize(
    ("name", "length", "least"), [("net1", 35, 36), ("net4", 10, 11), ("net2", 8, 9), ("net3", 15, 16), ("net5", 7, 8)]
)
def test_a_signal_too_short_is_named_with_the_least_length(name, length, least):
    with pytest.raises(UserError, match=f"{name}: signals of length {length} .* at least {least}"):
        MODELS[name](1, length, 2)
    assert MODELS[name](1, least, 2)(torch.randn(4, 1, least)).shape == (4, 2)


def test_describe_counts_all_and_leaves_the_model_as_it_was():
    net = made("net4").train()
    layers = describe(net, 1, SHORT)
    assert count_parameters(layers) == sum(p.numel() for p in net.parameters())
    assert layers[0].kind == "Norm"
    assert layers[0].shape == (1, SHORT)
    assert net.training


CONVOLUTIONS = [  # inputs, outputs, kernel, stride, padding, dilation, length
    (1, 8, 11, 1, 5, 1, 30),
    (1, 4, 5, 2, 3, 2, 20),
    (1, 2, 3, 1, 1, 1, 5000),  # too many windows for a matrix product
    (3, 8, 11, 5, 0, 1, 30),
    (6, 5, 11, 1, 5, 2, 12),  # two output positions, as net 1's last
    (4, 4, 3, 3, 2, 4, 50),
    (4, 6, 3, 1, 4, 4, 90),  # many output positions
    (5, 7, 1, 1, 0, 1, 9),
    (5, 7, 1, 2, 0, 1, 9),
    (2, 3, 9, 1, 5, 1, 4),
    (8, 8, 4, 2, 1, 3, 33),
]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs", "kernel", "stride", "padding", "dilation", "length"), CONVOLUTIONS)
def test_convolution_and_its_gradients_equal_the_plain_form(inputs, outputs, kernel, stride, padding, dilation, length, bias):
    torch.manual_seed(0)
    ours = Conv(inputs, outputs, kernel, stride, padding, dilation, bias=bias)
    plain = nn.Conv1d(inputs, outputs, kernel, stride, padding, dilation, bias=bias)
    with torch.no_grad():
        plain.weight.copy_(ours.weight.transpose(1, 2))
        if bias:
            plain.bias.copy_(ours.bias)
    x = signals(4, inputs, length)
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, expected = ours(enter(mine)).squeeze(2), plain(theirs)
    assert out.shape == expected.shape == (4, outputs, ours.out_length(length))
    pull = torch.randn_like(expected)
    (out * pull).sum().backward()
    (expected * pull).sum().backward()
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.weight.grad.transpose(1, 2), plain.weight.grad, atol=1e-5, rtol=1e-5)
    if bias:
        torch.testing.assert_close(ours.bias.grad, plain.bias.grad, atol=1e-5, rtol=1e-5)


def test_dilated_convolution_has_the_gradient_of_its_gradient():
    torch.manual_seed(0)
    conv = Conv(2, 3, 3, 2, 1, 2).double()
    x = torch.randn(2, 2, 1, 9, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(conv, x)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 12, 25])
@pytest.mark.parametrize(("ours", "plain"), [(MaxPoolTo, nn.AdaptiveMaxPool1d), (MeanPoolTo, nn.AdaptiveAvgPool1d)])
def test_pool_to_a_size_equals_the_adaptive_pool(ours, plain, length):
    x = signals(3, 5, length)
    out, expected = ours(4)(enter(x)).squeeze(2), plain(4)(x)
    if ours is MaxPoolTo:
        assert torch.equal(out, expected)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-6)


def test_pools_and_norms_keep_the_layout_and_equal_the_plain_form():
    x = signals(4, 6, 21)
    ours = nn.Sequential(Norm(6), MaxPool(3, 2, 1), MaxPool(2))
    plain = nn.Sequential(nn.BatchNorm1d(6), nn.MaxPool1d(3, 2, 1), nn.MaxPool1d(2))
    out = ours(enter(x))
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out.squeeze(2), plain(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours[0].running_var, plain[0].running_var)


def test_a_lone_value_is_normalised_by_the_running_statistics():
    norm = Norm(2)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
    out = norm.train()(torch.tensor([[3.0, 2.0]]))
    torch.testing.assert_close(out, torch.tensor([[2.0, 0.0]]), atol=1e-4, rtol=0)


def search_asks_for_cadences(name):
    if name == "dedoppler":
        pytest.skip("it searches cadences, of two classes: tests/test_dedoppler.py")


def classed(count=90, length=24, classes=3):
    """Waves of one frequency a class, in noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    waves = np.sin(np.arange(length) * (labels[:, None] + 1) / 2 + rng.uniform(0, 6, (count, 1)))
    values = waves + rng.normal(0, 0.1, (count, length))
    return values[:, None].astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_saved_classifier_answers_alike_and_with_probabilities(name, tmp_path):
    search_asks_for_cadences(name)
    x, y = classed()
    fitted = CLASSIFIERS[name](seed=3, **SMALL.get(name, {})).fit(x, y, 5)  # classes 3 and 4 are never seen
    answers = fitted.probabilities(x)
    assert answers.shape == (90, 5)
    assert answers.dtype == np.float64
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-9)
    assert answers.min() >= 0
    assert answers[:, 3:].max() < 0.2
    fitted.save(tmp_path)
    np.testing.assert_array_equal(CLASSIFIERS[name].load(tmp_path).probabilities(x), answers)
    again = CLASSIFIERS[name](seed=3, **SMALL.get(name, {})).fit(x, y, 5)
    np.testing.assert_array_equal(again.probabilities(x), answers)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_answers_only_once_fitted(name, tmp_path):
    unfitted = CLASSIFIERS[name](seed=0)
    with pytest.raises(UserError, match="not fitted yet"):
        unfitted.probabilities(classed()[0])
    with pytest.raises(UserError, match="not fitted yet"):
        unfitted.save(tmp_path)


@pytest.mark.parametrize(("name", "kind"), [("random_forest", RandomForestClassifier), ("extra_trees", ExtraTreesClassifier)])
def test_a_forest_of_arrays_answers_as_scikit_learn_does(name, kind):
    x, y = classed()
    ours = CLASSIFIERS[name](seed=5, trees=11).fit(x[:60], y[:60], 3).probabilities(x)
    theirs = kind(11, random_state=5).fit(x[:60, 0], y[:60]).predict_proba(x[:, 0])
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_an_estimator_of_ones_own_becomes_a_member_by_a_line(tmp_path, monkeypatch):
    monkeypatch.setitem(CLASSIFIERS, "bayes", sklearn_member(GaussianNB))
    x, y = classed()
    member = build_part(CLASSIFIERS, "bayes", {"var_smoothing": 1e-3}, "member.0", seed=0)
    answers = member.fit(x, np.where(y == 2, 3, y), 4).probabilities(x)  # class 2 is never seen
    assert answers.shape == (90, 4)
    assert not answers[:, 2].any()
    member.save(tmp_path)
    again = CLASSIFIERS["bayes"].load(tmp_path)
    assert again.estimator.var_smoothing == 1e-3
    assert np.array_equal(again.probabilities(x), answers)
    with pytest.raises(UserError, match="did you mean 'var_smoothing'"):
        build_part(CLASSIFIERS, "bayes", {"var_smoothin": 1e-3}, "member.0", seed=0)


def test_an_estimator_of_untrusted_types_is_neither_written_nor_read(tmp_path):
    x, y = classed()
    distrusted = sklearn_member(MLPClassifier)
    with pytest.raises(UserError, match=r"MLPClassifier: the estimator contains types that are not trusted: .*AdamOptimizer"):
        distrusted(seed=0, max_iter=2).fit(x, y, 3).save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    CLASSIFIERS["mlp"](seed=0, max_iter=2).fit(x, y, 3).save(tmp_path)
    with pytest.raises(UserError, match="not trusted"):
        distrusted.load(tmp_path)


def test_what_an_estimator_cannot_learn_from_is_told_in_a_line():
    x, y = classed(6)
    with pytest.raises(UserError, match=r"CalibratedClassifierCV: Requesting 5-fold [^\n]*$"):
        CLASSIFIERS["svm"](seed=0, cv=5).fit(x, y, 3)


@pytest.mark.parametrize("name", ["mlp", "hist_boosting"])
def test_the_seed_reaches_the_estimator(name):
    assert CLASSIFIERS[name](seed=7).estimator.random_state == 7


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_no_signals_have_no_answers(name):
    search_asks_for_cadences(name)
    x, y = classed()
    fitted = CLASSIFIERS[name](seed=3, **SMALL.get(name, {})).fit(x, y, 3)
    assert fitted.probabilities(x[:0]).shape == (0, 3)


@pytest.mark.parametrize("name", NETS)
def test_a_net_can_be_laid_out_without_memory(name):
    with torch.device("meta"):
        net = made(name, *shape_of(name, length=205))
    assert all(tensor.is_meta for tensor in net.state_dict().values())
    assert count_parameters(describe(net, *shape_of(name, length=205))) == sum(p.numel() for p in net.parameters())


def test_a_net_exports_for_batches_of_any_size():
    net = prepare_for_prediction(made("net1", 1, 200))
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(net, (signals(4, 1, 200),), dynamic_shapes=({0: batch},)).module()
    torch.testing.assert_close(exported(signals(9, 1, 200)), net(signals(9, 1, 200)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("table", "name", "options", "words"),
    [
        *[(MODELS, n, {"dropout": 1.5}, f"{n}: dropout 1.5 .* at least 0 and below 1") for n in MODELS if takes(n, "dropout")],
        (MODELS, "net4", {"steps": 0}, "net4: steps 0 is too small; it must be 1 or more"),
        (MODELS, "repvgg", {"blocks": ()}, "repvgg: blocks"),
        (MODELS, "repvgg", {"blocks": (2, 0)}, r"repvgg: blocks \[2, 0\] .* 1 or more"),
        (MODELS, "repvgg", {"width": 0}, "repvgg: width 0 is too small; it must be 1 or more"),
        (MODELS, "lstm", {"width": 0}, "lstm: width 0 is too small; it must be 1 or more"),
        (MODELS, "lstm", {"layers": 0}, "lstm: layers 0 is too small; it must be 1 or more"),
        (MODELS, "lstm", {"layers": 2, "dropout": 1.5}, "lstm: dropout 1.5"),
        (CLASSIFIERS, "lightgbm", {"trees": 0}, "lightgbm: trees 0 is too small"),
        (CLASSIFIERS, "lightgbm", {"rate": 0.0}, "lightgbm: rate 0.0 .* above 0 and at most 1"),
        (CLASSIFIERS, "extra_trees", {"smallest_leaf": 0}, "smallest_leaf 0 is too small; it must be 1 or more"),
        (CLASSIFIERS, "kernels", {"features": 83}, "kernels: features 83 is too small; it must be 84 or more"),
        (CLASSIFIERS, "knn", {"n_neighbors": 0}, "'n_neighbors' .* Got 0 instead"),
        (CLASSIFIERS, "svm", {"C": -1.0}, r"SVC: .* 'C' .* Got -1\.0 instead"),
        (CLASSIFIERS, "svm", {"cv": 1}, "'cv' .* Got 1 instead"),
        (CLASSIFIERS, "hist_boosting", {"learning_rate": -1.0}, r"'learning_rate' .* Got -1\.0 instead"),
        (CLASSIFIERS, "mlp", {"alpha": -1.0}, r"'alpha' .* Got -1\.0 instead"),
        (CLASSIFIERS, "lightgbm", {"leaves": 1}, "leaves 1 is too small; it must be 2 or more"),
        (CLASSIFIERS, "random_forest", {"trees": 0}, "trees 0 is too small"),
        (CLASSIFIERS, "kernels", {"rows": 0}, "kernels: rows 0"),
    ],
)
def test_an_option_without_sense_is_named(table, name, options, words):
    given = (*shape_of(name), 2) if table is MODELS else ()
    with pytest.raises(UserError, match=words):
        table[name](*given, **({} if given else {"seed": 0}), **options)
