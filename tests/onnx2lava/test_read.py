"""Equivalent spellings of one network read alike; what cannot be converted is refused in one sentence that names the node."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from custom_ops.errors import BridgeError, ModelFileError
from custom_ops.operators import OPERATORS
from onnx2lava import Conv, CubaNeuron, Dense, Edge, Input, Network, Population, load, to_onnx
from onnx2lava.errors import ConversionError, NetworkError
from tests.fuzz.corpus import CONTAINER, container
from tests.onnx2lava.networks import assert_same_numbers, examples

RNG = np.random.default_rng(3)
KERNEL = 2 * RNG.integers(-128, 128, (3, 1, 2, 2), dtype=np.int32)  # input (1, 4, 4) → (3, 3, 3)
MATRIX = 2 * RNG.integers(-128, 128, (2, 27), dtype=np.int32)
NEURON = CubaNeuron(4096, 100, 200)
CUBA = "snn.CubaLIF <i_decay = 4096, v_decay = 100, v_threshold = 200>"

STORED = {
    "W": KERNEL.astype(np.float32),
    "W_int": KERNEL.astype(np.int16),
    "W_half": (KERNEL // 2).astype(np.int8),
    "W_flat": KERNEL.astype(np.float32).reshape(3, 4),
    "V": MATRIX.astype(np.float32),
    "V_T": np.ascontiguousarray(MATRIX.T).astype(np.float32),
    "V_half": (MATRIX // 2).astype(np.int8),
    "V_half_T": np.ascontiguousarray(MATRIX.T // 2).astype(np.int8),
    "two": np.float32(2),
    "twos": np.full(3, 2, np.float32),
    "no": np.int8(0),
    "half": np.float32(0.5),
    "kernel_shape": np.array([3, 1, 2, 2]),
    "fold": np.array([-1, 1, 4, 4]),
    "sums1": np.array([3, 3, 3]),
    "sums2": np.array([2]),
    "flat": np.array([-1, 27]),
    "keep_flat": np.array([0, 0, 27]),
    "keep_channels": np.array([-1, 3, 3, 3]),
    "keep_rest": np.array([0, 0, -1]),
    "zero": np.array([0]),
    "one": np.array([1]),
    "two_ends": np.array([2]),
    "first": np.array(0),
    "second": np.array(1),
    "bias1": np.array([5, -7, 9], np.float32),
    "bias1_column": np.array([5, -7, 9], np.int32).reshape(3, 1, 1),
    "none1": np.zeros((3, 1, 1), np.int32),
    "fixed": np.array([4, 2, 3, 3, 3]),
    "K3": np.full((1, 1, 3, 3), 2, np.float32),
    "image": np.array([1, 4, 4]),
    "tall_image": np.array([-1, 1, 8, 2]),
    "wide": np.array([4, 8, 16]),
    "third": np.float32(1 / 3),
    "inf": np.float32(np.inf),
    "long": np.ones(20_000, np.float32),
    "column": np.array([-1, 1]),
    "ones": np.ones(3, np.float32),
}
"""Initializers that the bodies below may name."""

CONV = "folded = Reshape (input, fold)  sums = Conv (folded, W)  lead = Shape <start = 0, end = 2> (input)"
UNFOLD = "target = Concat <axis = 0> (lead, sums1)  a1 = Reshape (sums, target)"
FIRST = f"{CONV} {UNFOLD}"
NEURON_1 = f"s1 = {CUBA} (a1)"
SECOND = "f = Reshape (s1, keep_flat)  a2 = MatMul (f, V_T)"
NEURON_2 = f"output = {CUBA} (a2)"


def model(body, steps=None, samples=None):
    text = f"""<ir_version: 10, opset_import: ["" : 21, "snn" : 1]>
        test (float[T, N, 1, 4, 4] input) => (float[T, N, 2] output) {{ {body} }}"""
    proto = onnx.parser.parse_model(text)
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(dims, (steps, samples), strict=False):
        if size is not None:
            dim.dim_value = size
    read = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in STORED.items() if name in read)
    for node in proto.graph.node:
        if node.domain == "snn":
            node.name = f"{'conv_fc.0' if 's1' in node.output else 'out'}/{node.op_type}"
    return proto


def expected(bias=None):
    first = Population("conv_fc.0", (3, 3, 3), NEURON, (Edge("input", Conv(KERNEL)),), bias)
    second = Population("out", (2,), NEURON, (Edge("conv_fc.0", Dense(MATRIX)),))
    return Network("test", {"input": Input((1, 4, 4))}, (first, second), ("out",))


FIRST_SPELLINGS = {
    "plain": FIRST,
    "all attributes": f"""folded = Reshape (input, fold)
        sums = Conv <kernel_shape = [2, 2], strides = [1, 1], pads = [0, 0, 0, 0], dilations = [1, 1], group = 1> (folded, W)
        lead = Shape <start = 0, end = 2> (input) {UNFOLD}""",
    "auto_pad VALID": FIRST.replace("Conv (", 'Conv <auto_pad = "VALID"> ('),
    "cast and doubled": f"c = Cast <to = 1> (W_half) m = Mul (c, two) {FIRST.replace('folded, W)', 'folded, m)')}",
    "cast of 16 bits": f"m = Cast <to = 1> (W_int) {FIRST.replace('folded, W)', 'folded, m)')}",
    "dequantised": f"m = DequantizeLinear (W_half, two) {FIRST.replace('folded, W)', 'folded, m)')}",
    "dequantised, zero point": f"m = DequantizeLinear (W_half, two, no) {FIRST.replace('folded, W)', 'folded, m)')}",
    "dequantised by channel": f"m = DequantizeLinear <axis = 0> (W_half, twos) {FIRST.replace('folded, W)', 'folded, m)')}",
    "reshaped weight": f"i = Identity (W_flat) m = Reshape (i, kernel_shape) {FIRST.replace('folded, W)', 'folded, m)')}",
    "divided": f"c = Cast <to = 1> (W_half) m = Div (c, half) {FIRST.replace('folded, W)', 'folded, m)')}",
    "time folded by Flatten and Unsqueeze": f"""rows = Flatten <axis = 2> (input)  folded = Reshape (rows, fold)
        sums = Conv (folded, W)  lead = Shape <start = 0, end = 2> (input) {UNFOLD}""",
    "shape by Gather": f"""folded = Reshape (input, fold)  sums = Conv (folded, W)  all = Shape (input)
        t = Gather (all, first)  n = Gather (all, second)  t1 = Unsqueeze (t, zero)  n1 = Unsqueeze (n, zero)
        lead = Concat <axis = 0> (t1, n1) {UNFOLD}""",
    "fold by a product": f"""all = Shape (input)  lead = Slice (all, zero, two_ends, zero)
        both = ReduceProd <keepdims = 1> (lead)  rest = Shape <start = 2> (input)
        target0 = Concat <axis = 0> (both, rest)  folded = Reshape (input, target0)  sums = Conv (folded, W) {UNFOLD}""",
    "cast on the way": FIRST.replace("folded = Reshape (input", "c0 = Cast <to = 1> (input)  folded = Reshape (c0"),
}
SECOND_SPELLINGS = {
    "MatMul": SECOND,
    "flatten by -1": "f = Reshape (s1, keep_rest)  a2 = MatMul (f, V_T)",
    "MatMul of a transposed weight": "m = Transpose <perm = [1, 0]> (V)  f = Reshape (s1, keep_flat)  a2 = MatMul (f, m)",
    "doubled halves": "c = Cast <to = 1> (V_half_T) m = Mul (c, two) f = Reshape (s1, keep_flat)  a2 = MatMul (f, m)",
    "Gemm": """f = Reshape (s1, flat)  g = Gemm <transB = 1> (f, V)  lead2 = Shape <start = 0, end = 2> (s1)
        target2 = Concat <axis = 0> (lead2, sums2)  a2 = Reshape (g, target2)""",
    "Gemm, scaled": """f = Flatten <axis = 2> (s1)  c = Cast <to = 1> (V_half)  g = Gemm <transB = 1, alpha = 2.0> (f, c)
        lead2 = Shape <start = 0, end = 2> (s1)  target2 = Concat <axis = 0> (lead2, sums2)  a2 = Reshape (g, target2)""",
}
_BIASED = f"{UNFOLD.replace('sums,', 'biased,')} {NEURON_1}"
BIASES = {
    "the neuron's": f"{FIRST} s1 = {CUBA} (a1, bias1_column)",
    "the convolution's": f"{FIRST.replace('folded, W)', 'folded, W, bias1)')} {NEURON_1}",
    "added": f"{CONV} b = Cast <to = 1> (bias1_column) biased = Add (sums, b) {_BIASED}",
    "added first": f"{CONV} b = Cast <to = 1> (bias1_column) biased = Add (b, sums) {_BIASED}",
}


@pytest.mark.parametrize("spelling", FIRST_SPELLINGS)
def test_spellings_of_a_convolution(spelling):
    assert_same_numbers(load(model(f"{FIRST_SPELLINGS[spelling]} {NEURON_1} {SECOND} {NEURON_2}")), expected())


@pytest.mark.parametrize("spelling", SECOND_SPELLINGS)
def test_spellings_of_a_dense_layer(spelling):
    network = load(model(f"{FIRST} {NEURON_1} {SECOND_SPELLINGS[spelling]} {NEURON_2}"))
    assert_same_numbers(network, expected())
    assert [each.name for each in network.populations] == ["conv_fc.0", "out"]


ZEROS = """features = Shape <start = 1> (s1)  earlier = Concat <axis = 0> (two_ends, features)  quiet = ConstantOfShape (earlier)
    steps = Shape <start = 0, end = 1> (s1)"""
LATE_SECOND = SECOND.replace("(s1", "(late")
DELAYS = {
    "zeros before, the end cut off": (f"{ZEROS} more = Concat <axis = 0> (quiet, s1) late = Slice (more, zero, steps, zero)", 2),
    "the end cut off first": (
        f"""{ZEROS} short = Sub (steps, two_ends) most = Slice (s1, zero, short, zero, one)
        late = Concat <axis = 0> (quiet, most)""",
        2,
    ),
    "one of the zeros taken back": (
        f"""{ZEROS} more = Concat <axis = 0> (quiet, s1) end = Add (steps, one)
        late = Slice (more, one, end, zero)""",
        1,
    ),
}


@pytest.mark.parametrize("spelling", DELAYS)
def test_spellings_of_a_delay(spelling):
    body, steps = DELAYS[spelling]
    network = load(model(f"{FIRST} {NEURON_1} {body} {LATE_SECOND} {NEURON_2}"))
    first, second = network.populations
    assert [edge.delay for each in network.populations for edge in each.edges] == [0, steps]
    prompt = replace(second, edges=(replace(second.edges[0], delay=0),))
    assert_same_numbers(replace(network, populations=(first, prompt)), expected())


def test_a_loop_with_feedback_in_any_unit():
    (population,) = load(container()).populations
    assert [(edge.source == population.name, edge.delay, edge.map.weight.shape) for edge in population.edges] == [
        (False, 0, (5, 7)),
        (True, 1, (5, 5)),
    ]
    assert (population.neuron.v_decay, population.neuron.v_threshold) == (0.5, 0.75)
    for thresholds in ("0.5, 0.5, 0.5, 0.5, 0.6", "1e-7, 1e-7, 1e-7, 1e-7, 2e-7"):
        with pytest.raises(ConversionError, match="threshold differs from neuron to neuron"):
            load(container(CONTAINER.replace("float {0.5}", f"float[5] {{{thresholds}}}")))


@pytest.mark.parametrize("spelling", BIASES)
def test_spellings_of_a_bias(spelling):
    network = load(model(f"{BIASES[spelling]} {SECOND} {NEURON_2}"))
    assert_same_numbers(network, expected(np.array([5, -7, 9], np.int32)))


def test_a_bias_of_zeros_is_none():
    assert load(model(f"{FIRST} s1 = {CUBA} (a1, none1) {SECOND} {NEURON_2}")).populations[0].bias is None


def test_fixed_time_and_batch():
    body = f"folded = Reshape (input, fold)  sums = Conv (folded, W)  a1 = Reshape (sums, fixed) {NEURON_1} {SECOND} {NEURON_2}"
    assert_same_numbers(load(model(body, steps=4, samples=2)), expected())


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_same_padding_that_is_the_same_on_both_sides(mode):
    body = f"""folded = Reshape (input, fold)  sums = Conv <auto_pad = "{mode}"> (folded, K3)
        lead = Shape <start = 0, end = 2> (input)  target = Concat <axis = 0> (lead, image)  a1 = Reshape (sums, target)
        s1 = {CUBA} (a1)  output = Identity (s1)"""
    (population,) = load(model(body)).populations
    assert population.edges[0].map.pads == (1, 1, 1, 1)


TAIL = f"{SECOND} {NEURON_2}"
REFUSED = {
    "an operator without counterpart": (
        f"r = Softmax (input) {FIRST.replace('(input, fold)', '(r, fold)')} {NEURON_1} {TAIL}",
        "Softmax",
    ),
    "a function of sums": (
        f"{CONV} p = Relu (sums) {UNFOLD.replace('sums,', 'p,')} {NEURON_1} {TAIL}",
        "no neuron of the file stands there",
    ),
    "max pooling": (
        f"{CONV} p = MaxPool <kernel_shape = [1, 1]> (sums) {UNFOLD.replace('sums,', 'p,')} {NEURON_1} {TAIL}",
        "MaxPool",
    ),
    "weights that are not finite": (
        "m = Mul (W, inf) " + FIRST.replace("folded, W)", "folded, m)") + NEURON_1 + TAIL,
        "not whole",
    ),
    "a weight that is computed from spikes": (
        f"{FIRST} {NEURON_1} f = Reshape (s1, keep_flat) a2 = Gemm (f, f) {NEURON_2}",
        "not a constant",
    ),
    "matrices of spikes that do not fit": (
        f"{FIRST} {NEURON_1} f = Reshape (s1, keep_flat) a2 = MatMul (f, f) {NEURON_2}",
        "do not fit each other",
    ),
    "a weight from nowhere": (
        "m = RandomNormal <shape = [3, 1, 2, 2]> () " + FIRST.replace("folded, W)", "folded, m)") + NEURON_1 + TAIL,
        "RandomNormal",
    ),
    "a weight blown up": (
        "a = Reshape (long, column) m = Mul (long, a) " + FIRST.replace("folded, W)", "folded, m)") + NEURON_1 + TAIL,
        "more numbers than",
    ),
    "a weight expanded": (
        "h = Constant <value_ints = [100000000, 1, 1, 1, 1]> () m = Expand (W, h) "
        + FIRST.replace("folded, W)", "folded, m)")
        + NEURON_1
        + TAIL,
        "outgrows the file",
    ),
    "a bias that the current would integrate": (
        FIRST.replace("folded, W)", "folded, W, bias1)") + NEURON_1.replace("4096", "4000") + TAIL,
        "integrate",
    ),
    "a decay beyond its range": (f"{FIRST} {NEURON_1.replace('4096', '4097')} {TAIL}", "i_decay is 4097"),
    "a missing threshold": (f"{FIRST} {NEURON_1.replace(', v_threshold = 200', '')} {TAIL}", "v_threshold is None"),
    "no neuron": (f"{FIRST} f = Reshape (a1, keep_flat) output = Identity (f)", "no snn neuron"),
    "a soft reset": (f"{FIRST} s1 = snn.IF <v_threshold = 1.0> (a1) {TAIL}", "resets by subtraction"),
    "a threshold below the reset": (f"{FIRST} s1 = snn.IF <v_threshold = 1.0, v_reset = 2.0> (a1) {TAIL}", "fires without input"),
    "neither tau nor decay": (f"{FIRST} s1 = snn.LIF <v_threshold = 1.0, v_reset = 0.0> (a1) {TAIL}", "exactly one"),
    "batch normalisation that trains": (
        f"{CONV} b = BatchNormalization <training_mode = 1> (sums, ones, ones, ones, ones) "
        f"{UNFOLD.replace('sums,', 'b,')} {NEURON_1} {TAIL}",
        "evaluation mode",
    ),
    "an unknown neuron": (f"{FIRST} {NEURON_1.replace('CubaLIF', 'Odd')} {TAIL}", "snn.Odd"),
    "steps of ones": (
        f"""{FIRST} {NEURON_1} {ZEROS.replace("ConstantOfShape", "ConstantOfShape <value = float[1] {1.0}>")}
        more = Concat <axis = 0> (quiet, s1)  late = Slice (more, zero, steps, zero)  {LATE_SECOND} {NEURON_2}""",
        "steps of zeros before",
    ),
    "zeros behind": (
        f"""{FIRST} {NEURON_1} {ZEROS} more = Concat <axis = 0> (s1, quiet)  late = Slice (more, two_ends, steps)
        {LATE_SECOND} {NEURON_2}""",
        "steps of zeros before",
    ),
    "the first spikes dropped": (
        f"{FIRST} {NEURON_1} {ZEROS} late = Slice (s1, one, steps, zero) {LATE_SECOND} {NEURON_2}",
        "drops the first spikes",
    ),
    "a delay of samples": (
        f"""{FIRST} {NEURON_1} rows = Reshape (s1, keep_channels)  features = Shape <start = 1> (rows)
        earlier = Concat <axis = 0> (two_ends, features)  quiet = ConstantOfShape (earlier)
        all = Shape <start = 0, end = 1> (rows)  more = Concat <axis = 0> (quiet, rows)  cut = Slice (more, zero, all, zero)
        before = Shape (s1)  late = Reshape (cut, before)  {LATE_SECOND} {NEURON_2}""",
        "its first axis is not time",
    ),
    "groups that do not divide": (FIRST.replace("Conv (", "Conv <group = 2> (") + NEURON_1 + TAIL, "cannot read spikes"),
    "a stride of zero and SAME": (
        FIRST.replace("Conv (", 'Conv <strides = [0, 1], auto_pad = "SAME_UPPER"> (') + NEURON_1 + TAIL,
        "below 1|differs between",
    ),
    "an attribute of another type": (FIRST.replace("Conv (", "Conv <group = 1.5> (") + NEURON_1 + TAIL, "of another type"),
    "truth values as weights": ("m = Cast <to = 9> (W) " + FIRST.replace("folded, W)", "folded, m)") + NEURON_1 + TAIL, "bool"),
    "a stride of zero": (FIRST.replace("Conv (", "Conv <strides = [0, 1]> (") + NEURON_1 + TAIL, "below 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_one_sentence(case):
    body, message = REFUSED[case]
    with pytest.raises(ConversionError, match=message) as caught:
        load(model(body))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("t = Transpose <perm = [0, 1, 2, 4, 3]> (s) m = MatMul (s, t)", "'pairs' .*multiplies 2,097,152 pairs of spikes"),
        ("r = ReduceSum (s, all) m = Mul (s, r)", "'pairs' .*sums of many spikes"),
    ],
)
def test_more_products_of_spikes_than_a_chip_has_neurons(body, message):
    proto = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 21, "snn" : 1]>
        g (float[T, N, 1, 128, 128] input) => (float[T, N, 1, 128, 128] output) <int64[2] all = {{3, 4}}> {{
            s = snn.IF <v_threshold = 1.0, v_reset = 0.0> (input)
            {body}
            output = snn.IF <v_threshold = 1.0, v_reset = 0.0> (m)
        }}""")
    next(node for node in proto.graph.node if node.output[0] == "m").name = "pairs"
    with pytest.raises(ConversionError, match=message):
        load(proto)


