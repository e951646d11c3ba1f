"""The server: what it takes, what it refuses and by which word, how it batches, what it survives."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import shutil
import socket
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydantic import create_model

from wavefold import api
from wavefold.core.errors import UserError
from wavefold.core.run import RunFolder
from wavefold.recipe import Recipe
from wavefold.serving import app
from wavefold.serving.app import Limits, ServedModel, new_app, run_server
from wavefold.serving.parsers import InputBatch
from wavefold.serving.queue import InferenceQueue
from wavefold.serving.responses import Answer
from wavefold.serving.schemas import Forecast, prediction_model
from wavefold.tasks.base import recipe_of
from wavefold.tasks.frames import serve as frames_story
from wavefold.tasks.samples import serve as story
from wavefold.tasks.samples.inference import Members, predictions_for
from wavefold.tasks.samples.predictions import Predictions
from wavefold.tasks.samples.reading import read_like

NAN = float("nan")


def halves(signals):
    """A model by hand: class 'up' where the first value is above 0, as sure as that value says up to 1."""
    assert signals.ndim > 2  # (sample, channel, ...), as ONNX Runtime insists
    first = np.clip(signals.reshape(len(signals), -1)[:, 0], -1, 1) / 2 + 0.5
    return np.stack([1 - first, first], axis=1)


def read(path: Path) -> InputBatch:
    if not path.read_bytes().startswith(b"id,"):
        raise UserError(f"{path}: is no such file")
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    return InputBatch([row[0] for row in rows], np.array([[list(map(float, row[1:]))] for row in rows], np.float32))


def explain(sample, predict):
    return (sample * predict(np.stack([sample, -sample]))[0, 1]).astype(np.float32)


def by_class(classes):
    """Answers of probabilities of these classes, decided where they are above a half."""

    def answer(batch, odds):
        said = Predictions(np.array(batch.ids, object), classes, np.asarray(odds, np.float64), (odds > 0.5).astype(float))
        return Answer(said.messages, columns=said.columns)

    return answer


FAKE = ServedModel(
    title="a fake",
    kind="classes",
    metadata={"classes": ["down", "up"]},
    shape=(1, 3),
    predict=halves,
    example=np.array([[0.5, 0.25, 0.0]], np.float32),
    key="signals",
    name="predictions",
    row=prediction_model(("down", "up")),
    answer=by_class(("down", "up")),
    offers=("application/json", "text/csv"),
    read=read,
    suffixes=(".npy", ".csv", ".zip"),
    csv=True,
    explain=explain,
)
TWO = replace(FAKE, shape=(2, 3), example=np.zeros((2, 3), np.float32), csv=False, suffixes=(), read=None)


def later(frames, times=0.0):
    """Forecasts by hand: the last frame, once and twice, with the hour added."""
    last = frames[:, :, -1:]
    return np.concatenate([last, 2 * last], axis=2) + np.reshape(times, (-1, 1, 1, 1, 1))


FRAMES = ServedModel(
    title="fake frames",
    kind="frames",
    key="frames",
    name="forecasts",
    row=Forecast,
    answer=frames_story.forecast_answer(("t2m",)),
    offers=("application/json", "application/x-npy"),
    lines=False,
    npy=True,
    metadata={},
    shape=(1, 2, 1, 2),
    predict=later,
    example=np.zeros((1, 2, 1, 2), np.float32),
    nan=True,
)


class Client:
    """An app asked in this process, a request at a time or several at once."""

    def __init__(self, served=FAKE, **limits):
        self.app = new_app(served, Limits(**limits))

    def predict(self, method, path, **more):
        return self.together([(method, path, more)])[0]

    def post(self, path="/predict", **more):
        return self.predict("POST", path, **more)

    def get(self, path):
        return self.predict("GET", path)

    def together(self, requests):
        async def all_of_them():
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await asyncio.gather(*(client.request(m, p, **more) for m, p, more in requests))

        return asyncio.run(all_of_them())


def npy(values) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


def typed(kind, accept="application/json"):
    return {"headers": {"content-type": kind, "accept": accept}}


def refused(response, status=422):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error", "field"}
    assert "\n" not in response.json()["error"]
    return response.json()["error"]


def ups(response):
    assert response.status_code == 200, response.text
    return [row["probabilities"]["up"] for row in response.json()["predictions"]]


@pytest.mark.parametrize("signals", [[1, 0, 0], [[1, 0, 0]], [[[1, 0, 0]]]])
def test_one_sample_may_be_written_three_ways(signals):
    row = Client().post(json={"signals": signals}).json()["predictions"]
    assert row == [{"id": "0", "class": "up", "probabilities": {"down": 0, "up": 1}, "decided": {"down": 0, "up": 1}}]


def test_samples_keep_their_order_and_ids():
    answer = Client().post(json={"signals": [[-1, 0, 0], [0.5, 0, 0]], "ids": ["a", "b"]})
    assert ups(answer) == [0, 0.75]
    assert [row["id"] for row in answer.json()["predictions"]] == ["a", "b"]


def test_samples_of_two_channels_are_nested_once_more():
    one = [[1, 0, 0], [0, 0, 0]]
    assert ups(Client(TWO).post(json={"signals": one})) == [1]
    assert ups(Client(TWO).post(json={"signals": [one, one]})) == [1, 1]
    assert "1 list deep" in refused(Client(TWO).post(json={"signals": [1, 2, 3]}))


@pytest.mark.parametrize(
    ("body", "field", "word"),
    [
        (
            {"signals": [[1, 2, 3], [1, 2]]},
            "signals[1]",
            "signals[1]: list should have at least 3 items",
        ),
        ({"signals": [[1, 2, 3], [1, 2], [1, 2, 3, 4]]}, "signals[1]", "at least 3 items after validation, not 2"),
        ({"signals": [[1, 2], [1, 2, 3, 4]]}, "signals[0]", "at least 3 items after validation, not 2"),
        ({"signals": [[[1, 2, 3]], [[1, 2]]]}, "signals[1][0]", "at least 3 items after validation, not 2"),
        ({"signals": [[1, 2, 3], 4]}, "signals[1]", "should be a valid list"),
        ({"signals": [[1, "2", 3]]}, "signals[0][1]", 'should be a valid number; got "2"'),
        ({"signals": [[1, None, 3]]}, "signals[0][1]", "should be a valid number; got null"),
        ({"signals": [[1, True, 3]]}, "signals[0][1]", "should be a valid number; got true"),
        ({"signals": [[1, 1e39, 3]]}, "signals[0][1]", "should be less than or equal to 34028"),
        ({"signals": [[1, -1e39, 3]]}, "signals[0][1]", "should be greater than or equal to -34028"),
        ({"signals": [1, 10**400, 3]}, "signals[1]", "should be a valid number"),
        ({"signals": [1, 10**50, 3]}, "signals[1]", "should be less than or equal to 34028"),
        ({"signals": []}, "signals", "at least 3 items after validation, not 0"),
        ({"signals": [1, [], 3]}, "signals[1]", "should be a valid number"),
        ({"signals": [1, [2, 2], []]}, "signals[1]", "should be a valid number"),
        ({"signals": [[1, 2, 3], [1, [2], 3]]}, "signals[1][1]", "should be a valid number"),
        ({"a\nb": 1}, "a\nb", "'a\\nb' is not one of signals, ids"),
        ({"signals": 3}, "signals", "0 lists deep"),
        ({"signal": [1, 2, 3]}, "signal", "did you mean 'signals'?"),
        ({"signals": [1, 2, 3], "id": ["a"]}, "id", "did you mean 'ids'?"),
        ({}, "signals", "missing, expected signals, ids of samples of 1 x 3 values"),
        ({"signals": [1, 2, 3], "ids": ["a", "b"]}, "ids", "got 2 values, expected 1"),
        ({"signals": [1, 2, 3], "ids": [7]}, "ids[0]", "should be a valid string"),
        ({"signals": [1, 2, 3], "ids": ["a" * 201]}, "ids[0]", "at most 200 characters"),
        ({"signals": [1, 2, 3], "ids": None}, "ids", "should be a valid list; got null"),
        ({"signals": [1, 2, 3], "ids": "a"}, "ids", 'should be a valid list; got "a"'),
        ([1, 2, 3], "the body", 'expected an object {"signals": [...]}'),
    ],
)
def test_a_fault_in_json_is_named(body, field, word):
    response = Client().post(json=body)
    assert word in refused(response)
    assert response.json()["field"] == field


def test_a_list_longer_than_simdjson_counts_is_refused():
    body = b'{"signals": [[' + b"0," * (1 << 24) + b"1]]}"
    assert "at most 3 items" in refused(Client().post(content=body, **typed("application/json")))


def test_answers_of_any_kind_are_rows():
    row = create_model("Row", id=(str, ...), value=(float, ...))

    def answer(batch, values):
        rows = [{"id": name, "value": value} for name, value in zip(batch.ids, values.tolist(), strict=True)]
        return Answer(lambda: rows, array=lambda: values, more={"unit": "m"})

    served = replace(FAKE, kind="values", name="values", row=row, answer=answer, predict=lambda s: s[:, 0, 0], explain=None)
    client = Client(replace(served, offers=("application/json", "application/x-npy")))
    sent = {"json": {"signals": [[1.5, 0, 0], [2, 0, 0]], "ids": ["a", "b"]}}
    for accept in ("application/json", "text/csv"):
        said = client.post(**sent, headers={"accept": accept}).json()
        assert said == {"values": [{"id": "a", "value": 1.5}, {"id": "b", "value": 2}], "unit": "m"}
    array = client.post(**sent, headers={"accept": "application/x-npy"})
    assert np.load(io.BytesIO(array.content)).tolist() == [1.5, 2]
    refused(client.post("/explain", **sent), 404)
    document = client.get("/openapi.json").json()
    assert set(document["components"]["schemas"]["Row"]["properties"]) == {"id", "value"}
    assert set(document["paths"]["/predict"]["post"]["responses"]["200"]["content"]) == {
        "application/json",
        "application/x-npy",
    }


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"signals": [NaN, 0, 0]}', b'{"signals": [1,2,3], "signals": [1,2,3]}'])
def test_what_is_no_json_is_refused(body):
    refused(Client().post(content=body, **typed("application/json")))


def test_a_long_key_is_not_looked_up_at_length():
    error = refused(Client().post(content=b'{"%s": 1}' % (b"abs" * 1_000_000), **typed("application/json")))
    assert len(error) < 200


def test_ids_come_back_as_they_were_sent():
    ids = ["a\0", "[", "é\n"]
    for accept in ("application/json", "text/csv"):
        answer = Client().post(json={"signals": [[1, 0, 0]] * 3, "ids": ids}, headers={"accept": accept})
        assert answer.status_code == 200
    assert [row["id"] for row in Client().post(json={"signals": [[1, 0, 0]] * 3, "ids": ids}).json()["predictions"]] == ids


def test_large_whole_numbers_are_numbers():
    assert ups(Client().post(json={"signals": [10**25, 0, 2**53 + 1]})) == [1]


def test_rows_of_numbers_are_samples():
    assert ups(Client().post(content=b"1,0,0\n-1,.5,+1.\r\n\n", **typed("text/csv; charset=utf-8"))) == [1, 0]
    for body, word in [
        (b"1,0,0\n1,0\n", "line 2: has 2 values, expected 3"),
        (b"1,,0\n", "line 1: value 2 is ''"),
        (b"1,-,0", "'-'"),
    ]:
        assert word in refused(Client().post(content=body, **typed("text/csv")))


def test_the_systems_own_csv_goes_to_its_reader():
    answer = Client().post(content=b"id,a,b,c\nx7,1,0,0\n", **typed("text/csv"))
    assert answer.json()["predictions"][0]["id"] == "x7"
    assert "line 1" in refused(Client(replace(FAKE, csv=False)).post(content=b"id,a,b\n", **typed("text/csv")))


def test_answers_are_csv_where_that_is_liked_best():
    sent = {"json": {"signals": [1, 0, 0], "ids": ["=a,b"]}}
    answer = Client().post(**sent, headers={"accept": "text/csv, application/json;q=0.5"})
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text.splitlines() == ["id,label_down,label_up,probability_down,probability_up,predicted", '"=a,b",0,1,0,1,up']
    for accept in ("text/csv;q=0.1, */*", "image/png", "nonsense;q=x", "application/json"):
        assert Client().post(**sent, headers={"accept": accept}).headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "values", [np.array([1.0, 0, 0]), np.array([[1, 0, 0]], "f2"), np.array([[[1, 0, 0]]], ">i4").copy("F")]
)
def test_arrays_are_samples(values):
    assert ups(Client().post(content=npy(values), **typed("application/x-npy"))) == [1]


def header(text: bytes) -> bytes:
    text = text.ljust(118)
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def shaped(shape: bytes, descr: bytes = b"'<f4'") -> bytes:
    return header(b"{'descr': %s, 'fortran_order': False, 'shape': %s, }" % (descr, shape))


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (npy(np.array([None, 1], object)), "never unpickled"),
        (npy(np.array(["a"])), "expected float32"),
        (npy(np.array([1j, 0, 0])), "expected float32"),
        (npy(np.zeros((2, 4))), "expected one or more samples of 1 x 3"),
        (npy(np.zeros((0, 3))), "contains no samples"),
        (npy(np.zeros(3))[:-1], "is truncated, 151 of 152 bytes"),
        (npy(np.zeros(3)) + b"1", "has 1 more bytes than its header says"),
        (
            header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 4000000000), }"),
            "expected a plain array of numbers",
        ),
        (header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4000000000, 4000000000), }"), "expected a plain array"),
        (
            header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }" % (b"1," * 65)) + bytes(4),
            "expected a plain array",
        ),
        (header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (400, 4), }"), "is truncated, 128 of 6,528 bytes"),
        (
            header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -3), }") + bytes(12),
            "expected a plain array of numbers",
        ),
        (header(b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }"), "expected a plain array"),
        (header(b"{'descr': 'f4,f4', 'fortran_order': False, 'shape': (3,), }"), "expected a plain array"),
        (header(b"{'descr': '(9,)f4', 'fortran_order': False, 'shape': (3,), }"), "expected a plain array"),
        (header(b"__import__('os').getcwd()"), "expected a plain array"),
        (header(b"(" * 110), "expected a plain array"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "is truncated in its header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(5000), "has a header of 4,294,967,307 bytes"),
        (b"PK\x03\x04", "expected a NumPy .npy file"),
        (b"", "is empty, expected a NumPy array"),
    ],
)
def test_what_is_no_array_of_samples_is_refused(body, word):
    assert word in refused(Client().post(content=body, **typed("application/x-npy")))


def test_a_value_of_an_array_that_is_no_number_is_named():
    response = Client().post(content=npy(np.array([[1, 0, 0], [0, NAN, 0]])), **typed("application/x-npy"))
    assert "signals[1][0][1]: got nan" in refused(response)


def file(name, content, served=FAKE, **limits):
    where = "/predict" if name is None else f"/predict?name={name}"
    return Client(served, **limits).post(where, content=content, **typed("application/octet-stream"))


def test_a_file_is_read_by_its_ending_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = []
    served = replace(FAKE, read=lambda path: seen.append(path) or read(path))
    answer = file("my%20beats.CSV", b"id,a,b,c\nx,1,0,0\n", served)
    assert ups(answer) == [1]
    assert [path.name for path in seen] == ["sample.csv"]
    assert list(tmp_path.iterdir()) == []
    assert "sample.csv: is no such file" in (error := refused(file("a.csv", b"nothing", served)))
    assert str(tmp_path) not in error
    assert list(tmp_path.iterdir()) == []


def test_arrays_come_as_files_too():
    assert ups(file("a.npy", npy(np.ones(3)))) == ups(file(None, npy(np.ones(3)))) == [1]


@pytest.mark.parametrize("name", ["..%2F..%2Fetc%2Fpasswd.npy", "%2Fa.npy", "a%00.npy", "a.exe", ".npy", "", "a%5Cb.npy"])
def test_a_name_that_is_none_is_refused(name):
    response = file(name, npy(np.ones(3)))
    assert "expected" in refused(response) or "not a plain file name" in response.json()["error"]
    assert response.json()["field"] == "name"


def zipped(*sizes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, size in enumerate(sizes):
            archive.writestr(f"{number}.txt", bytes(size))
    return stream.getvalue()


def test_what_unpacks_to_too_much_is_refused():
    assert "unpacks to 5,000 bytes, expected at most 4,000" in refused(file("a.zip", zipped(4000, 1000), body=1000), 413)
    assert "contains 9 files, expected at most 8" in refused(file("a.zip", zipped(*[1] * 9), rows=2), 413)
    assert "is not a readable zip file" in refused(file("a.zip", b"PK\x03\x04"))
    assert "is compressed" in refused(file("a.csv", b"\x1f\x8b\x08"))
    assert "is empty" in refused(file("a.csv", b""))


def test_a_reader_that_fails_otherwise_is_the_files_fault():
    def broken(path):
        raise struct_error

    struct_error = ValueError("1\n2")
    assert "cannot be read as .csv (ValueError)" in refused(file("a.csv", b"x", replace(FAKE, read=broken)))
    narrow = replace(FAKE, read=lambda path: InputBatch(["a"], np.zeros((1, 1, 2), np.float32)))
    assert "samples have shape 1 x 2, expected 1 x 3" in refused(file("a.csv", b"x", narrow))


def test_what_is_too_much_is_413():
    client = Client(body=100, rows=2)
    assert "101 bytes, expected at most 100" in refused(client.post(content=bytes(101), **typed("text/csv")), 413)
    most = "signals: more than 2 samples, the limit per request"
    assert refused(client.post(json={"signals": [[0, 0, 0]] * 3}), 413) == most
    assert most == refused(client.post(content=b"0,0,0\n" * 3, **typed("text/csv")), 413)

    async def pieces():
        for _ in range(5):
            yield bytes(30)

    assert "more than 100 bytes" in refused(client.post(content=pieces(), **typed("text/csv")), 413)


def test_other_types_are_415():
    assert "is not one of application/json, text/csv" in refused(Client().post(content=b"a", **typed("image/png")), 415)
    assert "none is not one of" in refused(Client().post(content=b"a"), 415)
    refused(Client(TWO).post(content=b"a", **typed("application/octet-stream")), 415)


def test_other_paths_and_methods_are_answered_in_json():
    assert "Not Found" in refused(Client().get("/nothing"), 404)
    assert Client().get("/predict").headers["allow"] == "POST"
    refused(Client().get("/predict"), 405)
    refused(Client(FRAMES).post("/explain", json={}), 404)


class Gate:
    """A model that waits until it is let through, and keeps what it was asked."""

    def __init__(self):
        self.open, self.entered, self.sizes = threading.Event(), threading.Event(), []

    def __call__(self, signals):
        self.sizes.append(len(signals))
        self.entered.set()
        assert self.open.wait(10)
        return halves(signals)


def test_requests_that_wait_are_put_together_and_get_their_own_rows():
    gate = Gate()

    async def story():
        queue = InferenceQueue(gate, batch=8)
        first = asyncio.create_task(queue.predict(np.full((1, 1, 3), 1.0)))
        await asyncio.to_thread(gate.entered.wait, 10)
        others = [asyncio.create_task(queue.predict(np.full((2, 1, 3), v))) for v in (-1.0, 0.0, 0.5, 1.0, -0.5)]
        await asyncio.sleep(0)
        gate.open.set()
        answers = await asyncio.gather(first, *others)
        queue.close()
        return answers

    answers = asyncio.run(story())
    assert [a[:, 1].tolist() for a in answers] == [[1.0], [0.0] * 2, [0.5] * 2, [0.75] * 2, [1.0] * 2, [0.25] * 2]
    assert gate.sizes == [1, 8, 2]


def test_a_large_request_is_asked_in_pieces():
    gate = Gate()
    gate.open.set()
    answer = Client(replace(FAKE, predict=gate), batch=4).post(json={"signals": [[v / 10, 0, 0] for v in range(10)]})
    assert ups(answer) == pytest.approx([0.5 + v / 20 for v in range(10)])
    assert gate.sizes == [4, 4, 2]


def test_who_is_cancelled_is_passed_over():
    gate = Gate()

    async def story():
        queue = InferenceQueue(gate, batch=8)
        first = asyncio.create_task(queue.predict(np.zeros((1, 1, 3))))
        await asyncio.to_thread(gate.entered.wait, 10)
        late = asyncio.create_task(queue.predict(np.zeros((5, 1, 3))))
        await asyncio.sleep(0)
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        kept = asyncio.create_task(queue.predict(np.zeros((2, 1, 3))))
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(first, kept)
        queue.close()

    asyncio.run(story())
    assert gate.sizes == [1, 2]


def test_a_full_queue_is_503_and_goes_on():
    gate = Gate()
    client = Client(replace(FAKE, predict=gate), queue=2)
    body = json.dumps({"signals": [1, 0, 0]}).encode()

    async def story():
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", **typed("application/json")) as asking:
            waiting = [asyncio.create_task(asking.post("/predict", content=body)) for _ in range(2)]
            await asyncio.to_thread(gate.entered.wait, 10)
            refusal = await asking.post("/predict", content=body)
            gate.open.set()
            return refusal, await asyncio.gather(*waiting), await asking.post("/predict", content=body)

    refusal, answers, after = asyncio.run(story())
    assert "limit of 2 requests" in refused(refusal, 503)
    assert refusal.headers["retry-after"] == "1"
    assert [ups(a) for a in (*answers, after)] == [[1]] * 3


def test_an_answer_that_takes_too_long_is_503_and_the_next_one_comes():
    gate = Gate()
    client = Client(replace(FAKE, predict=gate), seconds=0.05)
    response = client.post(json={"signals": [1, 0, 0]})
    assert "no response within 0.05 s" in refused(response, 503)
    assert response.headers["retry-after"] == "1"
    gate.open.set()
    quick = Client(replace(FAKE, predict=gate))
    assert ups(quick.post(json={"signals": [1, 0, 0]})) == [1]


def test_a_body_that_does_not_come_is_408():
    async def slow():
        yield b"1,"
        await asyncio.Event().wait()

    assert "did not arrive" in refused(Client(seconds=0.05).post(content=slow(), **typed("text/csv")), 408)


def test_a_client_that_goes_away_is_no_failure(caplog):
    async def story():
        said, sent = [{"type": "http.request", "body": b"1,", "more_body": True}, {"type": "http.disconnect"}], []

        async def receive():
            return said.pop(0)

        async def send(message):
            sent.append(message)

        headers = [(b"content-type", b"text/csv")]
        scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": headers}
        await Client().app(scope, receive, send)
        return sent

    assert asyncio.run(story())[0]["status"] == 408
    assert caplog.records == []


def test_an_explanation_ends_with_its_time_and_makes_room():
    gate = Gate()
    client = Client(replace(FAKE, predict=gate, explain=lambda sample, predict: predict(sample[None])[0]), seconds=0.2)
    for _ in range(3):  # more than may be explained at a time
        refused(client.post("/explain", json={"signals": [1, 0, 0]}), 503)
    gate.open.set()


def picky(signals):
    if (signals > 5).any():
        raise RuntimeError("out of\nmemory")
    return halves(signals)


def test_a_model_that_fails_is_500_for_its_own_request_only():
    client = Client(replace(FAKE, predict=picky))
    answers = client.together([("POST", "/predict", {"json": {"signals": [v, 0, 0]}}) for v in (1, 9, -1)])
    assert refused(answers[1], 500) == "the model failed: RuntimeError: out of"
    assert ups(answers[0]) + ups(answers[2]) == [1, 0]


def test_an_answer_that_is_no_number_names_the_sample():
    served = replace(FAKE, predict=lambda signals: np.where(signals[:, 0, :2] > 5, NAN, 0.5))
    assert "signals[1]: too far from" in refused(Client(served).post(json={"signals": [[1, 1, 1], [9, 9, 9]]}))


def test_a_short_answer_is_500():
    assert "returned 1 of 2" in refused(
        Client(replace(FAKE, predict=lambda s: halves(s)[:1])).post(json={"signals": [[0, 0, 0]] * 2}), 500
    )


def test_a_queue_that_is_closed_is_503():
    client = Client()
    routes = {route.path: route for route in client.app.routes}
    assert "/predict" in routes

    async def story():
        async with client.app.router.lifespan_context(client.app):
            pass
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as asking:
            return await asking.post("/predict", json={"signals": [1, 0, 0]})

    assert "shutting down" in refused(asyncio.run(story()), 503)


def test_a_sample_is_explained():
    answer = Client().post("/explain?row=1", json={"signals": [[0, 0, 0], [1, 0.5, 0]], "ids": ["a", "b"]}).json()
    assert answer["id"] == "b"
    assert answer["signal"] == [[1.0, 0.5, 0.0]]
    assert answer["map"] == [[1.0, 0.5, 0.0]]
    assert answer["class"] == "up"
    assert answer["ids"] == ["a", "b"]
    refused(Client(replace(FAKE, explain=None)).post("/explain", json={"signals": [1, 0, 0]}), 404)


def test_a_sample_that_is_not_there_is_404():
    assert "no sample 1; the body has 1 sample" in refused(Client().post("/explain?row=1", json={"signals": [1, 0, 0]}), 404)
    for row in ("-1", "x", "1&row=2", "0&row=0", "99999999999", "1.5", ""):
        assert "row" in refused(Client().post(f"/explain?row={row}", json={"signals": [1, 0, 0]}))


def test_frames_are_answered_by_frames():
    frames = [[[1, 2]], [[3, None]]]
    for body in (frames, [frames], [[frames]]):
        answer = Client(FRAMES).post(json={"frames": body})
        assert answer.json() == {"forecasts": [{"id": "0", "frames": [[[[3, None]], [[6, None]]]]}], "targets": ["t2m"]}
    array = Client(FRAMES).post(content=npy(np.ones((2, 1, 2, 1, 2))), **typed("application/x-npy", "application/x-npy"))
    assert array.headers["content-type"] == "application/x-npy"
    assert np.load(io.BytesIO(array.content)).shape == (2, 1, 2, 1, 2)
    refused(Client(FRAMES).post(content=b"1,2", **typed("text/csv")), 415)


def test_targets_of_other_sizes_keep_their_digits():
    both = np.array([101325.25, 0.00512], np.float32).reshape(1, 2, 1, 1, 1)
    answer = frames_story.forecast_answer(("p", "q"))
    served = replace(FRAMES, predict=lambda frames: np.broadcast_to(both, (len(frames), 2, 2, 1, 2)), answer=answer)
    said = Client(served).post(json={"frames": [[[1, 2]], [[3, 4]]]}).json()["forecasts"][0]["frames"]
    assert [target[1][0][0] for target in said] == pytest.approx([101325.25, 0.00512], rel=1e-7)


def test_samples_and_answers_are_held_within_bounds():
    gate = Gate()
    client = Client(replace(FAKE, predict=gate, shape=(1, 100)), body=2000)
    rows = np.ones((18, 100), np.int8)  # of 7,200 bytes as float32
    array = {"content": npy(rows), **typed("application/x-npy")}

    async def story():
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as asking:
            first = asyncio.create_task(asking.post("/predict", content=npy(rows[:14]), headers=array["headers"]))
            await asyncio.to_thread(gate.entered.wait, 10)
            refusal = await asking.post("/predict", **array)
            gate.open.set()
            return refusal, await first, await asking.post("/predict", content=npy(rows[:14]), headers=array["headers"])

    refusal, *answers = asyncio.run(story())
    assert "fill the memory" in refused(refusal, 503)
    assert [len(ups(answer)) for answer in answers] == [14, 14]
    wide = replace(FRAMES, predict=lambda frames: np.zeros((len(frames), 1, 60, 1, 2)))
    sent = {"json": {"frames": [[[1, 2]], [[3, 4]]]}}
    assert "takes more than 4,000 bytes" in refused(Client(wide, body=1000).post(**sent), 413)
    assert Client(wide, body=1000).post(**sent, headers={"accept": "application/x-npy"}).status_code == 200


def test_frames_that_go_by_the_clock_need_their_time():
    client = Client(replace(FRAMES, timed=True))
    frames = [[[1, 2]], [[3, 4]]]
    assert client.post(json={"frames": frames, "times": [10]}).json()["forecasts"][0]["frames"] == [[[[13, 14]], [[16, 18]]]]
    for body in ({"frames": frames}, {"frames": frames, "times": [1, 2]}, {"frames": frames, "times": ["a"]}):
        response = client.post(json=body)
        refused(response)
        assert response.json()["field"].startswith("times")
    assert "'times' is not one of" in refused(Client(FRAMES).post(json={"frames": frames, "times": [1]}))


def test_facts_are_told():
    client = Client(replace(FAKE, axis=np.array([1.0, 2.0, 4.0]), axis_title="time (s)"), rows=7)
    assert client.get("/health").json()["status"] == "ok"
    model = client.get("/model").json()
    assert model["classes"] == ["down", "up"]
    assert model["limits"]["rows"] == 7
    assert client.get("/axis").json() == {"title": "time (s)", "values": [1, 2, 4]}
    assert Client().get("/axis").json()["values"] == [0, 1, 2]
    assert ups(client.post(json=client.get("/example").json())) == [0.75]


def test_no_answer_may_be_sniffed_or_framed():
    for path in ("/", "/health", "/nothing", "/plotly.js"):
        headers = Client().get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]


def test_the_page_escapes_what_it_is_told_and_loads_nothing_from_elsewhere():
    page = Client(replace(FAKE, title="<script>alert(1)</script>")).get("/")
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;" in page.text
    assert "https://" not in page.text
    assert "http://" not in page.text.replace("http://www.w3.org/", "")
    nonce = page.headers["content-security-policy"].partition("'nonce-")[2].partition("'")[0]
    assert f'nonce="{nonce}"' in page.text
    assert nonce not in Client().get("/").text


def test_plotly_comes_out_of_the_package():
    script = Client().get("/plotly.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert "plotly" in script.text[:200].lower()


def test_the_document_describes_all_that_may_be_sent_and_answered():
    document = Client().get("/openapi.json").json()
    predict = document["paths"]["/predict"]["post"]
    assert set(predict["requestBody"]["content"]) == {
        "application/json",
        "text/csv",
        "application/x-npy",
        "application/octet-stream",
    }
    assert set(predict["responses"]) == {"200", "408", "413", "415", "422", "500", "503"}
    assert "Retry-After" in predict["responses"]["503"]["headers"]
    example = predict["requestBody"]["content"]["application/json"]["examples"]["one"]["value"]
    assert ups(Client().post(json=example)) == [0.75]
    assert ups(
        Client().post(content=predict["requestBody"]["content"]["text/csv"]["examples"]["one"]["value"], **typed("text/csv"))
    ) == [0.75]
    assert "/explain" not in Client(FRAMES).get("/openapi.json").json()["paths"]
    assert all(operation["summary"] for path in document["paths"].values() for operation in path.values())


def test_a_port_in_use_is_said_in_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} on 127.0.0.1: in use by another program; choose another with --port"):
            run_server(None, "127.0.0.1", port, log=print)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("127.0.0.1", -1), ("no such host", 0)])
def test_a_place_that_is_none_is_the_users_mistake(host, port):
    with pytest.raises(UserError, match="expected"):
        run_server(None, host, port, log=print)


def test_the_server_says_where_it_listens_and_ends_in_order(monkeypatch):
    said, ran = [], []

    class Server:
        def __init__(self, config):
            self.config = config

        def run(self, sockets):
            ran.append(sockets[0].getsockname()[1])
            raise KeyboardInterrupt

    monkeypatch.setattr(app, "uvicorn", type("U", (), {"Server": Server, "Config": lambda app, **more: None}))
    run_server(None, "127.0.0.1", 0, log=said.append)
    assert said == [f"listening on http://127.0.0.1:{ran[0]} (Ctrl-C stops the server)", "server stopped"]


def quick(name, folder, **more):
    recipe = Recipe.load(name).quickly().with_(more)
    return api.train(recipe, out=folder, log=lambda line: None)


@pytest.fixture(scope="module")
def beats(tmp_path_factory):
    """A run of simulated beats, hardly trained."""
    small = {"data.count": 120, "stage.*.epochs": 1, "output.baseline": ""}
    return quick("heartbeat", tmp_path_factory.mktemp("beats") / "run", **small)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """A run of simulated frames, hardly trained."""
    small = {"windows": {"past": 3, "ahead": 2}, "member.*.width": 4, "member.*.hidden": 4, "stage.*.epochs": 1}
    return quick(
        "frames", tmp_path_factory.mktemp("maps") / "run", **{**small, "output.pictures": False, "data.shape": [1, 8, 8]}
    )


@pytest.fixture
def no_onnx(monkeypatch):
    """As where a member cannot be exported."""

    def cannot(*words, **more):
        raise UserError("member.0: cannot be written")

    monkeypatch.setattr(story, "export_run", cannot)
    monkeypatch.setattr(frames_story, "export_forecaster", cannot)


def beat_rows(run, count=5):
    return read_like(recipe_of(run), str(run.folder / "simulated"), run.metadata).take(slice(count))


def odds(response):
    assert response.status_code == 200, response.text
    return np.array([list(row["probabilities"].values()) for row in response.json()["predictions"]])


def test_a_run_answers_as_predict_does(beats, no_onnx):
    said = []
    served = story.served_run(beats, log=said.append)
    assert said[-1] == "using torch instead of ONNX Runtime: member.0: cannot be written"
    assert served.metadata["engine"].startswith("torch")
    client, rows = Client(served), beat_rows(beats)
    expected = predictions_for(beats, rows)
    text = "\n".join(f'{i},"{",".join(map(str, s[0]))}"' for i, s in zip(rows.ids, rows.signals.tolist(), strict=True))
    own = f"id,heartbeat_signals\n{text}\n".encode()
    for answer in (
        client.post(json={"signals": rows.signals.tolist()}),
        client.post(content=npy(rows.signals), **typed("application/x-npy")),
        client.post(content=own, **typed("text/csv")),
        client.post("/predict?name=testA.csv", content=own, **typed("application/octet-stream")),
    ):
        assert odds(answer) == pytest.approx(expected, abs=1e-6)
    decided = [list(row["decided"].values()) for row in answer.json()["predictions"]]
    assert np.array_equal(decided, expected > 0.5)
    assert [row["id"] for row in answer.json()["predictions"]] == rows.ids.tolist()


def test_a_run_tells_and_explains(beats, no_onnx):
    client = Client(story.served_run(beats, log=lambda line: None))
    model = client.get("/model").json()
    assert model["score"]["metric"] == "l1"
    assert model["score"]["interval"][0] <= model["score"]["value"] <= model["score"]["interval"][1]
    assert [b["name"] for b in model["baselines"]] == ["majority"]
    assert model["shape"] == [1, 205]
    assert "simulator" in model["recipe_toml"]
    explained = client.post("/explain", json=client.get("/example").json()).json()
    assert np.shape(explained["signal"]) == np.shape(explained["map"]) == (1, 205)
    assert len(set(explained["map"][0])) <= 40


def test_a_run_refuses_files_that_are_not_its_own(beats, no_onnx):
    client = Client(story.served_run(beats, log=lambda line: None))
    short = client.post(content=b'id,heartbeat_signals\na,"1,2,3"\n', **typed("text/csv"))
    assert "samples have 1 channel of 3 values; the run was trained on 1 of 205" in refused(short)
    assert "sample.ts" in refused(client.post("/predict?name=a.ts", content=b"\x00", **typed("application/octet-stream")))


@pytest.mark.parametrize("faster", ["ONNX Runtime", "torch"])
def test_the_faster_engine_answers(beats, monkeypatch, faster):
    monkeypatch.setattr(
        story, "_timed", lambda predict, batch: float(isinstance(predict.__self__, Members) != (faster == "torch"))
    )
    served = story.served_run(beats)
    rows = beat_rows(beats)
    assert served.metadata["engine"] == faster
    assert odds(Client(served).post(json={"signals": rows.signals.tolist()})) == pytest.approx(
        predictions_for(beats, rows), abs=1e-5
    )


def test_engines_are_timed_on_batches_of_the_sizes_that_a_queue_makes(monkeypatch):
    asked: list[int] = []
    rates = {"a": 1e-3, "b": 2e-3}

    def timed(predict, batch):
        asked.append(len(batch))
        return rates[predict()] * len(batch)

    monkeypatch.setattr(story, "_timed", timed)
    engines = {"a": lambda: "a", "b": lambda: "b"}
    assert story._faster(engines, np.zeros((1, 5), np.float32)) == (engines["a"], "a")
    assert sorted(set(asked)) == [1, 16, 64]
    asked.clear()
    rates["a"] = 0.02  # a batch of 64 would take too long at each start
    assert story._faster(engines, np.zeros((1, 5), np.float32))[1] == "b"
    assert sorted(set(asked)) == [1, 16]


def test_frames_are_forecast_as_predict_does(maps, no_onnx, tmp_path):
    served = frames_story.served_forecaster(maps, log=lambda line: None)
    path = next((maps.folder / "simulated").glob("*.npz"))
    expected = api.predict(maps, str(path), out=str(tmp_path / "later.npz")).frames
    headers = typed("application/octet-stream", "application/x-npy")
    answer = Client(served).post("/predict?name=f.npz", content=path.read_bytes(), **headers)
    assert np.load(io.BytesIO(answer.content)) == pytest.approx(expected, abs=1e-6)
    assert Client(served).get("/model").json()["past"] == 3


def record(header: str, **files: bytes) -> zipfile.ZipFile:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("../x/100.hea", header)
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return zipfile.ZipFile(stream)


def test_a_record_is_kept_under_names_of_our_own(tmp_path):
    story.keep_record(record("100 1 360 4\n# said\n100.dat 212 200\n", **{"100_dat": b"abc", "100_atr": b"d"}), tmp_path)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == {
        "record.hea": b"record 1 360 4\nrecord0.dat 212 200\n",
        "record0.dat": b"abc",
        "record.atr": b"d",
    }


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ("100 1 360 4\n/etc/passwd 212 200\n", "names '/etc/passwd', which is not in the zip"),
        ("100/2 1 360 4\n", "single-segment"),
        ("100 1 0.000001 4\n", "20 to 20000"),
        ("100 1\n", "20 to 20000"),
        (
            "100 1 360 99999999999\n100.dat 212 200\n",
            "gives '99999999999' values per signal, but the signal files have 3 bytes",
        ),
        ("", "is empty"),
    ],
)
def test_a_record_that_names_other_files_is_refused(header, word, tmp_path):
    with pytest.raises(UserError, match=word):
        story.keep_record(record(header, **{"100_dat": b"abc"}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_grid_that_names_other_files_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file["t"] = np.zeros((2, 3))
    frames_story.check_grid_file(tmp_path / "a.nc")
    with pytest.raises(UserError, match="decompresses to 48 bytes, expected at most 40"):
        frames_story.check_grid_file(tmp_path / "a.nc", most=40)
    with h5py.File(tmp_path / "b.nc", "w") as file:
        file["t"] = h5py.ExternalLink("/etc/passwd", "/t")
    with pytest.raises(UserError, match="is a link, expected the values themselves"):
        frames_story.check_grid_file(tmp_path / "b.nc")
    with h5py.File(tmp_path / "c.nc", "w") as file:
        file.create_dataset("t", (3,), "u1", external=[("/etc/passwd", 0, 3)])
    with pytest.raises(UserError, match="is stored in another file"):
        frames_story.check_grid_file(tmp_path / "c.nc")


def test_the_file_is_written_at_the_first_start_and_when_the_run_is_judged_anew(beats, tmp_path, monkeypatch):
    copy = RunFolder(shutil.copytree(beats.folder, tmp_path / "run", ignore=shutil.ignore_patterns("served.onnx")))
    said: list[str] = []
    for _ in range(2):
        story.served_run(copy, log=said.append)
    assert len(said) == 1  # that it is being written, once
    assert "served.onnx: exporting for ONNX Runtime" in said[0]
    scores = json.loads((copy.folder / "scores.json").read_text())
    (copy.folder / "scores.json").write_text(json.dumps({**scores, "judged": "otherwise"}))
    story.served_run(copy, log=said.append)
    assert len(said) == 2
    (copy.folder / "served.onnx").write_bytes(b"no model")
    story.served_run(copy, log=said.append)
    assert len(said) == 3
    monkeypatch.setattr("wavefold.core.version.__version__", "0.1.99")  # a file of another version may lack what this one reads
    story.served_run(copy, log=said.append)
    assert len(said) == 4


def test_a_packed_csv_is_taken_and_bounded(beats, tmp_path):
    client = Client(story.served_run(beats))
    packed = gzip.compress((beats.folder / "simulated" / "train.csv").read_bytes())
    answer = client.post(path="/predict?name=train.csv.gz", content=packed, **typed("application/octet-stream"))
    assert len(odds(answer)) == len(read_like(recipe_of(beats), str(beats.folder / "simulated"), beats.metadata))
    cut = client.post(path="/predict?name=train.csv.gz", content=packed[:-9], **typed("application/octet-stream"))
    assert "is not a complete gzip file" in refused(cut)
    bomb = Client(story.served_run(beats), body=1000)
    sent = gzip.compress(bytes(100_000))
    assert "unpacks to more than 4,000 bytes" in refused(
        bomb.post(path="/predict?name=x.csv.gz", content=sent, **typed("application/octet-stream")), 413
    )


def test_rows_of_numbers_without_a_header_are_answered_as_predict_does(beats):
    rows = beat_rows(beats)
    text = "".join(",".join(map(repr, sample[0].tolist())) + "\n" for sample in rows.signals)
    answer = Client(story.served_run(beats)).post(content=text.encode(), **typed("text/csv"))
    np.testing.assert_allclose(odds(answer), predictions_for(beats, rows), atol=2e-5)


def test_what_json_has_no_word_for_is_named():
    for body, word in (
        (b'{"signals": [NaN, 1, 2]}', "signals[0]: input should be a finite"),
        (b'{"signals": [1, 2', "line 1 column 17"),
    ):
        assert word in refused(Client().post(content=body, **typed("application/json")))
