"""Whole files that the fuzz suite damages: what ``sj2onnx`` exports, what ``to_onnx`` and ``save_netx`` write, and by hand."""

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from custom_ops import inlined
from custom_ops.operators import OPERATORS, Form
from onnx2lava import quantize, save_netx, to_onnx
from onnx2lava.targets import TARGETS
from tests.onnx2lava.networks import examples, like_trained, on_grid
from tests.onnx2lava.unrolled_graphs import recurrent

__all__ = ["CONTAINER", "container", "netx_files", "onnx_files"]

ROOT = Path(__file__).parents[2]

_FLOAT = """<ir_version: 10, opset_import: ["" : 21, "snn" : 1]>
    float (float[T, N, 2, 6, 6] input) => (float[T, N, 4] output) {
        folded = Reshape (input, image)
        sums = Conv <pads = [1, 1, 1, 1]> (folded, kernel, shift)
        normal = BatchNormalization (sums, ones, shift, shift, ones)
        leading = Shape <start = 0, end = 2> (input)
        target = Concat <axis = 0> (leading, features)
        spread = Reshape (normal, target)
        s0 = snn.LIF <tau = 2.0, decay_input = 1, v_threshold = 1.0, v_reset = 0.0> (spread)
        again = Reshape (s0, three)
        pooled = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (again)
        mean = AveragePool <kernel_shape = [3, 3]> (pooled)
        flat = Flatten <axis = 1> (mean)
        dense = Gemm <transB = 1> (flat, matrix, bias)
        end = Concat <axis = 0> (leading, eight)
        last = Reshape (dense, end)
        s1 = snn.IF <v_threshold = 1.0, v_reset = 0.0> (last)
        output = MatMul (s1, vote)
    }"""

_RECURRENT = """<ir_version: 10, opset_import: ["" : 21, "snn" : 1]>
    recurrent (float[T, N, 7] input) => (float[T, N, 4] output) {
        sums0 = MatMul (input, weight)
        s0 = snn.RecurrentCubaLIF <i_decay = 1000, v_decay = 100, v_threshold = 90> (sums0, back, shift)
        sums1 = MatMul (s0, matrix)
        output = snn.CubaLIF <i_decay = 4096, v_decay = 0, v_threshold = 64> (sums1)
    }"""

CONTAINER = """<domain: "snn", opset_import: ["" : 21]>
    Container (x, matrix, shift) => (y) {
        samples = Shape <start = 1, end = 2> (x)
        rest = Constant <value = int64[1] {5}> ()
        target = Concat <axis = 0> (samples, rest)
        quiet = ConstantOfShape <value = float[1] {0.0}> (target)
        low = ConstantOfShape <value = float[1] {-0.25}> (target)
        s_end, v_end, y = Scan <num_scan_inputs = 1, body = step
          (float[N, 5] s, float[N, 5] v, float[N, 7] x_t) => (float[N, 5] s_out, float[N, 5] v_out, float[N, 5] y_t) {
            both = Concat <axis = -1> (x_t, s)
            sums = Gemm <transB = 1> (both, matrix, shift)
            zero = Constant <value_ints = [0]> ()
            one = Constant <value_ints = [1]> ()
            longer = Unsqueeze (sums, zero)
            cut = Slice (longer, zero, one, zero)
            same = Squeeze (cut, zero)
            tau = Constant <value = float {2.0}> ()
            reset = Constant <value = float {-0.25}> ()
            gap = Sub (v, reset)
            drive = Sub (same, gap)
            share = Div (drive, tau)
            h = Add (v, share)
            threshold = Constant <value = float {0.5}> ()
            above = Sub (h, threshold)
            nothing = Constant <value = float {0.0}> ()
            fires = GreaterOrEqual (above, nothing)
            spike = Cast <to = 1> (fires)
            low_part = Mul (spike, reset)
            unit = Constant <value = float {1.0}> ()
            silent = Sub (unit, spike)
            high_part = Mul (silent, h)
            v_out = Add (low_part, high_part)
            stack = Unsqueeze (spike, zero)
            list = Concat <axis = 0> (stack)
            index = Constant <value = int64 {0}> ()
            s_out = Gather <axis = 0> (list, index)
            y_t = Identity (s_out)
          }> (quiet, low, x)
    }"""


