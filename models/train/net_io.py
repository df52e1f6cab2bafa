"""Read and write a trained model's folder: model.safetensors, config.json, scheduler_config.json.

The weights keep diffusers' tensor names. The file's `__metadata__` repeats both configurations as text and adds the null
class, the class names, the licence and the name, so that the one file is enough to convert the model.
"""
import json
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def write(folder, model, scheduler, dtype, metadata):
    """`metadata` adds string pairs to the configurations'. Returns the size of the weights' file in bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        model.save_config(scratch)
        scheduler.save_config(scratch)
        texts = {name: (Path(scratch) / f"{name}.json").read_text() for name in ("config", "scheduler_config")}
    for name, text in texts.items():
        (folder / f"{name}.json").write_text(text)
    file = folder / "model.safetensors"
    save_file({k: v.to(dtype).contiguous() for k, v in model.state_dict().items()}, file, metadata=texts | metadata)
    file.chmod(0o644)    # safetensors writes 0600
    return file.stat().st_size


def read(folder):
    """(model in float32, scheduler, class names) of an exported folder."""
    file = Path(folder) / "model.safetensors"
    if not file.is_file():
        sys.exit(f"no {file}: train with train.py, then export.py")
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    model = UNet2DModel.from_config(json.loads(metadata["config"]))
    model.load_state_dict({k: v.float() for k, v in load_file(file).items()})
    return model.eval(), DDIMScheduler.from_config(json.loads(metadata["scheduler_config"])), json.loads(metadata["class_names"])


@torch.no_grad()
def draw(model, scheduler, noise, labels=None, steps=20, guidance=1.0, batch=100):
    """DDIM from the given noise (NCHW); with guidance g the model's output is out(null) + g * (out(class) - out(null))."""
    null = model.config.num_class_embeds - 1 if model.config.num_class_embeds else None
    if null is None and guidance != 1:
        sys.exit("guidance needs a class-conditional model")
    done = []
    for at in range(0, len(noise), batch):
        x = noise[at:at + batch].clone()
        y = None if labels is None else labels[at:at + batch]
        if null is not None and y is None:
            y = torch.full((len(x),), null)
        scheduler.set_timesteps(steps)
        for t in scheduler.timesteps:
            out = model(x, t, y).sample
            if guidance != 1:
                free = model(x, t, torch.full_like(y, null)).sample
                out = free + guidance * (out - free)
            x = scheduler.step(out, t, x).prev_sample
        done.append(x)
    return torch.cat(done)
