"""What every script here shares: a model's recipe, its pictures, its network and its noise schedule.

A recipe (`models/<name>/recipe.toml`) names the data, the `UNet2DModel`, the `DDIMScheduler` and the training settings.
Pictures come from an .npz file with named u8 arrays (N,H,W), or from the user's own folder: one subfolder a class, or no
subfolders for an unconditional model. In memory they are float32 NCHW in [-1, 1].
"""
import sys
import tomllib
from pathlib import Path

import numpy as np

MODELS = Path(__file__).resolve().parent.parent
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


def load(name):
    """Read models/<name>/recipe.toml."""
    path = MODELS / name / "recipe.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.parent.name for p in MODELS.glob("*/recipe.toml")))
        sys.exit(f"no recipe {path}; there is: {known}")
    return tomllib.loads(path.read_text())


def run_folder(name):
    """Where a training run keeps its checkpoint and log (ignored by git)."""
    return MODELS / "train" / "runs" / name


def to_unit(pictures):
    """u8 (N,H,W) or (N,H,W,C) to float32 NCHW in [-1, 1]."""
    if pictures.ndim == 3:
        pictures = pictures[..., None]
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).astype(np.float32) / 127.5 - 1


def _npz_split(file, parts):
    xs, ys = [], []
    with np.load(file) as arrays:
        for part in parts:
            for key in (part["x"], part["y"]):
                if key not in arrays:
                    sys.exit(f"{file} has no array {key!r}; it has {', '.join(arrays.files)}")
            cut = slice(part.get("start", 0), part.get("stop"))
            xs.append(arrays[part["x"]][cut])
            ys.append(arrays[part["y"]][cut])
    return to_unit(np.concatenate(xs)), np.concatenate(ys).astype(np.int64)


def _folder(folder, size, channels):
    """A user's own pictures, squeezed to size x size. Returns pictures, labels (None if there are no subfolders), names."""
    from PIL import Image

    names = sorted(p.name for p in folder.iterdir() if p.is_dir())
    xs, ys = [], []
    for label, sub in enumerate(names or ["."]):
        for path in sorted((folder / sub).iterdir()):
            if path.suffix.lower() in SUFFIXES:
                picture = Image.open(path).convert("L" if channels == 1 else "RGB").resize((size, size), Image.Resampling.LANCZOS)
                xs.append(np.asarray(picture))
                ys.append(label)
    if not xs:
        sys.exit(f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))}), nor do its subfolders")
    return to_unit(np.stack(xs)), np.array(ys, np.int64) if names else None, names


def pictures(recipe, data=None, split="train"):
    """(pictures, labels or None, class names) of a split: "train" or "held_out"."""
    at = Path(data) if data else MODELS.parent / recipe["data"]["file"]
    if at.is_dir():
        if split != "train":
            sys.exit("a folder of pictures has no held-out part; use the recipe's own data file")
        return _folder(at, recipe["model"]["sample_size"], recipe["model"]["in_channels"])
    if not at.is_file():
        sys.exit(f"no data at {at}\n  original: {recipe['data'].get('where', 'not stated')}\n"
                 f"  then: --data FILE.npz with the arrays the recipe names, or --data FOLDER with one subfolder of pictures a class")
    x, y = _npz_split(at, recipe["data"][split])
    return x, y, recipe["data"]["class_names"]


def network(recipe, classes):
    """The recipe's UNet2DModel; `classes` of 0 makes it unconditional, else the last embedding is the null class."""
    from diffusers import UNet2DModel

    return UNet2DModel(**recipe["model"], num_class_embeds=classes + 1 if classes else None)


def schedule(recipe):
    from diffusers import DDIMScheduler

    return DDIMScheduler(**recipe["scheduler"])


def multiply_adds(model):
    """Multiply-adds of one forward pass of one picture: convolutions, linear layers, and attention's two products."""
    import torch
    from diffusers.models.attention_processor import Attention

    total = 0

    def conv(m, _, out):
        nonlocal total
        total += out.numel() * m.weight[0].numel()

    def linear(m, inputs, out):
        nonlocal total
        total += out.numel() * m.in_features

    def attention(m, inputs, out):
        nonlocal total
        tokens = inputs[0].shape[-1] * inputs[0].shape[-2]
        total += 2 * tokens * tokens * m.inner_dim

    kinds = {torch.nn.Conv2d: conv, torch.nn.Linear: linear, Attention: attention}
    hooks = [m.register_forward_hook(kinds[type(m)]) for m in model.modules() if type(m) in kinds]
    size, channels = model.config.sample_size, model.config.in_channels
    labels = torch.zeros(1, dtype=torch.long) if model.config.num_class_embeds else None
    with torch.no_grad():
        model(torch.zeros(1, channels, size, size), 0, labels)
    for hook in hooks:
        hook.remove()
    return total
