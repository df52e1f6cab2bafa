"""A small classifier that judges drawn pictures: are they what was asked for?

    python models/train/classifier.py digits
    python models/train/classifier.py fashion --widths 24,48,96 --dropout 0.2

Trained on the pictures the diffusion model was trained on, measured on the held-out ones that neither has seen. Plain layers
only, so that it is easy to run elsewhere: some times (3x3 convolution with padding 1, ReLU, 2x2 max pooling), then one
linear layer over the features in C,H,W order; input NCHW in [-1, 1]. Training shifts the pictures by up to two pixels, and
mirrors those that the recipe lets the diffusion model mirror. The file also holds the mean and the covariance of
the held-out pictures' features (the last pooling, averaged over its pixels), for judge.py's Fréchet distance.
"""
import argparse
import math

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import recipe as recipes
from train import mirrored, shifted


class Classifier(torch.nn.Module):
    def __init__(self, channels, size, classes, widths, dropout=0.0):
        super().__init__()
        self.dropout = dropout    # of the linear layer's input, in training only
        ins = (channels, *widths)
        for i, width in enumerate(widths):
            self.add_module(f"conv{i + 1}", torch.nn.Conv2d(ins[i], width, 3, padding=1))
        self.convs = len(widths)
        self.linear = torch.nn.Linear(widths[-1] * (size >> self.convs) ** 2, classes)

    def maps(self, x):
        for i in range(self.convs):
            x = F.max_pool2d(F.relu(getattr(self, f"conv{i + 1}")(x)), 2)
        return x

    def forward(self, x):
        """(logits, features): features are the last maps averaged over their pixels."""
        maps = self.maps(x)
        return self.linear(F.dropout(maps.flatten(1), self.dropout, self.training)), maps.mean((2, 3))


def load(name):
    """(classifier, mean and covariance of the held-out features, held-out accuracy as text) from models/<name>/."""
    file = recipes.MODELS / name / "classifier.safetensors"
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    mean, cov = tensors.pop("held_out_mean"), tensors.pop("held_out_cov")
    convs = [tensors[f"conv{i + 1}.weight"] for i in range(sum(name.startswith("conv") for name in tensors) // 2)]
    model = Classifier(convs[0].shape[1], int(metadata["sample_size"]), len(tensors["linear.bias"]), [len(w) for w in convs])
    model.load_state_dict(tensors)
    return model.eval(), mean, cov, metadata["held_out_accuracy"]


@torch.no_grad()
def judge(model, x, batch=500):
    outs = [model(part) for part in x.split(batch)]
    return torch.cat([o[0] for o in outs]), torch.cat([o[1] for o in outs])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="a folder of models/ with a recipe.toml")
    parser.add_argument("--data", help="the recipe's .npz, if it lies elsewhere")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--widths", default="16,32,64", help="channels of each convolution (default 16,32,64)")
    parser.add_argument("--dropout", type=float, default=0.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    recipe = recipes.load(args.name)
    x, y, names = recipes.pictures(recipe, args.data)
    held, truth, _ = recipes.pictures(recipe, args.data, "held_out")
    x, y, held, truth = map(torch.from_numpy, (x, y, held, truth))
    flips = recipes.may_mirror(recipe, names, y, len(x))
    widths = [int(width) for width in args.widths.split(",")]
    model = Classifier(x.shape[1], x.shape[2], len(names), widths, args.dropout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    steps, generator = args.epochs * (len(x) // 128), torch.Generator().manual_seed(0)
    for epoch in range(args.epochs):
        for i, pick in enumerate(torch.randperm(len(x), generator=generator)[:len(x) // 128 * 128].split(128)):
            optimizer.param_groups[0]["lr"] = 3e-3 * 0.5 * (1 + math.cos(math.pi * (epoch * (len(x) // 128) + i) / steps))
            logits, _ = model(mirrored(shifted(x[pick], 2, generator), flips[pick], generator))
            loss = F.cross_entropy(logits, y[pick], label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        logits, features = judge(model.eval(), held)
        model.train()
        accuracy = (logits.argmax(1) == truth).float().mean().item()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}, held-out accuracy {100 * accuracy:.2f} %", flush=True)

    right = "  ".join(f"{name}: {100 * (logits.argmax(1) == truth)[truth == c].float().mean():.0f}" for c, name in enumerate(names))
    print(f"held-out, by class: {right}")
    tensors = dict(model.state_dict()) | {"held_out_mean": features.mean(0), "held_out_cov": torch.cov(features.T)}
    file = recipes.MODELS / args.name / "classifier.safetensors"
    save_file(tensors, file, metadata={
        "layers": f"{len(widths)} x (conv3x3 pad 1, relu, maxpool2x2), flatten CHW, linear", "input": "NCHW float32 in [-1, 1]",
        "sample_size": str(x.shape[2]), "held_out_accuracy": f"{accuracy:.4f}", "license": recipe["license"]})
    print(f"{file.name}: {file.stat().st_size:,} bytes, {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
