"""A contact sheet: .npy pictures (NCHW, [-1, 1]) as one PNG.

    python models/train/sheet.py grid.npy --out samples.png
"""
import argparse
import sys

import numpy as np
from PIL import Image


def sheet(pictures, columns=10, scale=2, gap=2):
    """u8 HWC: rows of `columns` pictures, enlarged without smoothing, on mid grey."""
    n, channels, height, width = pictures.shape
    tiles = np.clip(np.rint((pictures + 1) * 127.5), 0, 255).astype(np.uint8).repeat(scale, 2).repeat(scale, 3)
    rows, height, width = -(-n // columns), height * scale + gap, width * scale + gap
    out = np.full((rows * height + gap, columns * width + gap, channels), 96, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = gap + i // columns * height, gap + i % columns * width
        out[y:y + height - gap, x:x + width - gap] = tile.transpose(1, 2, 0)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", help=".npy files, float32 NCHW, one after the other")
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--scale", type=int, default=2, help="pixels a pixel (default 2)")
    parser.add_argument("--out", default="sheet.png")
    args = parser.parse_args()
    arrays = [np.load(f) for f in args.files]
    if any(a.ndim != 4 or a.shape[1] not in (1, 3) for a in arrays):
        sys.exit(f"want NCHW with 1 or 3 channels, have {[a.shape for a in arrays]}")
    out = sheet(np.concatenate(arrays), args.columns, args.scale)
    Image.fromarray(out[..., 0] if out.shape[2] == 1 else out).save(args.out, optimize=True)
    print(f"{args.out}: {out.shape[1]}x{out.shape[0]}")


if __name__ == "__main__":
    main()
