# SPDX-License-Identifier: Apache-2.0
"""Fits a polynomial to a noisy curve, with numpy from conda, and prints a table, with tabulate from pip."""

import argparse
import os
import sys

import numpy
from tabulate import tabulate


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--degree", type=int, default=2)
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, numpy {numpy.__version__}, in {sys.prefix}")
    x = numpy.linspace(-1, 1, 200)
    y = numpy.sin(3 * x) + numpy.random.default_rng(7).normal(0, 0.05, x.size)
    fitted = numpy.polynomial.Polynomial.fit(x, y, options.degree)
    rows = list(enumerate(fitted.convert().coef))
    print(tabulate(rows, headers=["power", "coefficient"]))
    os.makedirs("outputs", exist_ok=True)
    numpy.save("outputs/coefficients.npy", fitted.convert().coef)


if __name__ == "__main__":
    main()
