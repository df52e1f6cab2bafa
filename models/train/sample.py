"""Draw in float with diffusers' own sampler: the reference that quantized models are compared with.

    python models/train/sample.py digits --class 3 --count 100 --guidance 2 --out threes.npy
    python models/train/sample.py digits --class all --count 10 --out grid.npy
    python models/train/sample.py digits --class 3 --noise x_T.npy --out x0.npy

Writes pictures as float32 NCHW in about [-1, 1], and beside `X.npy` the classes asked for as `X.labels.npy`.
"""
import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

import net_io
import recipe as recipes


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="an exported folder of models/")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=1.0, help="1 (default) costs one network call a step, else two")
    parser.add_argument("--class", dest="label", default="all", help="a class name, or 'all' (default): --count of each in order")
    parser.add_argument("--count", type=int, default=10, help="pictures a class (default 10); with --noise, as many as the noise")
    parser.add_argument("--noise", help="float32 NCHW starting noise (.npy); with --class all, row i gets class i modulo classes")
    parser.add_argument("--seed", type=int, default=0, help="of numpy's default_rng, when there is no --noise")
    parser.add_argument("--spacing", choices=("leading", "trailing", "linspace"), help="instead of the model's own timestep spacing")
    parser.add_argument("--clip", type=float, help="instead of the model's own clip_sample_range")
    parser.add_argument("--out", default="samples.npy")
    args = parser.parse_args()
    torch.set_num_threads(1)

    model, scheduler, names = net_io.read(recipes.MODELS / args.name)
    if args.spacing:
        scheduler.register_to_config(timestep_spacing=args.spacing)
    if args.clip:
        scheduler.register_to_config(clip_sample_range=args.clip)
    if names and args.label != "all" and args.label not in names:
        sys.exit(f"no class {args.label!r}; there is: all, {', '.join(names)}")
    chosen = list(range(len(names))) if args.label == "all" else [names.index(args.label)] if names else []
    shape = (model.config.in_channels, model.config.sample_size, model.config.sample_size)
    if args.noise:
        noise = np.load(args.noise).astype(np.float32)
        if noise.shape[1:] != shape:
            sys.exit(f"{args.noise} is {noise.shape}; the model draws (N, {', '.join(map(str, shape))})")
        labels = np.resize(np.array(chosen, np.int64), len(noise)) if chosen else None
    else:
        labels = np.repeat(np.array(chosen, np.int64), args.count) if chosen else None
        noise = np.random.default_rng(args.seed).standard_normal((args.count * max(1, len(chosen)), *shape), dtype=np.float32)

    start = time.monotonic()
    drawn = net_io.draw(model, scheduler, torch.from_numpy(noise), None if labels is None else torch.from_numpy(labels),
                        args.steps, args.guidance)
    np.save(args.out, drawn.numpy())
    if labels is not None:
        np.save(Path(args.out).with_suffix(".labels.npy"), labels)
    print(f"{len(drawn)} pictures, {args.steps} steps, guidance {args.guidance:g}: {args.out} ({time.monotonic() - start:.0f} s)")


if __name__ == "__main__":
    main()
