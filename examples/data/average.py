# SPDX-License-Identifier: Apache-2.0
"""Averages of a folder of measurements, a file at a time. What is done is kept in outputs/averages.json, so
that an attempt after a failure goes on where the one before it was."""

import argparse
import csv
import json
import os
import pathlib
import sys

DONE = pathlib.Path("outputs/averages.json")


def average(path, limits):
    with open(path, newline="") as f:
        values = [float(row["celsius"]) for row in csv.DictReader(f)]
    right = [v for v in values if limits["low"] <= v <= limits["high"]]
    return {
        "mean": sum(right) / len(right),
        "used": len(right),
        "dropped": len(values) - len(right),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--limits", type=pathlib.Path, required=True)
    parser.add_argument("--fail-once", action="store_true", help="give up after the first file")
    options = parser.parse_args()
    attempt = int(os.environ["STOKER_ATTEMPT"])
    limits = json.loads(options.limits.read_text())
    done = json.loads(DONE.read_text()) if DONE.exists() else {}
    print(f"attempt {attempt}: {len(done)} files are done")
    DONE.parent.mkdir(exist_ok=True)
    for path in sorted(options.data.glob("*.csv")):
        if path.stem in done:
            continue
        done[path.stem] = average(path, limits)
        print(f"{path.stem}: {done[path.stem]}", flush=True)
        DONE.write_text(json.dumps(done, indent=2))
        if options.fail_once and attempt == 1:
            sys.exit("giving up, as I was told to")
    print(f"all {len(done)} files are done")


if __name__ == "__main__":
    main()
