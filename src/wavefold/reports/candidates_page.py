"""A page to look through candidates: sorted and filtered, each with its picture, and with a person's verdict.

Verdicts stay in the browser until they are saved as a CSV of labels, which the windows beside the candidates are trained with.
The page needs no network.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from wavefold.core.errors import plural
from wavefold.core.files import write_text
from wavefold.domains.base import Candidate
from wavefold.reports.page import TEMPLATES, script_hashes, script_json, template

_UNITS = {"_mhz": "MHz", "_hz_s": "Hz/s", "_hz": "Hz"}
_ASIDE = re.compile(r"id|.*_scan\d|.*_channel")  # columns that are shown beside the picture only


def write_candidates_page(
    path: str | Path, rows: Sequence[Candidate], pictures: Mapping[str, bytes], *, out: str, labels: Path
) -> None:
    """Write the page atomically. pictures: JPEGs by the candidate's id. out: the file of the candidates.

    labels: where the CSV of verdicts belongs, for training.
    """
    table = [asdict(row) for row in rows]  # type: ignore[call-overload]  # a domain's candidates are dataclasses
    names = list(table[0]) if table else []
    varied = [name for name in names if len({_plain(row[name]) for row in table}) > 1 or len(table) == 1]
    stem = Path(out).stem
    data = {
        "key": hashlib.sha256(json.dumps([row.id for row in rows]).encode()).hexdigest()[:16],
        "columns": [_column(name, shown=name in varied and not _ASIDE.fullmatch(name)) for name in names],
        "rows": [[_plain(value) for value in row.values()] for row in table],
        "labels": [dict(row.label_row) for row in rows],
        "pictures": {name: base64.b64encode(picture).decode() for name, picture in pictures.items()},
        "file": labels.name,
    }
    scripts = [template("candidates.js")]
    text = TEMPLATES.get_template("candidates.html").render(
        title=f"Candidates of {stem}",
        lead=f"{plural(len(rows), 'candidate')}, {len(pictures)} with a picture, the best first.",
        labels=str(labels),
        data=script_json(data),
        scripts=scripts,
        hashes=script_hashes(scripts),
        style=template("page.css") + template("candidates.css"),
        empty=not rows,
    )
    write_text(Path(path), text)


def _column(name: str, *, shown: bool) -> dict[str, object]:
    unit = next((end for end in _UNITS if name.endswith(end)), "")
    title = name.removesuffix(unit).replace("_", " ").replace("snr", "S/N")
    return {"name": name, "title": f"{title}, {_UNITS[unit]}" if unit else title, "shown": shown}


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
