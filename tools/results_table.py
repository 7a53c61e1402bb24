"""Print the observables of a `results.json` as a Markdown table, for `docs/results.md`.

Usage: `python tools/results_table.py report/results.json`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(path: str) -> None:
    """Worst ratio first, and the headline."""
    results = json.loads(Path(path).read_text("utf-8"))
    print("| observable | W1 | floor | W1 / floor | 95 % interval | JSD | floor | separation | floor |")
    print("|---|---|---|---|---|---|---|---|---|")
    for entry in sorted(results["observables"].values(), key=lambda e: -e["w1_ratio"]):
        low, high = entry["w1_ratio_ci"]
        distances = (entry["jsd"], entry["jsd_floor"], entry["separation"], entry["separation_floor"])
        rest = " | ".join(f"{value:.2g}" for value in distances)
        print(
            f"| {entry['title']} | {entry['w1']:.3g} | {entry['w1_floor']:.3g} | {entry['w1_ratio']:.2f}"
            f" | {low:.2f} to {high:.2f} | {rest} |"
        )
    summary = results["summary"]
    low, high = summary["ratio_to_floor_ci"]
    print(f"\n`summary.ratio_to_floor`: {summary['ratio_to_floor']:.2f} (95 % interval {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main(sys.argv[1])
