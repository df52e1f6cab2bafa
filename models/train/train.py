"""Train a small diffusers UNet2DModel from a recipe, on a CPU, for a stated number of minutes.

    python models/train/train.py digits
    python models/train/train.py digits --data my_pictures/ --run mine --minutes 300
    python models/train/train.py fashion --init models/fashion/model.safetensors --lr 1e-3 --minutes 100

The learning rate follows the fraction of the *time* that is used, not a step count: a slow or shared machine still gets the
whole decay, which is what cleans the last, low-noise steps. The checkpoint (weights, EMA, optimizer, random state, clock) is
written every few minutes; the same command goes on where it stopped. Diffusion times are stratified over the batch, which
costs nothing and takes most of the noise out of the loss. `--init` goes on from exported weights where the checkpoint is gone:
weights and EMA start there, the optimizer and the clock anew, so ask for a lower peak than a run from nothing wants.
"""
import argparse
import json
import math
import os
import time

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor
from safetensors.torch import load_file

import recipe as recipes


def learning_rate(peak, step, warmup, fraction):
    """Linear warm-up by steps, times a cosine from 1 to 0 by the fraction of the time that is used."""
    return peak * min(1, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1, fraction)))


def shifted(x, most, generator):
    """Each picture moved by up to `most` pixels; the border takes the edge's colour."""
    size = x.shape[-1]
    padded = F.pad(x, (most,) * 4, mode="replicate")
    at = torch.randint(0, 2 * most + 1, (len(x), 2), generator=generator).tolist()
    return torch.stack([p[:, dy:dy + size, dx:dx + size] for p, (dy, dx) in zip(padded, at)])


def mirrored(x, may, generator):
    """Each picture for which `may` is set, with probability 1/2 left-right mirrored."""
    turn = may & (torch.rand(len(x), generator=generator) < 0.5)
    return torch.where(turn[:, None, None, None], x.flip(3), x)


def quicker_attention(model):
    """The plain processor for short heads: torch's fused one costs 7 % of a step in f32, and with bf16 all that bf16 wins."""
    for module in model.modules():
        if isinstance(module, Attention):
            module.set_processor(AttnProcessor())


