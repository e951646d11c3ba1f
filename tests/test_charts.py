"""Charts: what plotly is handed, by small numbers; no name of the data is markup; long signals keep their spikes."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from wavefold.domains.radio.charts import cadence_grid
from wavefold.plots import charts
from wavefold.plots.plot import Panels, inert
from wavefold.plots.signal_charts import thinned
from wavefold.reports.page import Figure

BAD = "<img src=x onerror=alert(1)>"
AXIS = np.arange(6.0)
RNG = np.random.default_rng(0)
SIGNALS = RNG.normal(size=(3, 1, 6)).astype(np.float32)
MAPS = RNG.normal(size=(3, 4, 5)).astype(np.float32)
CADENCES = RNG.normal(size=(2, 6, 8, 10)).astype(np.float32)
STORY = [{"stage": k // 2, "epoch": k % 2, "loss": 1.0 - k / 10, "auc": k / 10, "kept": k in (0, 2)} for k in range(4)]
ALL = {
    "class_bars": lambda n: charts.class_bars([n, "b"], {n: [1, 2], "test": [3, 4]}),
    "mean_and_spread": lambda n: charts.mean_and_spread(
        AXIS, n, SIGNALS[:, 0], SIGNALS[:, 0] - 1, SIGNALS[:, 0] + 1, [n, "b", "c"]
    ),
    "sample_grid": lambda n: charts.sample_grid(AXIS, n, SIGNALS, [n, "b", "c"], [0, 1, 9]),
    "channels": lambda n: charts.sample_grid(AXIS, n, np.repeat(SIGNALS, 2, 1), [n, "b", "c"], channels=[n]),
    "explained_grid": lambda n: charts.explained_grid(AXIS, n, SIGNALS, {n: SIGNALS, "b": SIGNALS}, [n, "b", "c"]),
    "cadence_grid": lambda n: cadence_grid(CADENCES, [n, "b"], n, n, CADENCES),
    "learning_curves": lambda n: charts.learning_curves({n: STORY, "b": STORY[:1]}, n),
    "confusion": lambda n: charts.confusion([[3, 1], [0, 4]], [n, "b"]),
    "reliability_diagram": lambda _: charts.reliability_diagram([0.2, 0.8], [0.1, 0.9], [0.0, 0.8], [0.2, 1.0], [5, 0]),
    "scores_with_intervals": lambda n: charts.scores_with_intervals(
        [n, n], [0.5, 0.6], [0.4, 0.5], [0.6, 0.7], n, [n, "member"]
    ),
    "histogram": lambda n: charts.histogram({n: [1, 2, 3.5], "b": [np.nan, 2]}, n, log=True),
    "map_grid": lambda n: charts.map_grid(MAPS, [n, "b", "c"], n, across=n, up=n),
    "scatter": lambda n: charts.scatter({n: ([1, np.nan, 3], [0.5, 1, -1])}, n, n, "diagonal"),
    "by_lead": lambda n: charts.by_lead({n: [1, 2], "b": [3, np.nan]}, n, [n, "+2 h"], n),
    "forecast_player": lambda n: charts.forecast_player(MAPS, MAPS + 1, MAPS[:2], [n] * 5, n),
    "in_order": lambda n: charts.in_order({n: [1.0, np.nan], "b": [2.0, 3.0]}, [n, "b"], n, n),
    "power_spectrum": lambda n: charts.power_spectrum([2.0, 20.0], {n: [1.0, 2.0]}, n),
}


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [s for inner in value.values() for s in strings(inner)]
    if isinstance(value, list | tuple):
        return [s for inner in value for s in strings(inner)]
    return [value] if isinstance(value, str) else []


def array(value: Any) -> np.ndarray:
    if not isinstance(value, dict):
        return np.asarray(value)
    values = np.frombuffer(base64.b64decode(value["bdata"]), "<" + value["dtype"])
    return values.reshape([int(size) for size in value["shape"].split(",")]) if "shape" in value else values


def test_each_chart_is_tried():
    assert set(charts.__all__) == set(ALL) - {"channels", "cadence_grid"}


@pytest.mark.parametrize("name", ALL)
def test_no_name_of_the_data_is_markup(name):
    figure = ALL[name](BAD)
    assert isinstance(figure, Figure)
    assert figure.alt
    assert figure.tall > 100
    spec = json.loads(json.dumps(figure.spec))  # plain JSON
    assert not [text for text in strings(spec) if "<img" in text]
    assert "<" not in "".join(strings(spec)).replace("<br>", "").replace("<extra></extra>", "")
    templates = [trace.get("hovertemplate", "") + trace.get("texttemplate", "") for trace in spec["data"]]
    assert "img" not in "".join(templates)  # %{...} in a name would be read as a field


def test_text_of_plotly_is_escaped_and_cut():
    assert inert("a < b & c\n d") == "a &lt; b &amp; c d"
    assert inert("x" * 80, 10) == "x" * 9 + "…"


def test_bars_hold_the_counts_and_classes_stay_words():
    figure = charts.class_bars(["0", "1"], {"train": [7, 2]})
    assert list(figure.spec["data"][0]["y"]) == [7, 2]
    assert figure.spec["layout"]["xaxis"]["type"] == "category"
    assert "0 7" in figure.alt


def test_confusion_colours_by_the_row():
    heat = charts.confusion([[3, 1], [0, 0]], ["a", "b"]).spec["data"][0]
    assert array(heat["z"]).tolist() == [[0.75, 0.25], [0.0, 0.0]]
    assert heat["text"] == [["3", "1"], ["0", "0"]]


def test_learning_marks_the_last_kept_epoch_and_the_stage():
    spec = charts.learning_curves({"net": STORY}, "auc").spec
    dots = [trace for trace in spec["data"] if trace["mode"] == "markers"]
    assert [array(dot["x"]).tolist() for dot in dots] == [[3], [3]]
    assert array(dots[1]["y"]).tolist() == [0.2]
    assert {shape["x0"] for shape in spec["layout"]["shapes"]} == {2.5}
    named = charts.learning_curves({"net": STORY}, "auc", {"net": 1}).spec["data"]
    assert [array(trace["x"]).tolist() for trace in named if trace["mode"] == "markers"] == [[2], [2]]


def test_intervals_reach_from_low_to_high():
    dots = charts.scores_with_intervals(["a"], [0.5], [0.25], [1.0], "auc", ["ensemble"]).spec["data"][0]
    assert array(dots["error_x"]["array"]).tolist() == [0.5]
    assert array(dots["error_x"]["arrayminus"]).tolist() == [0.25]


@pytest.mark.parametrize(("values", "bins", "counts"), [([0, 1, 1, 3], 4, [1, 2, 0, 1]), ([2.5], 60, None), ([], 2, [0, 0])])
def test_histograms_of_whole_numbers_one_value_and_none(values, bins, counts):
    heights = array(charts.histogram({"a": values}, "v").spec["data"][0]["y"])
    assert len(heights) >= bins
    assert heights.sum() == len(values)
    if counts is not None:
        assert heights[: len(counts)].tolist() == counts


def test_thinning_keeps_every_spike_and_its_order():
    signal = np.zeros((1, 9000), np.float32)
    signal[0, 4321], signal[0, 4322], signal[0, 77] = 5, -3, np.nan
    axis, values, said = thinned(np.arange(9000), signal)
    assert len(axis) == values.shape[-1] <= 2000
    assert said
    assert (np.diff(axis) > 0).all()
    assert values.max() == 5
    assert values.min() == -3
    assert values.argmax() < values.argmin()
    assert abs(axis[values.argmax()] - 4321) < 10
    assert np.isfinite(values).all()  # one missing value of nine is left out


def test_short_signals_and_missing_stretches_are_drawn_as_they_are():
    values = np.array([[1.0, np.nan, 3.0]])
    axis, drawn, said = thinned(np.arange(3), values)
    assert axis.tolist() == [0, 1, 2]
    assert said == []
    assert np.array_equal(drawn, values, equal_nan=True)
    _, long, _ = thinned(np.arange(4000), np.full((1, 4000), np.nan))
    assert np.isnan(long).all()


def test_strips_show_the_strongest_place_with_its_sign():
    maps = np.zeros((1, 1, 3000), np.float32)
    maps[0, 0, 1500], maps[0, 0, 1501] = 1, -2
    spec = charts.explained_grid(np.arange(3000), "t", np.zeros((1, 1, 3000)), {"gradients": maps}, ["a"]).spec
    heat = array(spec["data"][1]["z"])
    assert heat.shape[1] <= 500
    assert (heat.min(), heat.max()) == (-2, 0)
    assert spec["data"][1]["zmin"] == -spec["data"][1]["zmax"]


def test_cadences_are_averaged_to_few_rows_and_marked():
    big = np.ones((1, 6, 273, 512), np.float16)
    spec = cadence_grid(big, ["a"], "time (s)", "frequency (Hz)").spec
    assert len(spec["data"]) == 6
    assert array(spec["data"][0]["z"]).shape == (31, 256)
    assert (array(spec["data"][0]["z"]) == 1).all()
    marks = [note["text"] for note in spec["layout"]["annotations"]]
    assert [m for m in marks if m.startswith("O")] == ["ON A", "OFF B", "ON A", "OFF C", "ON A", "OFF D"]


def test_the_player_shows_past_truth_forecast_and_error():
    past, truth = np.zeros((2, 3, 3)), np.ones((1, 3, 3))
    spec = charts.forecast_player(truth, truth * 3, past, ["-1", "0", "+1"], "mm").spec
    last = [array(trace["z"]) for trace in spec["frames"][-1]["data"]]
    assert [z[0, 0] for z in last] == [1, 3, 2]
    assert np.isnan(array(spec["frames"][0]["data"][2]["z"])).all()
    assert [step["label"] for step in spec["layout"]["sliders"][0]["steps"]] == ["past -1", "past 0", "forecast +1"]


def test_maps_share_a_scale_around_zero_and_rise_with_their_coordinates():
    maps = np.stack([np.full((2, 2), -1.0), np.full((2, 2), 3.0)])
    layout = charts.map_grid(maps, ["a", "b"], "m", rows=[50, 51], columns=[0, 1], diverging=True).spec["layout"]
    assert layout["coloraxis"]["cmin"] == -layout["coloraxis"]["cmax"]
    assert layout["yaxis"]["autorange"] is True
    assert charts.map_grid(maps, ["a", "b"], "m").spec["layout"]["yaxis"]["autorange"] == "reversed"


def test_panels_fill_the_height_and_never_overlap():
    panels = Panels(3, columns=2, cell=100, gap=50, parts=((0.3, 1.0), (0.0, 0.2)))
    layout = panels.layout("x", "y")
    assert panels.tall == 250 + panels.top + panels.bottom
    assert layout["yaxis"]["domain"] == pytest.approx([0.72, 1.0])
    assert layout["yaxis6"]["domain"] == pytest.approx([0.0, 0.08])
    assert layout["xaxis2"]["domain"][0] > layout["xaxis"]["domain"][1]
    assert layout["xaxis3"]["anchor"] == "y6"


def test_nothing_to_draw_is_no_error():
    none = np.zeros((0, 1, 6))
    assert charts.sample_grid(AXIS, "t", none, []).spec["data"] == []
    assert charts.explained_grid(AXIS, "t", none, {"a": none}, []).spec["data"] == []
    assert cadence_grid(CADENCES[:0], [], "t", "f").spec["data"] == []
    assert charts.map_grid(MAPS[:0], [], "m").spec["data"] == []
    assert charts.learning_curves({}, "auc").spec["data"] == []


def test_no_error_at_all_is_drawn_in_the_middle_of_the_colours():
    layout = charts.map_grid(np.zeros((1, 4, 5), np.float32), ["a"], "m", diverging=True).spec["layout"]
    assert (layout["coloraxis"]["cmin"], layout["coloraxis"]["cmax"]) == (-1, 1)
