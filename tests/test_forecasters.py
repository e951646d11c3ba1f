"""Every forecasting net keeps the room's promises; the ConvLSTM equals plain LSTMs and Keras' counts."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wavefold.core.errors import UserError
from wavefold.models.conv_lstm import ConvLSTMCell, ConvLSTMLayer, ConvLSTMNet
from wavefold.models.forecasters import FORECASTERS
from wavefold.models.roll_out import RollOut
from wavefold.models.simvp import SimVP, spread

SMALL = {
    "conv_lstm": {"hidden": 4, "depth": 2, "activation": "linear"},
    "refine": {"width": 4, "depth": 2},
    "roll_out": {"hidden": 4, "depth": 2},
    "simvp": {"width": 4, "hidden": 12, "depth": 2, "kernel": 9},
}
PEEPHOLES = {"conv_lstm": {"peephole": True}, "roll_out": {"peephole": True}}
WIDE = {"refine": {"width": 16}, "simvp": {"hidden": 16}, "conv_lstm": {"hidden": 16}, "roll_out": {"hidden": 16}}
STARTS = ["last", "damped", "mean", "advection"]


def made(name, channels=1, targets=1, past=5, ahead=7, seed=0, **options):
    torch.manual_seed(seed)
    return FORECASTERS[name](channels, targets, past, ahead, **{**SMALL.get(name, {}), **options})


def frames(*shape, seed=1):
    """Values from 0 to 1 in the given shape (sample, channel, frame, row, column)."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def taught(name, steps=3, **options):
    """A net after a few steps, so that its batch norms hold statistics of their own."""
    net = made(name, 2, 1, 4, 4, **options)
    train_in_memory = torch.optim.SGD(net.parameters(), lr=0.01)
    for step in range(steps):
        train_in_memory.zero_grad()
        F.mse_loss(net(frames(4, 2, 4, 9, 10, seed=step)), frames(4, 1, 4, 9, 10, seed=step + 50)).backward()
        train_in_memory.step()
    return net


@pytest.mark.parametrize(("past", "ahead"), [(20, 20), (20, 1), (5, 7), (1, 2)])
@pytest.mark.parametrize(("channels", "targets"), [(1, 1), (3, 1)])
@pytest.mark.parametrize("name", FORECASTERS)
def test_any_past_future_channels_and_size(name, past, ahead, channels, targets):
    net = made(name, channels, targets, past, ahead).eval()
    with torch.no_grad():
        for rows, columns in [(33, 49), (7, 6)]:  # the same weights
            forecast = net(frames(2, channels, past, rows, columns))
            assert forecast.shape == (2, targets, ahead, rows, columns)
            assert torch.isfinite(forecast).all()


@pytest.mark.parametrize("name", FORECASTERS)
def test_the_source_s_frames(name):
    net = made(name, 3, 3, 20, 1).eval()
    with torch.no_grad():
        assert net(frames(1, 3, 20, 60, 93)).shape == (1, 3, 1, 60, 93)


@pytest.mark.parametrize("start", ["none", "last"])
@pytest.mark.parametrize(("past", "ahead"), [(4, 4), (5, 1)])
@pytest.mark.parametrize("name", FORECASTERS)
def test_every_parameter_gets_a_gradient(name, past, ahead, start):
    start = "damped" if name == "refine" and start == "none" else start  # it has nothing to refine without one
    net = made(name, 3, 2, past, ahead, start=start, **PEEPHOLES.get(name, {}))
    F.mse_loss(net(frames(3, 3, past, 9, 10)), frames(3, 2, ahead, 9, 10, seed=2)).backward()
    still = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


@pytest.mark.parametrize("name", FORECASTERS)
def test_a_sample_is_forecast_alike_in_any_company(name):
    net, x = taught(name).eval(), frames(5, 2, 4, 9, 10)
    with torch.no_grad():
        together, alone = net(x), torch.cat([net(x[i : i + 1]) for i in range(5)])
        assert torch.equal(net(x), together)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FORECASTERS)
def test_saved_weights_give_the_same_forecast(name, tmp_path):
    net, other = taught(name).eval(), made(name, 2, 1, 4, 4, seed=3).eval()
    assert all(value.is_contiguous() for value in net.state_dict().values())  # safetensors wants them so
    torch.save(net.state_dict(), tmp_path / "weights")
    other.load_state_dict(torch.load(tmp_path / "weights", weights_only=True))
    with torch.no_grad():
        assert torch.equal(other(frames(2, 2, 4, 9, 10)), net(frames(2, 2, 4, 9, 10)))


