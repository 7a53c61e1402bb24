"""Time and memory of converting CaloChallenge data set 2: target 10,000 showers in under 10 s and 500 MB.

    python benchmarks/convert.py [--showers 10000] [--occupancy 0.25] [--repeat 3]

The file is synthetic, in the layout of the challenge (gzip, float32, chunks as h5py chooses): energies
uniform in the logarithm from 1 GeV to 1 TeV, a share of the voxels lit that grows with the energy and is
`occupancy` on average, random deposits in the layers
where showers have them. Each conversion is a fresh process; its time is the wall clock
of the whole command, start of Python included, its memory the largest resident set of that process. On a machine
that is busy with other work, the processor time is what the same command takes on a free core.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

VOXELS = 6480


def make(path: Path, n: int, occupancy: float) -> None:
    """Write a synthetic file of n showers."""
    rng = np.random.default_rng(1)
    energy = 1e3 * 1e3 ** rng.random(n)
    depth = 0.8 * (np.arange(45) + 0.5)  # of the layers in X0
    lit = occupancy * 2 * np.log(energy / 1e3) / np.log(1e3)  # of mean `occupancy`
    with h5py.File(path, "w") as file:
        file.create_dataset("incident_energies", data=energy[:, None].astype(np.float32), compression="gzip")
        showers = file.create_dataset("showers", shape=(n, VOXELS), dtype=np.float32, compression="gzip")
        for start in range(0, n, 1000):
            stop = min(start + 1000, n)
            deposits = rng.exponential(size=(stop - start, VOXELS)) ** 3
            deposits[rng.random(deposits.shape) > lit[start:stop, None]] = 0
            # As deep as showers are, or the units would be doubted: a gamma distribution about 8 X0 at 10 GeV.
            shape = (8 + np.log(energy[start:stop, None] / 1e4)) / 2
            deposits *= np.repeat(depth ** (shape - 1) * np.exp(-depth / 2), VOXELS // len(depth), axis=1)
            scale = 0.85 * energy[start:stop] / np.maximum(deposits.sum(axis=1), 1e-9)
            showers[start:stop] = deposits * scale[:, None]


def measure(command: list[str]) -> tuple[float, float, float]:
    """Wall clock seconds, processor seconds and MB of one command."""
    start = time.perf_counter()
    child = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--showers", type=int, default=10_000)
    parser.add_argument("--occupancy", type=float, default=0.25)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "dataset_2.hdf5", Path(folder) / "showers.h5"
        make(source, args.showers, args.occupancy)
        command = [sys.executable, "-c", "import sys; from anycalo.cli import main; sys.exit(main())"]
        command += ["convert", str(source), str(target), "--from", "calochallenge-2", "--overwrite"]
        runs = [measure(command) for _ in range(args.repeat)]
        seconds, processor, megabytes = (statistics.median(values) for values in zip(*runs, strict=True))
        result = {
            "showers": args.showers,
            "mean points a shower": args.occupancy * VOXELS,
            "seconds (median)": round(seconds, 2),
            "seconds (all)": [round(run[0], 2) for run in runs],
            "processor seconds (median)": round(processor, 2),
            "MB (median)": round(megabytes),
            "load average": [round(load, 1) for load in os.getloadavg()],
            "cores": os.cpu_count(),
            "input MB": round(source.stat().st_size / 1e6),
            "output MB": round(target.stat().st_size / 1e6),
        }
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
