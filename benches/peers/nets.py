"""The three networks, with seeded random weights, in every form that a candidate takes."""

import json
from pathlib import Path

import numpy
import torch
from diffusers import UNet2DModel

# What all three share; UNet2DModel's defaults fill in the rest.
COMMON = dict(in_channels=3, out_channels=3, act_fn="silu", time_embedding_type="positional")
CONFIGS = {
    # 15.6 M multiply-adds, 165 k parameters.
    "small": COMMON | dict(
        sample_size=16, block_out_channels=[16, 32], layers_per_block=1, norm_num_groups=8,
        down_block_types=["DownBlock2D"] * 2, up_block_types=["UpBlock2D"] * 2),
    # 247 M in convolutions and 2.6 M in attention, 1.1 M parameters.
    "middle": COMMON | dict(
        sample_size=32, block_out_channels=[32, 64, 64], layers_per_block=1, norm_num_groups=8,
        down_block_types=["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"],
        up_block_types=["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"]),
    # google/ddpm-cifar10-32: 6.05 G in convolutions and 0.17 G in attention, 35.7 M parameters.
    "cifar10": COMMON | dict(
        sample_size=32, block_out_channels=[128, 256, 256, 256], layers_per_block=2, norm_num_groups=32,
        norm_eps=1e-6, attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1,
        down_block_types=["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"]),
}
# Noise levels of the schedule, and of the pictures that the peers' int8 networks are calibrated with.
LEVELS = 1000
SCHEDULER = dict(
    _class_name="DDIMScheduler", num_train_timesteps=LEVELS, beta_schedule="linear", beta_start=1e-4, beta_end=0.02,
    clip_sample=True, clip_sample_range=1.0, prediction_type="epsilon", timestep_spacing="leading", steps_offset=0,
    set_alpha_to_one=True)
INPUTS = ["sample", "timestep"]
OPSET = 17


def network(name: str) -> UNet2DModel:
    """Default initialisation leaves nothing zero in a UNet2DModel, so no candidate can skip a layer."""
    torch.manual_seed(0)
    return UNet2DModel(**CONFIGS[name]).eval()


def inputs(name: str, seed: int) -> dict[str, numpy.ndarray]:
    """A call's inputs: unit noise, a noise level."""
    random = numpy.random.default_rng(seed)
    size = CONFIGS[name]["sample_size"]
    return {"sample": random.standard_normal((1, 3, size, size), dtype=numpy.float32),
            "timestep": random.integers(0, LEVELS, 1)}


def write_checkpoint(name: str, folder: Path) -> None:
    """The pipeline's folder, as diffusers writes it."""
    network(name).save_pretrained(folder / "unet")
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER, indent=2))


class Call(torch.nn.Module):
    """A network as a function of two tensors to one."""

    def __init__(self, net: UNet2DModel):
        super().__init__()
        self.net = net

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return self.net(sample, timestep, return_dict=False)[0]


def write_onnx(name: str, path: Path) -> None:
    given = {key: torch.from_numpy(value) for key, value in inputs(name, 0).items()}
    torch.onnx.export(Call(network(name)), tuple(given[key] for key in INPUTS), path, input_names=INPUTS,
                      output_names=["out"], opset_version=OPSET, dynamo=False)
