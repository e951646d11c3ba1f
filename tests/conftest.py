"""What tests share: real data where it is, a cache of their own, and small files in the contest's layout."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wavefold.data import SIMULATORS, WRITERS

HERE = Path(__file__).resolve().parents[1]


LONGEST = [
    f"test_{name}.py"
    for name in (
        "use",
        "resume",
        "small_memory",
        "cluster",
        "free_units",
        "processes",
        "readme",
        "new_tasks",
        "golden",
        "pipeline",
    )
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that no worker is left with one of them at the end."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture
def real() -> Callable[[str], Path]:
    """A folder or file of the real data, by its path below the data's root; skips where it is absent."""
    root = Path(os.environ.get("WAVEFOLD_DATA") or HERE.parent / "shared" / "data")

    def find(name: str) -> Path:
        if not (root / name).exists():
            pytest.skip(f"real data is not here: {root / name} (set WAVEFOLD_DATA to where it is)")
        return root / name

    return find


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless browser; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's cache."""
    os.environ["WAVEFOLD_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def contest_csv_of() -> Callable[..., Path]:
    """A maker of simulated contest files: (folder, count, length=205) to its train.csv."""
    return lambda folder, count, length=205: WRITERS["contest"](SIMULATORS["ecg"](count, 1, shape=(1, length)), folder)


@pytest.fixture(scope="session")
def contest_csv(tmp_path_factory: pytest.TempPathFactory, contest_csv_of: Callable[..., Path]) -> Path:
    """A simulated contest file of 300 beats."""
    return contest_csv_of(tmp_path_factory.mktemp("contest"), 300)
