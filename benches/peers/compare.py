"""Rounds of all candidates in turn; medians and ratios. `run` is how to start it."""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

warnings.filterwarnings("ignore")
import nets    # noqa: E402
import peers    # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "peers"
RELEASE = ROOT / "target" / "release"
LIBRARIES = ["torch", "onnxruntime", "openvino", "nncf", "tract"]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def cpu() -> str:
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    field = lambda key: (re.search(rf"^{key}\s*: (.*)$", info, re.M) or ["", ""])[1]
    return f"{field('model name') or platform.processor() or platform.machine()} " \
        f"(family {field('cpu family') or '?'} model {field('model') or '?'})"


def mote_file(name: str, folder: Path) -> Path:
    """The .mote file; one calibration trajectory, since what it draws is noise anyway."""
    file = folder / f"{name}.mote"
    if not file.exists():
        nets.write_checkpoint(name, folder)
        subprocess.run([RELEASE / "converter", "quantize", folder, "-o", file, "--steps", str(peers.STEPS),
                        "--calibration", "1"],
                       check=True, stdout=subprocess.DEVNULL)
    return file


def call_ms(call, least_s: float) -> float:
    """The fastest of as many calls as fit: whoever else is on the machine only ever adds."""
    fastest, end = float("inf"), time.perf_counter() + least_s
    while True:
        begin = time.perf_counter()
        call()
        now = time.perf_counter()
        fastest = min(fastest, (now - begin) * 1e3)
        if now >= end:
            return fastest


def measure(name: str, rounds: int, least_s: float, scalar: bool, avx2: bool) -> dict:
    folder = WORK / "nets" / name
    folder.mkdir(parents=True, exist_ok=True)
    say(f"{name}: quantizing")
    file = mote_file(name, folder)
    if not (folder / "f32.onnx").exists():
        say(f"{name}: exporting")
        nets.write_onnx(name, folder / "f32.onnx")
    say(f"{name}: loading the peers")
    calls = peers.candidates(name, folder)
    bench = RELEASE / "bench"
    tables = [table for table in peers.our_tables(bench, file) if scalar or table != "scalar"]
    if avx2:
        # tract's library is not among those that have been narrowed.
        tables = [table for table in tables if table in ("avx2", "scalar")]
        del calls["tract f32"]
    # Of the fastest also what Winograd's algorithm gains.
    tables.insert(1, tables[0] + peers.DIRECT)
    say(f"{name}: warming up")
    for call in calls.values():
        call()
    pictures = {table: peers.pictures(bench, file, table, least_s) for table in tables}
    found = {key: [] for key in [*(f"mote {table}" for table in tables), *calls]}
    for turn in range(rounds):
        for table in tables:
            found[f"mote {table}"].append(peers.ours(bench, file, table, pictures[table]))
        for key, call in calls.items():
            found[key].append(call_ms(call, least_s))
        say(f"{name}: round {turn + 1} of {rounds}")
    return {key: {"median": statistics.median(ms), "rounds": ms} for key, ms in found.items()}


def table(name: str, found: dict) -> str:
    """Each candidate's time, and the ratio of each of our tables to it."""
    median = {key: entry["median"] for key, entry in found.items()}
    ours = [key for key in median if key.startswith("mote ")]
    fastest = min((key for key in median if key not in ours), key=median.get)
    lines = [f"{name}: {nets.CONFIGS[name]['sample_size']} pixels square, ms a step, one thread",
             f"{'':32}{'ms':>10}" + "".join(f"{'x ' + key[5:]:>22}" for key in ours)]
    for key in sorted(median, key=median.get):
        ratios = "".join(f"{median[key] / median[our]:22.2f}" for our in ours)
        lines.append(f"{key:32}{median[key]:10.3f}{ratios}" + ("   fastest peer" if key == fastest else ""))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Times a step in other engines and here, one thread, in one run.")
    parser.add_argument("--net", choices=list(nets.CONFIGS), action="append", help="only this net (may be repeated)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of all candidates in turn")
    parser.add_argument("--seconds", type=float, default=0.3, help="time of each candidate in a round, at least")
    parser.add_argument("--scalar", action="store_true", help="our scalar kernels too")
    parser.add_argument("--isa", choices=["native", "avx2"], default="native",
                        help="avx2: nobody uses more, as on a processor that has no more (tract is left out)")
    args = parser.parse_args()
    avx2 = args.isa == "avx2"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    names = args.net or list(nets.CONFIGS)
    result = {"cpu": cpu(), "isa": args.isa, "rounds": args.rounds, "seconds": args.seconds,
              "versions": {library: version(library) for library in LIBRARIES}, "nets": {}}
    for name in names:
        result["nets"][name] = measure(name, args.rounds, args.seconds, args.scalar, avx2)
        print("\n" + table(name, result["nets"][name]), flush=True)
    if names == list(nets.CONFIGS):
        slug = re.sub(r"[^a-z0-9]+", "-", result["cpu"].lower()).strip("-") + ("-avx2" if avx2 else "")
        to = ROOT / "benches" / "results" / f"peers-{slug}.json"
        to.parent.mkdir(exist_ok=True)
        to.write_text(json.dumps(result, indent=1) + "\n")
        print(f"\nsaved: {to.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
