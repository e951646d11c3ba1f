"""Large data, step by step: rows a second and peak memory of packing, training and prediction, beside the disk and one core.

    python benchmarks/scale.py [HEARTBEATS] [SPECTRA] [FOLDER]

Heartbeats (1,000,000 by default) are simulated in blocks, each with a seed of its own, so that any number needs the memory of
one block; spectra (500,000) are files of 2,600 values at five digits with an index. Every step is a process of its own, whose
peak memory the system counts, mapped pages of files included. Rows are added to benchmarks/scale.csv. FOLDER needs about 5 kB
a heartbeat and 30 kB a spectrum; it is a temporary one by default.
"""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

HEAD = ["date", "step", "rows", "seconds", "cpu_seconds", "rows_per_s", "rows_per_cpu_s", "peak_mb", "machine", "command"]
BLOCK = 20_000
LENGTH = 2600
ONCE = ['member=[{model="net1"}]', "stage.*.epochs=1", "output.baseline=", "split.fraction=0.02", "split.validation=0.01"]

BEATS = f"""
import sys
from wavefold.data.decimals import joined
from wavefold.domains.heartbeat.simulate import simulate_beats
count = int(sys.argv[1])
with open(sys.argv[2], "wb") as stream:
    stream.write(b"id,heartbeat_signals,label\\n")
    for start in range(0, count, {BLOCK}):
        beats = simulate_beats(min({BLOCK}, count - start), seed=start)
        rows = zip(joined(beats.signals[:, 0]), beats.labels.tolist(), strict=True)
        stream.write(b"".join(b'%d,"%s",%d.0\\n' % (start + i, values, label) for i, (values, label) in enumerate(rows)))
"""
SPECTRA = f"""
import sys
from pathlib import Path
import numpy as np
count, folder = int(sys.argv[1]), Path(sys.argv[2])
rng = np.random.default_rng(0)
texts = [",".join(f"{{v:.5g}}" for v in row) for row in rng.lognormal(5, 1, (500, {LENGTH})).tolist()]
(folder / "train_data").mkdir(parents=True)
for i in range(count):
    (folder / "train_data" / f"{{i}}.txt").write_text(texts[i % 500])
(folder / "train_index.csv").write_text("id,type\\n" + "".join(f"{{i}},{{'ABC'[i % 3]}}\\n" for i in range(count)))
"""
DISK = """
import os, sys
piece = os.urandom(1 << 20)
with open(sys.argv[1], "wb") as stream:
    for _ in range(int(sys.argv[2])):
        stream.write(piece)
    stream.flush()
    os.fsync(stream.fileno())
"""


def step(name: str, rows: int, command: Sequence[str], done: Path | None = None) -> None:
    """Run one step, unless what it makes is there, and note its rate and peak memory."""
    if done is not None and done.exists():
        return
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    if status:
        sys.exit(f"{name}: failed")
    line = [date.today(), name, rows, f"{seconds:.1f}", f"{used.ru_utime + used.ru_stime:.1f}"]
    line += [f"{rows / seconds:.0f}", f"{rows / (used.ru_utime + used.ru_stime):.0f}", f"{used.ru_maxrss / 1024:.0f}"]
    path = Path(__file__).with_name("scale.csv")
    fresh = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if fresh:
            writer.writerow(HEAD)
        about = f"{platform.machine()}, {os.cpu_count()} cores, nice {os.nice(0)}"
        writer.writerow([*line, about, f"python benchmarks/scale.py {' '.join(sys.argv[1:3])}".strip()])
    print(*line, sep="\t", flush=True)


def main(beats: int, spectra: int, folder: Path) -> None:
    """Run the steps."""
    wavefold = str(Path(sys.executable).with_name("wavefold"))
    table, packed, run, head = folder / "beats.csv", folder / "beats", folder / "run", folder / "head.csv"
    step("write and flush 256 MB", 256, [sys.executable, "-c", DISK, str(folder / "disk"), "256"])
    step("simulate heartbeats", beats, [sys.executable, "-c", BEATS, str(beats), str(table)], table)
    step("read the CSV's bytes", beats, ["cat", str(table)])
    step("pack heartbeats", beats, [wavefold, "pack", str(table), str(packed), "--workers", "1"], packed / "pack.json")
    train = [wavefold, "train", "heartbeat", *(word for change in ONCE for word in ("--set", change))]
    step("train one epoch, packed", beats, [*train, "--data", str(packed), "--out", str(run)], run / "scores.json")
    with table.open("rb") as whole, head.open("wb") as part:
        part.writelines(line for _, line in zip(range(BLOCK + 1), whole, strict=False))
    few = folder / "few"
    step("train one epoch, in memory", BLOCK, [*train, "--data", str(head), "--out", str(few)], few / "scores.json")
    predict = [wavefold, "predict", str(run)]
    step("predict the CSV", beats, [*predict, str(table), "--out", str(folder / "csv.csv")])
    step("predict the pack", beats, [*predict, str(packed), "--out", str(folder / "pack.csv")])
    if (folder / "csv.csv").read_bytes() != (folder / "pack.csv").read_bytes():
        sys.exit("predictions of the CSV and of the pack differ")
    texts, stars = folder / "spectra", folder / "stars"
    step("write spectra", spectra, [sys.executable, "-c", SPECTRA, str(spectra), str(texts)], texts / "train_index.csv")
    step("pack spectra", spectra, [wavefold, "pack", str(texts), str(stars), "--workers", "1"], stars / "pack.json")


if __name__ == "__main__":
    words = [*sys.argv[1:], *("1000000", "500000", "")[len(sys.argv) - 1 :]]
    with tempfile.TemporaryDirectory() as made:
        main(int(words[0]), int(words[1]), Path(words[2] or made))
