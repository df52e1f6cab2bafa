"""How many drawn pictures does the classifier read as the class that was asked for?

    python models/train/judge.py digits grid.npy                  (classes from grid.labels.npy beside it)
    python models/train/judge.py digits threes.npy=3 fours.npy=4  (one class a file)
    python models/train/judge.py digits --real train --count 1000 (real pictures: the best there is to expect)

Also the Fréchet distance between the features of these pictures and of the held-out real ones. It depends on the classifier
and on the number of pictures (fewer: larger), so it compares files of the same length and nothing else.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

import classifier
import recipe as recipes


def asked_for(argument, names):
    """(pictures, labels) of `FILE.npy=CLASS`, or of `FILE.npy` with `FILE.labels.npy` beside it."""
    path, _, name = argument.partition("=")
    x = np.load(path).astype(np.float32)
    if x.ndim != 4:
        sys.exit(f"{path}: want NCHW, have {x.shape}")
    if name:
        if name not in names:
            sys.exit(f"{argument}: no class {name!r}; there is: {', '.join(names)}")
        return x, np.full(len(x), names.index(name), np.int64)
    beside = Path(path).with_suffix(".labels.npy")
    if not beside.is_file():
        sys.exit(f"which class is {path}? say {path}=CLASS, or put {beside.name} beside it")
    y = np.load(beside).astype(np.int64)
    if len(y) != len(x):
        sys.exit(f"{path} holds {len(x)} pictures, {beside.name} {len(y)} labels")
    return x, y


def frechet(features, mean, cov):
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2), in double."""
    features, mean, cov = features.double(), mean.double(), cov.double()
    mine = torch.cov(features.T)
    values, vectors = torch.linalg.eigh(mine)
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov @ root).clamp(min=0).sqrt().sum()
    return ((features.mean(0) - mean).square().sum() + mine.trace() + cov.trace() - 2 * cross).item()


def nearest(x, known):
    """Distance (root mean square over pixels, of the range 2) from each picture to the nearest of `known`."""
    x, known = (torch.from_numpy(a).flatten(1) for a in (x, known))
    return torch.cat([torch.cdist(part, known).amin(1) for part in x.split(250)]) / x.shape[1] ** 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="a folder of models/ with a classifier.safetensors")
    parser.add_argument("files", nargs="*", help="FILE.npy (with FILE.labels.npy) or FILE.npy=CLASS; NCHW in [-1, 1]")
    parser.add_argument("--real", choices=("train", "held_out"), help="judge real pictures instead")
    parser.add_argument("--count", type=int, help="with --real: this many, drawn at random (default: all)")
    parser.add_argument("--nearest", action="store_true", help="also the distance to the nearest training picture: is it recall?")
    parser.add_argument("--data", help="with --real and --nearest: the recipe's .npz, if it lies elsewhere")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    args = parser.parse_intermixed_args()    # options may stand between the name and the files
    torch.set_num_threads(1)

    recipe = recipes.load(args.name)
    names = recipes.class_names(recipe)
    if bool(args.real) == bool(args.files):
        parser.error("give files, or --real")
    if args.real:
        x, y, _ = recipes.pictures(recipe, args.data, args.real)
        some = np.random.default_rng(0).permutation(len(x))[:args.count]
        x, y = x[some], y[some]
    else:
        parts = [asked_for(f, names) for f in args.files]
        x, y = (np.concatenate(column) for column in zip(*parts))
    model, mean, cov, accuracy = classifier.load(args.name)
    # A display clips: so does the judge, whatever range the sampler left.
    logits, features = classifier.judge(model, torch.from_numpy(x).clamp(-1, 1))
    right = (logits.argmax(1).numpy() == y)
    probability = logits.softmax(1)[torch.arange(len(y)), torch.from_numpy(y)].mean().item()
    result = {
        "pictures": len(y), "class_share": float(right.mean()), "class_probability": probability,
        "frechet": frechet(features, mean, cov) if len(y) > features.shape[1] else None,
        "per_class": {names[c]: float(right[y == c].mean()) for c in np.unique(y)},
        "classifier_held_out_accuracy": float(accuracy),
    }
    if args.nearest:
        known = recipes.pictures(recipe, args.data)[0]
        for key, these in (("nearest", x.clip(-1, 1)), ("nearest_of_held_out", recipes.pictures(recipe, args.data, "held_out")[0][:1000])):
            result[key] = dict(zip(("percentile_1", "median"), nearest(these, known).quantile(torch.tensor([0.01, 0.5])).tolist()))
    if args.json:
        print(json.dumps(result))
        return
    distance = "too few pictures" if result["frechet"] is None else f"{result['frechet']:.3f}"
    print(f"class share {100 * result['class_share']:.1f} % of {len(y)} (mean probability {probability:.3f}); Fréchet distance {distance}; "
          f"the classifier's own accuracy {100 * float(accuracy):.2f} %")
    if args.nearest:
        print("distance to the nearest training picture (1st percentile, median): "
              + "; ".join("{} {percentile_1:.3f}, {median:.3f}".format(who, **result[key])
                          for who, key in (("these", "nearest"), ("held-out", "nearest_of_held_out"))))
    print("  ".join(f"{name}: {100 * share:.0f}" for name, share in result["per_class"].items()))


if __name__ == "__main__":
    main()
