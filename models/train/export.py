"""Write models/<name>/ from a run's checkpoint: the EMA weights, diffusers' tensor names, both configurations.

    python models/train/export.py digits

`--dtype auto` takes f16 (half the file) where pictures drawn from the same noise agree with f32 to 60 dB or better, else f32.
A checkpoint of a run that is still going on may be exported at any time.
"""
import argparse
import json
import math
import sys

import torch

import net_io
import recipe as recipes


def psnr(a, b):
    """In dB, for pictures in [-1, 1] (peak to peak 2)."""
    error = (a - b).square().mean().item()
    return math.inf if error == 0 else 10 * math.log10(4 / error)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="a folder of models/ with a recipe.toml")
    parser.add_argument("--run", help="the run's folder under models/train/runs (default: the name)")
    parser.add_argument("--dtype", choices=("auto", "f16", "f32"), default="auto")
    args = parser.parse_args()
    torch.set_num_threads(1)

    recipe, run = recipes.load(args.name), recipes.run_folder(args.run or args.name)
    if not (run / "checkpoint.pt").is_file():
        sys.exit(f"no checkpoint in {run}; train first: python models/train/train.py {args.name}")
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    names = json.loads((run / "class_names.json").read_text())
    model, scheduler = recipes.network(recipe, len(names)).eval(), recipes.schedule(recipe)
    model.load_state_dict(state["ema"])

    halved = recipes.network(recipe, len(names)).eval()
    halved.load_state_dict({k: v.half().float() for k, v in state["ema"].items()})
    config = model.config
    count = max(10, len(names))
    noise = torch.randn(count, config.in_channels, config.sample_size, config.sample_size, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(count) % len(names) if names else None
    quality = psnr(*(net_io.draw(m, scheduler, noise, labels) for m in (model, halved)))
    dtype = {"f16": torch.float16, "f32": torch.float32}.get(args.dtype) or (torch.float16 if quality > 60 else torch.float32)

    metadata = {"name": recipe["name"], "license": recipe["license"], "class_names": json.dumps(names)}
    if names:
        metadata["null_class"] = str(len(names))
    size = net_io.write(recipes.MODELS / args.name, model, scheduler, dtype, metadata)
    print(f"{args.name}: step {state['step']:,}, {state['images']:,} images seen in {state['seconds'] / 60:.1f} minutes, "
          f"loss {state['loss']:.4f}; f16 against f32 {quality:.1f} dB (20 steps); wrote {dtype} weights, {size:,} bytes")


if __name__ == "__main__":
    main()