def container(function: str = CONTAINER) -> onnx.ModelProto:
    """A loop over time as torch writes those of SpikingJelly's containers."""
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 21, "snn" : 1]>
        container (float[T, N, 7] input) => (float[T, N, 5] output) {
            output = snn.Container (input, matrix, shift)
        }""")
    rng = np.random.default_rng(7)
    constants = {"matrix": rng.normal(0, 1, (5, 12)).astype(np.float32), "shift": rng.normal(0, 0.1, 5).astype(np.float32)}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    model.functions.append(onnx.parser.parse_function(function))
    return model


def _float_network() -> onnx.ModelProto:
    """Everything that lowering knows, and a readout behind the last spikes."""
    rng = np.random.default_rng(5)
    constants = {
        "image": np.array([-1, 2, 6, 6]),
        "kernel": rng.normal(0, 0.4, (3, 2, 3, 3)).astype(np.float32),
        "shift": np.array([0.1, -0.1, 0.2], np.float32),
        "ones": np.ones(3, np.float32),
        "features": np.array([3, 6, 6]),
        "three": np.array([-1, 3, 6, 6]),
        "matrix": rng.normal(0, 0.8, (8, 3)).astype(np.float32),
        "bias": rng.normal(0, 0.1, 8).astype(np.float32),
        "eight": np.array([8]),
        "vote": rng.normal(0, 1, (8, 4)).astype(np.float32),
    }
    model = onnx.parser.parse_model(_FLOAT)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    for index, node in enumerate(model.graph.node):
        node.name = f"layer.{index}/{node.op_type}"
    model.functions.extend(OPERATORS[name].function(None) for name in ("IF", "LIF"))
    return model


def _recurrent_network() -> onnx.ModelProto:
    """A layer whose spikes come back, before one that a session makes a block of."""
    rng = np.random.default_rng(6)
    shapes = {"weight": (7, 9), "back": (9, 9), "matrix": (9, 4)}
    constants = {name: (2 * rng.integers(-60, 60, shape)).astype(np.float32) for name, shape in shapes.items()}
    model = onnx.parser.parse_model(_RECURRENT)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    model.graph.initializer.append(numpy_helper.from_array(np.arange(9, dtype=np.int32), "shift"))
    model.functions.append(OPERATORS["RecurrentCubaLIF"].function(Form(bias=True)))
    model.functions.append(OPERATORS["CubaLIF"].function())
    return model


@cache
def onnx_files() -> dict[str, bytes]:
    """The small ones several times over: a case takes as long as its file is large."""
    models = {name: to_onnx(network) for name, network in examples().items()}
    models["float"] = _float_network()
    models["recurrent"] = _recurrent_network()
    models["container"] = container()
    models["delayed, float"] = to_onnx(on_grid(examples()["delayed"]))
    models["recurrent, float"] = to_onnx(on_grid(examples()["recurrent"]))
    for name in ("up and down again", "two inputs and two outputs", "feedback through a convolution"):
        models[f"{name}, float"] = to_onnx(on_grid(examples()[name]))
    models["unrolled"] = recurrent().model()
    models["inlined"] = inlined(to_onnx(next(iter(examples().values()))))
    models["like trained"] = to_onnx(like_trained(bias=0.1, decay=0.5))
    files = {name: model.SerializeToString() for name, model in models.items()}
    files["digits_csnn.onnx"] = (ROOT / "models" / "digits_csnn.onnx").read_bytes()
    return files


def netx_files(folder: Path) -> dict[str, bytes]:
    """Those of the same networks that are chains, as ``.net`` files.

    Args:
        folder: where they may be written for a moment.
    """
    networks = {**examples(), "like trained": quantize(like_trained(bias=0.1))}
    networks = {name: network for name, network in networks.items() if not TARGETS["netx"].check(network)}
    files = {}
    for name, network in networks.items():
        path = folder / "whole.net"
        save_netx(network, path)
        files[name] = path.read_bytes()
        path.unlink()
    return files
