"""The contents of run.json that every task shares."""

from __future__ import annotations

import platform
import sys
from typing import Any

import numpy as np
import torch

from wavefold.core import version
from wavefold.core.device import best_device
from wavefold.core.records import Identity, RunInfo
from wavefold.core.run import RUN_FORMAT
from wavefold.recipe import Recipe


def new_run_info(recipe: Recipe, data_digest: str, **known: Any) -> RunInfo:
    """The contents of run.json: identity, data, command and environment."""
    return RunInfo(
        recipe=recipe.name,
        identity=Identity(recipe=recipe.digest(), data=data_digest, format=RUN_FORMAT),
        **known,
        command=tuple(sys.argv),
        wavefold=version.__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        machine=f"{platform.machine()}, {torch.get_num_threads()} threads, {best_device().type}",
    )