@pytest.mark.parametrize("name", sorted(FORECASTERS.keys() - {"blend"}))  # whose weights are the same in every cell
def test_one_tiny_batch_can_be_learned(name):
    net = made(name, 1, 1, 3, 3, activation="linear", start="last" if name == "refine" else "none", **WIDE[name])
    train_in_memory = torch.optim.Adam(net.parameters(), lr=0.01)
    x = torch.stack([torch.roll(torch.eye(8), (t, s), (0, 1)) for s in range(2) for t in range(6)])
    x = x.view(2, 1, 6, 8, 8)  # a diagonal line that moves down
    losses = []
    for _ in range(70):
        train_in_memory.zero_grad()
        loss = F.mse_loss(net(x[:, :, :3]), x[:, :, 3:])
        loss.backward()
        train_in_memory.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 5


@pytest.mark.parametrize("name", FORECASTERS)
def test_learning_works_in_half_precision(name):
    net = made(name, 2, 1, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.mse_loss(net(frames(2, 2, 4, 9, 10)).float(), frames(2, 1, 4, 9, 10, seed=2))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad.dtype == torch.float32 and torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("activation", ["linear", "sigmoid"])
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", FORECASTERS)
def test_training_begins_at_the_first_forecast(name, start, activation):
    past = 0.1 + 0.8 * frames(2, 2, 4, 9, 10)
    net = made(name, 2, 1, 4, 6, start=start, activation=activation).eval()
    with torch.no_grad():
        forecast = net(past)
    assert forecast.shape == (2, 1, 6, 9, 10)
    expected = {"last": past[:, :1, -1:], "mean": past[:, :1].mean(2, keepdim=True)}
    if start in expected:
        torch.testing.assert_close(forecast, expected[start].expand_as(forecast), atol=0.05, rtol=0)


@pytest.mark.parametrize("name", FORECASTERS)
def test_a_moving_square_is_moved_on(name):
    past = torch.zeros(1, 1, 5, 24, 24)
    for t in range(5):
        past[..., t, 8:14, 2 + 2 * t : 8 + 2 * t] = 1
    truth = torch.zeros(24, 24)
    truth[8:14, 12:18] = 1
    with torch.no_grad():
        still, moved = (made(name, start=start, activation="linear").eval()(past)[0, 0, 0] for start in ("last", "advection"))
    assert F.mse_loss(moved, truth) < F.mse_loss(still, truth) / 2


@pytest.mark.parametrize("name", FORECASTERS)
def test_a_sigmoid_keeps_forecasts_from_0_to_1(name):
    net = made(name, activation="sigmoid", start="last").eval()
    with torch.no_grad():
        forecast = net(frames(1, 1, 5, 9, 10).round())  # zeros and ones, whose logits are endless
    assert ((forecast > 0) & (forecast < 1)).all()


@pytest.mark.parametrize("name", [n for n, net in FORECASTERS.items() if getattr(net, "takes_truth", False)])
def test_truth_is_fed_in_training_alone(name):
    past, truth = frames(4, 2, 3, 9, 10), frames(4, 1, 4, 9, 10, seed=2)
    net = made(name, 2, 1, 3, 4, teacher=1.0).train()
    own, fed = net(past), net(past, truth)
    assert torch.equal(own[:, :, 0], fed[:, :, 0])  # the first later frame knows past frames alone
    assert not torch.allclose(own[:, :, 1:], fed[:, :, 1:])
    turned = net(past, torch.cat([truth[:, :, :3], truth[:, :, 3:] + 1], 2))
    assert torch.equal(turned, fed)  # the last true frame is never read
    net.set_done(0.5)
    assert torch.equal(net(past, truth), own)
    net.set_done(0.0)
    net.eval()
    assert torch.equal(net(past, truth), net(past))


def test_true_frames_are_fed_to_a_falling_share_of_the_samples():
    past, truth = frames(400, 1, 2, 4, 4), frames(400, 1, 2, 4, 4, seed=2)
    net = made("roll_out", 1, 1, 2, 2, teacher=0.8).train()
    with torch.no_grad():
        own = net(past)
        for done, share in [(0.0, 0.8), (0.25, 0.4), (0.75, 0.0)]:
            net.set_done(done)
            torch.manual_seed(5)
            fed = (net(past, truth) != own).flatten(1).any(1).float().mean().item()
            assert fed == pytest.approx(share, abs=0.08)


def test_missing_true_cells_are_fed_from_the_forecast():
    net = made("roll_out", 1, 1, 2, 3, teacher=1.0).train()
    past = frames(2, 1, 2, 5, 5)
    assert torch.equal(net(past, torch.full((2, 1, 3, 5, 5), torch.nan)), net(past))


def test_a_roll_out_holds_channels_that_are_not_targets():
    net = made("roll_out", 2, 1, 3, 4).eval()
    seen = []
    net.read.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    past = frames(1, 2, 3, 4, 4)
    with torch.no_grad():
        net(past)
    assert [len(x) for x in seen] == [3, 1, 1, 1]  # all past frames at once, then one later frame at a time
    for fed in seen[1:]:
        torch.testing.assert_close(F.pixel_shuffle(fed, 2)[:, 1], past[:, 1, -1])


@pytest.mark.parametrize("kernel", [1, 3])
def test_on_a_single_cell_it_is_a_plain_lstm(kernel):
    torch.manual_seed(0)
    ours, plain = ConvLSTMCell(3, 5, kernel), nn.LSTMCell(3, 5)
    middle = kernel // 2
    with torch.no_grad():
        ours.read.weight[:, :, middle, middle] = plain.weight_ih  # torch and Keras order gates alike: i, f, c, o
        ours.recur.weight[:, :, middle, middle] = plain.weight_hh
        ours.read.bias.copy_(plain.bias_ih + plain.bias_hh)
    x, state, expected = torch.randn(4, 2, 3), None, None
    for t in range(4):
        state, expected = ours(x[t, :, :, None, None], state), plain(x[t], expected)
    for got, want in zip(state, expected, strict=True):
        torch.testing.assert_close(got[:, :, 0, 0], want)


def test_peepholes_let_gates_see_the_cell():
    cell = ConvLSTMCell(1, 1, 1, peephole=True)
    with torch.no_grad():
        for p in (cell.read.weight, cell.read.bias, cell.recur.weight):
            p.zero_()
        cell.peep.copy_(torch.tensor([0.0, 2.0, 3.0]).view(3, 1, 1, 1))
        hidden, after = cell(torch.zeros(1, 1, 1, 1), (torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)))
    kept = torch.sigmoid(torch.tensor(2.0))  # forget gate: 2 x cell 1; nothing new enters
    assert after.item() == pytest.approx(kept.item())
    assert hidden.item() == pytest.approx((torch.sigmoid(3 * kept) * torch.tanh(kept)).item())  # output gate: the new cell


