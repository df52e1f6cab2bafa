"""What every script here shares: a model's recipe, its pictures, its network and its noise schedule.

A recipe (`models/<name>/recipe.toml`) names the data, the `UNet2DModel`, the `DDIMScheduler` and the training settings.
Pictures come from an .npz file with named u8 arrays (N,H,W), from a collection of sprites that the recipe sorts into kinds
(`[[data.kinds]]`), or from the user's own folder: one subfolder a class, or no subfolders for an unconditional model. In
memory they are float32 NCHW in [-1, 1].
"""
import json
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


def _starts(path, starts):
    return any(path.startswith(start) for start in starts)


def _kinds(file, data, split):
    """Sprites (`rgba` of the .npz, `path` of each in a names.json beside it) on black, sorted into the recipe's kinds.

    A kind takes the pictures whose path begins with one of `of` and none of `without`, of which at least the share `covers`
    is opaque and the mean level on black is at least `light`; pictures with the same pixels count once. Every eighth is held
    out. With `layers` (each a list like `of`) a kind has `count` pictures, each a pile of one picture a layer, drawn by a
    fixed seed from the training or the held-out part of each layer: a paper doll and its clothes.
    """
    sprites = np.load(file)["rgba"]
    paths = [entry["path"] for entry in json.loads((file.parent / "names.json").read_text())]

    def of(starts, without=(), covers=0.0, light=0.0):
        seen, kept = set(), []
        for sprite, path in zip(sprites, paths):
            fits = _starts(path, starts) and not _starts(path, without) and (sprite[..., 3] > 127).mean() >= covers
            if fits and _on_black(sprite).mean() >= light and sprite.tobytes() not in seen:
                seen.add(sprite.tobytes())
                kept.append(sprite)
        if not kept:
            sys.exit(f"{file} holds no pictures below {', '.join(starts)}")
        return [s for i, s in enumerate(kept) if (i % 8 == 7) == (split == "held_out")]

    xs, ys = [], []
    for label, kind in enumerate(data["kinds"]):
        if "layers" in kind:
            rng = np.random.default_rng(label + 1000 * (split == "held_out"))
            layers = [of(starts) for starts in kind["layers"]]
            count = kind["count"] // 8 if split == "held_out" else kind["count"] * 7 // 8
            these = [_pile([layer[rng.integers(len(layer))] for layer in layers]) for _ in range(count)]
        else:
            these = [_on_black(s) for s in of(kind["of"], kind.get("without", ()), kind.get("covers", 0), kind.get("light", 0))]
        xs += these
        ys += [label] * len(these)
    return to_unit(np.stack(xs)), np.array(ys, np.int64)


def _on_black(sprite):
    return _pile([sprite])


def _pile(sprites):
    """Straight-alpha RGBA pictures over each other, the first the lowest, on black: u8 HWC."""
    out = np.zeros((*sprites[0].shape[:2], 3), np.float32)
    for sprite in sprites:
        alpha = sprite[..., 3:].astype(np.float32) / 255
        out += alpha * (sprite[..., :3] - out)
    return np.rint(out).astype(np.uint8)


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


def class_names(recipe):
    data = recipe["data"]
    return [kind["name"] for kind in data["kinds"]] if "kinds" in data else data["class_names"]


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
    if "kinds" in recipe["data"]:
        return *_kinds(at, recipe["data"], split), class_names(recipe)
    return *_npz_split(at, recipe["data"][split]), class_names(recipe)


def may_mirror(recipe, names, labels, count):
    """For each of the `count` pictures: may training mirror it? (`flip` of the recipe: true, false, or a list of class names.)"""
    import torch

    flip = recipe["train"].get("flip", False)
    if isinstance(flip, bool):
        return torch.full((count,), flip)
    return torch.tensor([name in flip for name in names])[labels]


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
