# SPDX-License-Identifier: Apache-2.0
"""Learns to read handwritten digits and says how well: scikit-learn's 1,797 scans and an SVM where the
image has scikit-learn; else, saying so, digits that this script draws itself and a softmax regression in
plain Python."""

import argparse
import math
import os
import pickle
import random
import sys
import time


def train_with_sklearn(options):
    import sklearn
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.svm import SVC

    digits = load_digits()
    print(f"scikit-learn {sklearn.__version__}, {len(digits.data)} scanned digits", flush=True)
    x_train, x_test, y_train, y_test = train_test_split(
        digits.data, digits.target, test_size=0.25, random_state=options.seed
    )
    model = SVC(C=options.c, gamma=0.001).fit(x_train, y_train)
    return model, model.score(x_test, y_test)


# Segments of a seven-segment display: three horizontal from the top, four vertical.
SEGMENTS = ["abcefg", "cf", "acdeg", "acdfg", "bcdf", "abdfg", "abdefg", "acf", "abcdefg", "abcdfg"]
STROKES = {
    "a": [(0, x) for x in range(1, 6)],
    "d": [(3, x) for x in range(1, 6)],
    "g": [(6, x) for x in range(1, 6)],
    "b": [(y, 1) for y in range(0, 4)],
    "c": [(y, 5) for y in range(0, 4)],
    "e": [(y, 1) for y in range(3, 7)],
    "f": [(y, 5) for y in range(3, 7)],
}


def draw(digit, chance):
    """An 8x8 picture of a digit, moved by up to a pixel and with noise."""
    dy, dx = chance.randint(0, 1), chance.randint(0, 2)
    picture = [abs(chance.gauss(0, 0.35)) for _ in range(64)]
    for segment in SEGMENTS[digit]:
        for y, x in STROKES[segment]:
            picture[(y + dy) * 8 + x + dx] += chance.uniform(0.5, 1)
    return picture


def scores(weights, picture):
    return [w[-1] + sum(a * b for a, b in zip(w, picture, strict=False)) for w in weights]


def train_in_plain_python(options):
    print(
        "no scikit-learn in this image: drawn digits, softmax regression in plain Python",
        flush=True,
    )
    chance = random.Random(options.seed)
    data = [(draw(i % 10, chance), i % 10) for i in range(2000)]
    train, test = data[:1500], data[1500:]
    weights = [[0.0] * 65 for _ in range(10)]
    for epoch in range(8):
        chance.shuffle(train)
        for picture, digit in train:
            found = scores(weights, picture)
            exponents = [math.exp(s - max(found)) for s in found]
            total = sum(exponents)
            for k, w in enumerate(weights):
                step = 0.02 * options.c * ((k == digit) - exponents[k] / total)
                for i, pixel in enumerate(picture):
                    w[i] += step * pixel
                w[64] += step
        print(f"epoch {epoch + 1} of 8", flush=True)
    right = sum(max(range(10), key=scores(weights, p).__getitem__) == d for p, d in test)
    return weights, right / len(test)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--c", type=float, default=1.0, help="how closely to follow the data")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]} in {os.getcwd()}, arguments {sys.argv[1:]}", flush=True)
    start = time.monotonic()
    try:
        model, accuracy = train_with_sklearn(options)
    except ImportError:
        model, accuracy = train_in_plain_python(options)
    os.makedirs("outputs", exist_ok=True)
    with open("outputs/model.pkl", "wb") as f:
        pickle.dump(model, f)
    print(f"trained in {time.monotonic() - start:.1f} s")
    print(f"accuracy: {accuracy:.4f}")


if __name__ == "__main__":
    main()