def test_a_new_cell_remembers():
    bias = ConvLSTMCell(2, 3).read.bias
    assert bias.tolist() == [0] * 3 + [1] * 3 + [0] * 6


@pytest.mark.parametrize("peephole", [False, True])
def test_pieces_with_the_state_handed_on_equal_the_whole(peephole):
    torch.manual_seed(0)
    layer, x = ConvLSTMLayer(2, 3, peephole=peephole), frames(2, 2, 7, 5, 6)
    with torch.no_grad():
        whole, last = layer(x)
        pieces, state = [], None
        for piece in x.split([3, 1, 3], dim=2):
            some, state = layer(piece, state)
            pieces.append(some)
    assert whole.shape == (2, 3, 7, 5, 6)
    torch.testing.assert_close(torch.cat(pieces, 2), whole)
    torch.testing.assert_close(state, last)
    torch.testing.assert_close(whole[:, :, -1], last[0])


@pytest.mark.parametrize("peephole", [False, True])
def test_the_state_is_of_the_input_s_type(peephole):
    layer = ConvLSTMLayer(2, 3, peephole=peephole)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden, state = layer(frames(1, 2, 3, 4, 4))
        again, _ = layer(frames(1, 2, 3, 4, 4), state)
    assert {x.dtype for x in (hidden, *state, again)} == {torch.float32}
    hidden, state = layer.double()(frames(1, 2, 3, 4, 4).double())
    assert {x.dtype for x in (hidden, *state)} == {torch.float64}


@pytest.mark.parametrize(
    ("build", "count"),
    [
        # a ConvLSTM2D: 4 x filters x (9 x (inputs + filters) + 1); batch norm: 2 x filters; Conv3D: 27 x filters x 1 + 1
        ((1, 1, 20, 20, 40), 160 * 370 + 2 * 160 * 721 + 3 * 80 + 27 * 40 + 1),  # 291 241
        ((3, 3, 20, 1, 30), 120 * 298 + 2 * 120 * 541 + 3 * 60 + 9 * 30 * 3 + 3),  # 166 593
    ],
)
def test_the_source_s_builds_have_keras_counts(build, count):
    *shape, hidden = build
    assert sum(p.numel() for p in ConvLSTMNet(*shape, hidden=hidden).parameters()) == count


def test_the_sequence_head_has_seen_early_frames_alone():
    net = made("conv_lstm", past=6, ahead=6).eval()
    x = frames(1, 1, 6, 5, 5)
    other = x.clone()
    other[:, :, 4] += 1
    with torch.no_grad():
        same = (net(x) == net(other)).flatten(3).all(3)[0, 0].tolist()
    assert same == [True, True, True, False, False, False]  # place 3 reads frame 4 by the convolution in time
    last = made("conv_lstm", past=6, ahead=6, head="last").eval()
    with torch.no_grad():
        assert not (last(x) == last(other)).flatten(3).all(3).any()