def test_layers_that_share_a_name():
    proto = model(f"{FIRST} {NEURON_1} {SECOND} {NEURON_2}")
    for node in proto.graph.node:
        node.name = "same/Node"
    with pytest.raises(NetworkError, match="'same'"):
        load(proto)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.graph.input.add(name="state", type=m.graph.input[0].type), "2 inputs .* reaches no spiking layer"),
        (lambda m: [m.graph.input[0].type.tensor_type.shape.dim.pop() for _ in range(3)], r"must be \[T, N"),
        (lambda m: m.graph.input[0].type.tensor_type.shape.dim.pop(), "without splitting"),
        (lambda m: setattr(m.opset_import[1], "version", 2), "version 2"),
        (lambda m: m.graph.node[0].input.__setitem__(0, "nothing"), "nothing|no origin|broken|not"),
    ],
)
def test_broken_models(change, message):
    proto = to_onnx(examples()["conv, pool, dense"])
    change(proto)
    with pytest.raises(BridgeError, match=message):
        load(proto)


def test_every_damaged_file_gives_a_typed_error_or_a_network(tmp_path: Path):
    """Bytes changed or cut off at random: no other exception, however broken."""
    data = to_onnx(examples()["strided, dilated, grouped, odd, biased"]).SerializeToString()
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(300):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        try:
            load(bytes(damaged[: rng.integers(1, len(data))] if rng.random() < 0.2 else damaged))
        except BridgeError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert all(message and "\n" not in message for message in messages)