class Run:
    """Everything that a checkpoint holds. (Not the order of the current epoch: a resumed run shuffles anew.)"""

    def __init__(self, recipe, classes, folder):
        settings = recipe["train"]
        torch.manual_seed(settings["seed"])
        self.model, self.scheduler = recipes.network(recipe, classes), recipes.schedule(recipe)
        quicker_attention(self.model)
        self.ema = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=settings["lr"], betas=(0.9, 0.99),
                                           weight_decay=settings["weight_decay"])
        self.generator = torch.Generator().manual_seed(settings["seed"])
        self.step, self.seconds, self.images, self.loss = 0, 0.0, 0, None
        self.ready = False    # is the EMA of use from its first step on?
        self.file = folder / "checkpoint.pt"

    def start_from(self, weights):
        """Weights and EMA of an exported model; `follow` then starts at its full decay, for there is no bad start to forget."""
        exported = {k: v.float() for k, v in load_file(weights).items()}
        self.model.load_state_dict(exported)
        self.ema = {k: v.clone() for k, v in exported.items()}
        self.ready = True

    def save(self):
        part = self.file.with_suffix(".part")
        torch.save({"model": self.model.state_dict(), "ema": self.ema, "optimizer": self.optimizer.state_dict(),
                    "generator": self.generator.get_state(), "step": self.step, "seconds": self.seconds,
                    "images": self.images, "loss": self.loss, "ready": self.ready}, part)
        os.replace(part, self.file)

    def resume(self):
        state = torch.load(self.file, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.ema = state["ema"]
        self.step, self.seconds, self.images, self.loss = (state[k] for k in ("step", "seconds", "images", "loss"))
        self.ready = state.get("ready", False)

    @torch.no_grad()
    def follow(self, most):
        """Move the EMA; early on it forgets faster, so that it is usable from the first minutes."""
        decay = most if self.ready else min(most, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            self.ema[name].lerp_(value, 1 - decay)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="a folder of models/ with a recipe.toml")
    parser.add_argument("--data", help="an .npz, or a folder of pictures (one subfolder a class; none: unconditional)")
    parser.add_argument("--minutes", type=float, help="training time in all, resumed parts included (default: the recipe's)")
    parser.add_argument("--init", metavar="model.safetensors", help="start from these exported weights (not when resuming)")
    parser.add_argument("--lr", type=float, help="peak learning rate instead of the recipe's")
    parser.add_argument("--bf16", action="store_true", help="the first four fifths of the time in bf16: 1.6 times the pictures where "
                        "the processor has AVX512-BF16")
    parser.add_argument("--run", help="name of the run's folder under models/train/runs (default: the recipe's name)")
    parser.add_argument("--threads", type=int, default=1, help="two pay only on an otherwise idle machine (default 1)")
    parser.add_argument("--save-every", type=float, default=180, help="seconds between checkpoints (default 180)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    recipe = recipes.load(args.name)
    settings = recipe["train"]
    settings["lr"] = args.lr or settings["lr"]
    budget = 60 * (args.minutes or settings["minutes"])
    x, y, names = recipes.pictures(recipe, args.data)
    x = torch.from_numpy(x)
    y = None if y is None else torch.from_numpy(y)
    flips = recipes.may_mirror(recipe, names, y, len(x))
    folder = recipes.run_folder(args.run or args.name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "class_names.json").write_text(json.dumps(names))

    run = Run(recipe, len(names), folder)
    print(f"{len(x):,} pictures, {len(names)} classes; {sum(p.numel() for p in run.model.parameters()):,} parameters, "
          f"{recipes.multiply_adds(run.model):,} multiply-adds a step", flush=True)
    if run.file.is_file():
        run.resume()
        print(f"resumed at step {run.step}, {run.seconds / 60:.1f} of {budget / 60:.0f} minutes used", flush=True)
    elif args.init:
        run.start_from(args.init)
        print(f"starts from {args.init}", flush=True)

    clock = saved = shown = time.monotonic()
    shown_images, steps = run.images, run.scheduler.config.num_train_timesteps
    order, batch = torch.empty(0, dtype=torch.long), settings["batch"]
    while run.seconds < budget:
        if len(order) < batch:
            order = torch.randperm(len(x), generator=run.generator).repeat(-(-batch // len(x)))
        pick, order = order[:batch], order[batch:]
        clean = x[pick]
        if settings["shift"]:
            clean = shifted(clean, settings["shift"], run.generator)
        if flips.any():
            clean = mirrored(clean, flips[pick], run.generator)
        labels = None
        if y is not None:
            null = torch.rand(batch, generator=run.generator) < settings["class_dropout"]
            labels = torch.where(null, len(names), y[pick])
        noise = torch.randn(clean.shape, generator=run.generator)
        t = ((torch.arange(batch) + torch.rand(batch, generator=run.generator)) * (steps / batch)).long().clamp_(max=steps - 1)
        noisy = run.scheduler.add_noise(clean, noise, t)
        kind = run.scheduler.config.prediction_type
        target = {"epsilon": noise, "sample": clean}.get(kind)
        if target is None:
            target = run.scheduler.get_velocity(clean, noise, t)

        rate = learning_rate(settings["lr"], run.step, settings["warmup_steps"], run.seconds / budget)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        # Weights, sums and the last fifth stay f32: bf16 is noise that the last, low-noise steps should not be trained on.
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16 and run.seconds < 0.8 * budget):
            out = run.model(noisy, t, labels).sample
        loss = F.mse_loss(out.float(), target)
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), settings["grad_clip"])
        run.optimizer.step()
        run.step += 1
        run.images += batch
        run.follow(settings["ema"])

        value, now = loss.item(), time.monotonic()
        run.loss = value if run.loss is None else 0.99 * run.loss + 0.01 * value
        run.seconds += now - clock
        clock = now
        if now - shown > 20:
            print(f"step {run.step}  {run.images / len(x):.1f} epochs  loss {run.loss:.4f}  lr {rate:.1e}  "
                  f"{(run.images - shown_images) / (now - shown):.0f} images/s  {(budget - run.seconds) / 60:.1f} minutes left", flush=True)
            shown, shown_images = now, run.images
        if now - saved > args.save_every:
            run.save()
            saved = now
    run.save()
    print(f"done: {run.step} steps, {run.images:,} images, {run.seconds / 60:.1f} minutes, loss {run.loss:.4f}")


if __name__ == "__main__":
    main()