@pytest.mark.parametrize("size", [(5, 7), (16, 16), (9, 3)])
def test_spread_convolution_equals_the_dilated_one(size):
    torch.manual_seed(0)
    convolution, x = nn.Conv2d(4, 4, 5, padding=2, groups=4), torch.randn(2, 4, *size)
    dilated = F.conv2d(x, convolution.weight, convolution.bias, padding=6, dilation=3, groups=4)
    torch.testing.assert_close(spread(convolution, x, 3), dilated)


def test_simvp_keeps_the_level_of_a_frame():
    """Nothing takes out a frame's mean, as a norm over the frame would: a warmer frame gives another change."""
    net = made("simvp", past=3, ahead=3).eval()
    x = frames(1, 1, 3, 16, 16)
    with torch.no_grad():
        assert not torch.allclose(net(x), net(x + 1), atol=1e-3)


OPTIONS = [
    ("conv_lstm", {"hidden": 5}),
    ("conv_lstm", {"depth": 1}),
    ("conv_lstm", {"kernel": 5}),
    ("conv_lstm", {"peephole": True}),
    ("conv_lstm", {"head": "last"}),
    ("conv_lstm", {"activation": "sigmoid"}),
    ("conv_lstm", {"start": "mean"}),
    ("roll_out", {"hidden": 5}),
    ("roll_out", {"depth": 1}),
    ("roll_out", {"kernel": 5}),
    ("roll_out", {"peephole": True}),
    ("roll_out", {"downsample": 1}),
    ("roll_out", {"downsample": 4}),
    ("roll_out", {"activation": "sigmoid"}),
    ("roll_out", {"start": "mean"}),
    ("simvp", {"width": 5}),
    ("simvp", {"depth": 1}),
    ("simvp", {"hidden": 8}),
    ("simvp", {"downsample": 1}),
    ("simvp", {"downsample": 2}),
    ("simvp", {"downsample": 8}),
    ("simvp", {"kernel": 15}),
    ("simvp", {"drop_path": 0.9}),
    ("simvp", {"activation": "sigmoid"}),
    ("simvp", {"start": "mean"}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_an_option_changes_the_net(name, options):
    plain, other = made(name, past=4, ahead=4), made(name, past=4, ahead=4, **options)
    x = frames(4, 1, 4, 17, 18)
    other_forecast = other(x)
    assert other_forecast.shape == (4, 1, 4, 17, 18)
    shapes = [{n: p.shape for n, p in net.named_parameters()} for net in (plain, other)]
    assert shapes[0] != shapes[1] or not torch.allclose(plain(x), other_forecast, atol=1e-6)


def test_dropped_paths_are_for_training_alone():
    net, x = made("simvp", drop_path=0.5), frames(4, 1, 5, 8, 8)
    with torch.no_grad():
        assert not torch.equal(net(x), net(x))
        net.eval()
        assert torch.equal(net(x), net(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvLSTMNet(1, 1, 20, 1, head="sequence"), "head 'sequence' .* past is 20 and ahead is 1; choose head 'last'"),
        (lambda: ConvLSTMNet(1, 1, 4, 4, head="lost"), "head 'lost' is not one of auto, sequence, last; did you mean 'last'"),
        (lambda: ConvLSTMNet(1, 1, 4, 4, kernel=4), "kernel 4 is even; it must be odd"),
        (lambda: ConvLSTMNet(1, 1, 4, 4, start="lst"), "start 'lst' is not one of none, last, damped,"),
        (lambda: ConvLSTMNet(1, 2, 4, 4), "2 targets but only 1 channel"),
        (lambda: RollOut(1, 1, 4, 4, downsample=3), "downsample 3 is not one of 1, 2, 4"),
        (lambda: RollOut(1, 1, 4, 4, teacher=1.5), "teacher 1.5 is not a valid fraction"),
        (lambda: RollOut(1, 1, 0, 4), "past 0 is too small"),
        (lambda: SimVP(1, 1, 4, 4, kernel=7), "kernel 7 is not supported; use an odd multiple of 3"),
        (lambda: SimVP(1, 1, 4, 4, drop_path=2), "drop_path 2 is not a valid fraction"),
        (lambda: SimVP(1, 1, 4, 4, activation="tanh"), "activation 'tanh' is not one of linear, sigmoid"),
    ],
)
def test_a_wrong_option_is_named_with_what_there_is(make, message):
    with pytest.raises(UserError, match=message):
        make()
