"""The candidates: each a function that makes one network call, on one thread."""

import json
import subprocess
from pathlib import Path

import nncf
import numpy
import onnx
import onnxruntime
import openvino
import torch
import tract
from onnxruntime import quantization

import nets

# Inputs that static quantization learns its ranges from.
CALIBRATION = 8
# Of the .mote files' schedules; their number decides nothing of a step's time.
STEPS = 4


def candidates(name: str, folder: Path) -> dict[str, callable]:
    """Every way to make a network call with this net, by a name; a call is timed from numpy arrays to a numpy array."""
    given = nets.inputs(name, 1)
    f32 = folder / "f32.onnx"
    # What onnxruntime's int8 is offered: all operators or those that multiply, unsigned activations or signed ones.
    multiplying = ["Conv", "Gemm", "MatMul"]
    settings = {"int8": (None, True), "int8 convolutions": (multiplying, True), "int8 signed": (None, False)}
    found = {"PyTorch f32": pytorch(name, given), "onnxruntime f32": ort(f32, given)}
    for setting, (operators, unsigned) in settings.items():
        found[f"onnxruntime {setting}"] = ort(quantized(name, f32, folder, setting, operators, unsigned), given)
    found["OpenVINO f32"] = openvino_f32(f32, given)
    found["OpenVINO int8"] = openvino_int8(name, f32, given)
    found["tract f32"] = tract_f32(f32, given)
    return found


def pytorch(name: str, given: dict):
    torch.set_num_threads(1)
    call = nets.Call(nets.network(name))

    def run():
        with torch.inference_mode():
            return call(*(torch.from_numpy(given[key]) for key in nets.INPUTS)).numpy()

    return run


def ort(path: Path, given: dict):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, given)[0]


class Calibration(quantization.CalibrationDataReader):
    def __init__(self, name: str):
        self.rest = iter([nets.inputs(name, 100 + i) for i in range(CALIBRATION)])

    def get_next(self):
        return next(self.rest, None)


def quantized(name: str, f32: Path, folder: Path, setting: str, operators, unsigned: bool) -> Path:
    """Static quantization in QDQ form, weights int8 by channel."""
    to = folder / (setting.replace(" ", "-") + ".onnx")
    if not to.exists():
        prepared = folder / "prepared.onnx"
        if not prepared.exists():
            quantization.quant_pre_process(f32, prepared, skip_symbolic_shape=True)
        types = quantization.QuantType
        part = to.with_suffix(".part")
        quantization.quantize_static(
            prepared, part, Calibration(name), per_channel=True, op_types_to_quantize=operators,
            activation_type=types.QUInt8 if unsigned else types.QInt8, weight_type=types.QInt8)
        part.rename(to)
    return to


def openvino_call(model, given: dict, **hints):
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1} | hints)
    return lambda: compiled(given)[0]


def openvino_f32(path: Path, given: dict):
    return openvino_call(openvino.convert_model(path), given, INFERENCE_PRECISION_HINT="f32")


def openvino_int8(name: str, path: Path, given: dict):
    """What is not int8 is in whatever precision OpenVINO prefers on this machine."""
    model = openvino.convert_model(path)
    data = nncf.Dataset([nets.inputs(name, 100 + i) for i in range(CALIBRATION)])
    return openvino_call(nncf.quantize(model, data, subset_size=CALIBRATION), given)


def tract_f32(path: Path, given: dict):
    model = tract.onnx().load(path).into_model().into_runnable()
    return lambda: model.run([given[key] for key in nets.INPUTS])[0].to_numpy()


DIRECT = ", direct"


def ours(bench: Path, file: Path, kernels: str, repeat: int) -> float:
    """Milliseconds of a step with this table, or this one without Winograd's algorithm: of the fastest picture, the sampler's update included."""
    command = [bench, file, "--json", "--kernels", kernels.removesuffix(DIRECT), "--repeat", str(repeat)]
    if kernels.endswith(DIRECT):
        command.append("--direct")
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    if told["self_test"] != "passed":
        raise SystemExit(f"{file} with {kernels}: the file's self-test says {told['self_test']}")
    return told["picture_ms"]["min"] / told["steps"]


def pictures(bench: Path, file: Path, kernels: str, least_s: float) -> int:
    """As many as fill the time of a round."""
    return max(1, round(least_s * 1e3 / (STEPS * ours(bench, file, kernels, 1))))


def our_tables(bench: Path, file: Path) -> list[str]:
    """Those that this machine can run: a name that is none makes the bench list them."""
    told = subprocess.run([bench, file, "--kernels", "?"], capture_output=True, text=True).stderr
    return told.split("this machine can run: ")[1].split("\n")[0].strip().split(", ")