def test_missing_file():
    with pytest.raises(ModelFileError, match="no-such-file"):
        load("no-such-file.onnx")


def test_layers_may_be_named_like_the_output():
    only = examples()["one convolution"]
    network = replace(only, populations=(replace(only.populations[0], name="output"),), outputs=("output",))
    for outputs in ("last", "all"):
        model = to_onnx(network, outputs=outputs)
        assert [value.name for value in model.graph.output] == ["output"]
        assert load(model).populations[0].name == "output"
    (first,) = network.populations
    second = Population("last", (1,), NEURON, (Edge("output", Dense(np.full((1, first.neurons), 2, np.int32))),))
    with pytest.raises(NetworkError, match="reserved"):
        replace(network, populations=(first, second), outputs=("last",))


def test_a_function_that_says_something_else_than_its_name_is_no_such_neuron():
    proto = model(f"{FIRST} s1 = snn.IF <v_threshold = 1.0, v_reset = 0.0> (a1) {SECOND} {NEURON_2}")
    function = OPERATORS["IF"].function()
    proto.functions.append(function)
    assert load(proto).populations[0].neuron.v_threshold == 1.0
    body = proto.functions[0]
    body.node[-1].output[0] = "spikes"
    body.node.add(op_type="Sub", input=["spikes", "spikes"], output=["s"])  # never fires
    with pytest.raises(ConversionError, match=r"snn.as_written.IF"):
        load(proto)
