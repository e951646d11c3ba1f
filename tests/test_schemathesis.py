"""Schemathesis sends what the OpenAPI document allows, and what it does not: every answer is as the document says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.generation import GenerationMode

from test_serve import FAKE, FRAMES, npy
from wavefold.serving.app import Limits, new_app

EXAMPLES = 10  # of each operation
NUMBERS = st.floats(-(2.0**99), 2.0**99, width=32)
ARRAYS = st.lists(NUMBERS, min_size=3, max_size=3).map(lambda v: npy(np.array(v, np.float32).reshape(1, 1, 3)))
ROWS = st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=3)
LINES = ROWS.map(lambda rows: "\n".join(",".join(map(repr, row)) for row in rows).encode())

schemathesis.openapi.media_type("application/x-npy", ARRAYS)
schemathesis.openapi.media_type("application/octet-stream", ARRAYS)
schemathesis.openapi.media_type("text/csv", LINES)


def samples_in(nested: Any, shape: tuple[int, ...]) -> int:
    """How many samples of a shape whose first axis is 1 nested lists hold; the least nested are one sample."""
    depth, part = 0, nested
    while isinstance(part, list):
        depth, part = depth + 1, part[0]
    return 1 if depth < len(shape) else len(nested)


def document_of(served: Any) -> Any:
    checks = {"negative_data_rejection": {"expected-statuses": ["400", "404", "405", "413", "415", "422"]}}  # 413: too many
    config = SchemathesisConfig.from_dict({"generation": {"deterministic": True}, "checks": checks})
    schema = schemathesis.openapi.from_asgi("/openapi.json", new_app(served, Limits(rows=3)), config=config)

    @schema.hook
    def map_case(context: Any, case: Any) -> Any:
        """As many ids as samples where a request is to be good: no schema can ask for that."""
        if case.meta.generation.mode is GenerationMode.POSITIVE and isinstance(case.body, dict) and "ids" in case.body:
            count = samples_in(case.body.get("signals", case.body.get("frames")), served.shape)
            case.body["ids"] = (case.body["ids"] * count)[:count]
        return case

    return schema


PHASES = (Phase.explicit, Phase.generate)
BOUNDS = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
CLASSES = document_of(replace(FAKE, suffixes=(".npy",)))
FORECASTS = document_of(replace(FRAMES, shape=(1, 1, 1, 3), example=np.zeros((1, 1, 1, 3), np.float32)))


@CLASSES.parametrize()
@BOUNDS
def test_classes(case):
    case.call_and_validate()


@FORECASTS.parametrize()
@BOUNDS
def test_frames(case):
    case.call_and_validate()
