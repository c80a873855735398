"""All steps of CUBA neurons as one operator: in the native library, in torch's operators and traced, forward and backward."""

import ctypes
import itertools
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, lava_exchange, neuron, surrogate
from torch import nn

from custom_ops import get_library_path
from sj2onnx import BlockContainer, BlockError, CubaLIFNode
from sj2onnx import native_training as native
from tests.custom_ops.native import Library


class ByMean(nn.Module):
    """A surrogate whose slope depends on all neurons at once, as nobody but its author can know."""

    spiking = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        soft = torch.sigmoid(x / (1 + x.detach().abs().mean()))
        return soft + ((x >= 0).to(x) - soft).detach()


SURROGATES = [surrogate.ATan(), surrogate.Sigmoid(alpha=2.0), surrogate.Erf(), surrogate.LeakyKReLU(), ByMean()]


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    assert native.available(), "the native library was not built: run `make native`"


def node_of(case: dict[str, Any]) -> CubaLIFNode:
    return CubaLIFNode(
        case["i_decay"] / 4096,
        case["v_decay"] / 4096,
        case["threshold"],
        scale=case["scale"],
        requires_grad=case["learned"],
        surrogate_function=case["surrogate"],
        detach_reset=case["detach"],
        step_mode="m",
        norm=lava_exchange.BatchNorm2d(case["shape"][2]) if case["normed"] else None,
        store_v_seq=case["stored"],
        store_i_seq=case["stored"],
    )


def results(case: dict[str, Any], net: Any = None, device: str = "cpu") -> dict[str, torch.Tensor]:
    """Spikes, states, sequences and all gradients of one run in two chunks, from states that are not zero."""
    generator = torch.Generator().manual_seed(case["seed"])
    T, shape = case["shape"][0], case["shape"][1:]
    node = node_of(case).train(case["training"]).to(device)
    weight_units = case["weight_units"]
    x = torch.randn(T, *shape, generator=generator) * (case["spread"] if weight_units else case["spread"] / case["scale"])
    if case["last"] and len(shape) == 4:
        x = x.flatten(0, 1).to(memory_format=torch.channels_last).view(x.shape)
    x = x.to(device).requires_grad_()
    states = [(0.3 * torch.randn(shape, generator=generator)).to(device).requires_grad_() for _ in range(2)]
    node.current_state, node.voltage_state = states
    call = node if net is None else net(node)
    cut = T // 2
    parts, sequences = [], []
    for chunk in (x[:cut], x[cut:]):
        parts.append(call(chunk, weight_units=weight_units))
        if case["stored"]:
            sequences += [node.v_seq, node.i_seq]
    found = {"spikes": torch.cat(parts), "current": node.current_state, "voltage": node.voltage_state}
    found |= {f"sequence {index}": each for index, each in enumerate(sequences)}
    loss = sum((each * torch.randn(each.shape, generator=generator).to(device)).sum() for each in found.values())
    leaves = {"x": x, "first current": states[0], "first voltage": states[1]}
    if case["learned"]:
        leaves |= {"current decay": node.current_decay, "voltage decay": node.voltage_decay}
    grads = torch.autograd.grad(loss, list(leaves.values()))
    return {name: each.detach().cpu() for name, each in found.items()} | {
        f"gradient of {name}": grad.cpu() for name, grad in zip(leaves, grads, strict=True)
    }


def require_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], what: str) -> None:
    assert list(one) == list(other)
    for name, value in one.items():
        if name.startswith("gradient"):
            size = float(other[name].abs().max()) if other[name].numel() else 0.0
            torch.testing.assert_close(
                value, other[name], rtol=1e-4, atol=1e-5 * (1 + size), msg=lambda t, name=name: f"{what}, {name}: {t}"
            )
        else:
            assert torch.equal(value, other[name]), f"{what}, {name}"


CASES = st.fixed_dictionaries(
    {
        "shape": st.sampled_from([(6, 2, 3, 4, 5), (1, 2, 3), (9, 1, 2100), (5, 3, 7), (4, 2, 2, 33, 32), (3, 0, 4)]),
        "i_decay": st.one_of(st.just(4096), st.integers(1, 4096)),
        "v_decay": st.one_of(st.sampled_from([0, 4096]), st.integers(0, 4096)),
        "scale": st.sampled_from([64, 1, 100, 2048]),
        "threshold": st.sampled_from([0.0, 0.5, 1.3]),
        "spread": st.sampled_from([1.0, 60.0, 3e5]),
        "surrogate": st.sampled_from(SURROGATES),
        "detach": st.booleans(),
        "learned": st.booleans(),
        "stored": st.booleans(),
        "weight_units": st.booleans(),
        "last": st.booleans(),
        "normed": st.booleans(),
        "training": st.booleans(),
        "seed": st.integers(0, 2**32 - 1),
    }
)


def sound(case: dict[str, Any]) -> dict[str, Any]:
    """A norm wants images, a scale that is a power of two and a current that decays at once."""
    normed = case["normed"] and len(case["shape"]) == 5
    fitting = {"i_decay": 4096, "scale": 64, "learned": False} if normed else {}
    return case | {"normed": normed} | fitting


IF = {
    "shape": (6, 2, 3, 4, 5),
    "i_decay": 4096,
    "v_decay": 0,
    "scale": 64,
    "threshold": 1.0,
    "spread": 60.0,
    "surrogate": surrogate.ATan(),
    "detach": False,
    "learned": True,
    "stored": True,
    "weight_units": True,
    "last": True,
    "normed": False,
    "training": True,
    "seed": 0,
}


@settings(max_examples=60, deadline=None)
@given(CASES)
@example(IF)
@example(IF | {"normed": True, "i_decay": 4096, "learned": False})
@example(IF | {"i_decay": 1000, "v_decay": 100, "spread": 3e5, "scale": 1})
def test_the_library_does_what_torch_does(case: dict[str, Any]) -> None:
    case = sound(case)
    found = results(case)
    with native.switched_off():
        expected = results(case)
    require_equal(found, expected, "library and torch")


@pytest.mark.parametrize(
    ("changes", "library_on"),
    [
        ({"detach": True}, True),
        ({"i_decay": 900, "v_decay": 77}, True),
        ({"normed": True, "learned": False}, True),
        ({"i_decay": 900, "v_decay": 77}, False),
    ],
)
def test_compiled_it_is_the_same(changes: dict[str, Any], library_on: bool) -> None:
    """In one graph, without a break; traced as torch.compile does, and run without inductor, which would need a compiler."""
    case = IF | changes | {"stored": False}
    expected = results(case)

    def compiled(node: CubaLIFNode) -> Any:
        return torch.compile(node, backend="aot_eager", fullgraph=True)

    torch._dynamo.reset()
    if library_on:
        require_equal(results(case, compiled), expected, "compiled")
        return
    with native.switched_off():
        require_equal(results(case, compiled), expected, "compiled, without the library")


def test_the_operator_keeps_torchs_rules() -> None:
    x = torch.randn(5, 2, 3, 4, 4, requires_grad=True)
    states = [torch.zeros(2, 3, 4, 4, requires_grad=True) for _ in range(2)]
    decays = [torch.tensor(900.0, requires_grad=True), torch.tensor(77.0, requires_grad=True)]
    rest = (None, None, None, 4096.0, 4096, 1.0, 1, True, True, True)
    for off in (False, True):
        if off:
            with native.switched_off():
                torch.library.opcheck(torch.ops.sj2onnx.cuba_lif.default, (x, *states, *decays, *rest))
        else:
            torch.library.opcheck(torch.ops.sj2onnx.cuba_lif.default, (x, *states, *decays, *rest))


class Straight(torch.autograd.Function):
    """The equations in real values around a run: spikes and slopes are those of the run, and nothing is rounded."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, u: torch.Tensor, v: torch.Tensor, di: torch.Tensor, dv: torch.Tensor, run: Any) -> Any:
        ctx.run, ctx.inputs = run, (u, v, di, dv)
        return torch.stack(run.straight(x, u, v, di, dv))

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        return *ctx.run.gradients(grad, *ctx.inputs), None


class Run:
    """A run of the operator, whose gradient is compared with numerical differences."""

    s_scale, threshold, T = 4096.0, 3000, 4

    def __init__(self, i_decay: float, v_decay: float, through: bool) -> None:
        generator = torch.Generator().manual_seed(1)
        self.through = through
        self.x, self.u, self.v = (
            torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in ((self.T, 3), (3,), (3,))
        )
        self.decays = [torch.tensor(each / 4096, dtype=torch.float64, requires_grad=True) for each in (i_decay, v_decay)]
        with torch.no_grad():
            rest = (None, None, None, self.s_scale, self.threshold, 1.0, 1, True, True, through)
            floats = [each.float() for each in (self.x[:, None], self.u[None], self.v[None])]
            self.outputs = torch.ops.sj2onnx.cuba_lif(*floats, *(each.float() * 4096 for each in self.decays), *rest)
        self.spikes, self.charged = self.outputs[0][:, 0].double(), self.outputs[1][:, 0].double() / self.s_scale
        distance = (self.charged - (self.threshold + 0.5) / self.s_scale).requires_grad_()
        (self.slopes,) = torch.autograd.grad(surrogate.ATan()(distance).sum(), distance)
        assert 0 < self.spikes.mean() < 1

    def straight(
        self, x: torch.Tensor, u: torch.Tensor, v: torch.Tensor, di: torch.Tensor, dv: torch.Tensor
    ) -> list[torch.Tensor]:
        made = []
        for t in range(self.T):
            u = (1 - di) * u + x[t]
            v = (1 - dv) * v + u
            spike = self.spikes[t] + self.slopes[t] * (v - self.charged[t])
            v = v * (1 - (spike if self.through else self.spikes[t]))
            made += [spike, u, v]
        return made

    def gradients(self, grad: torch.Tensor, u: torch.Tensor, v: torch.Tensor, di: torch.Tensor, dv: torch.Tensor) -> Any:
        spikes, currents, voltages = (part.float()[:, None].contiguous() for part in grad.unflatten(0, (self.T, 3)).unbind(1))
        given = (None, None, currents, voltages, None, self.s_scale, self.threshold, 1.0, self.through, True, True)
        slopes, states = self.slopes.float()[:, None], [u.float()[None], v.float()[None]]
        decays = [each.float() * 4096 for each in (di, dv)]
        x, u, v, sums = torch.ops.sj2onnx.cuba_lif_backward(
            slopes, spikes, self.outputs[1], self.outputs[4], *states, *decays, *given
        )
        return x[:, 0].double(), u[0].double(), v[0].double(), -sums[0], -sums[1]


@pytest.mark.parametrize("library_on", [True, False])
@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("decays", [(4096.0, 0.0), (900.0, 300.0)])
def test_gradients_are_those_of_the_straight_through_form(decays: tuple[float, float], through: bool, library_on: bool) -> None:
    run = Run(*decays, through)

    def check() -> None:
        inputs = (run.x, run.u, run.v, *run.decays)
        assert torch.autograd.gradcheck(lambda *each: Straight.apply(*each, run), inputs, eps=1e-4, atol=2e-3, rtol=2e-3)

    if library_on:
        check()
        return
    with native.switched_off():
        check()


VIEWS = {
    "every second": lambda x: x[..., ::2],
    "one for all": lambda x: x[..., :1].expand(*x.shape[:-1], 9),
    "backwards in memory": lambda x: x.mT,
    "time inside": lambda x: x.movedim(2, 0).contiguous().movedim(0, 2),
    "a part": lambda x: x[1:, :, 2:],
    "one step": lambda x: x[:1],
    "negated": lambda x: torch.complex(x, -x).conj().imag,
}


@pytest.mark.parametrize("view", VIEWS)
def test_memory_may_lie_in_any_order(view: str) -> None:
    """Inputs, states and gradients that are views of other memory: what a pointer alone does not tell."""
    generator = torch.Generator().manual_seed(0)
    x = VIEWS[view](torch.rand(5, 4, 18, generator=generator)).requires_grad_()
    state = VIEWS[view](torch.rand(5, 4, 18, generator=generator))[0]
    weights = VIEWS[view](torch.randn(5, 4, 18, generator=generator))
    found = []
    for plain in (False, True):
        node = CubaLIFNode(0.5, 0.2, step_mode="m", surrogate_function=surrogate.ATan())
        each, first, weight = (
            part.clone(memory_format=torch.contiguous_format) if plain else part for part in (x, state, weights)
        )
        (spikes,), last = node.multi_step_functional_forward((each,), (first, first))
        for upstream in (weight, torch.ones(()).expand(weight.shape)):
            found.append((spikes, *last, *torch.autograd.grad(spikes, x, upstream, retain_graph=True)))
    for one, other in zip(found[:2], found[2:], strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    assert 0.1 < found[0][0].mean() < 0.9


@pytest.mark.parametrize("isa", Library().isas)
def test_every_instruction_set_does_the_same(isa: str) -> None:
    case = IF | {"i_decay": 1000, "v_decay": 100, "shape": (5, 2, 2, 33, 35)}
    expected = results(case)
    with Library().isa(isa):
        found = results(case)
    assert all(torch.equal(found[name], expected[name]) for name in expected if "decay" not in name)


REFUSED = {
    "double precision": ({"x": torch.zeros(3, 2, 4, dtype=torch.float64)}, "float64 .3, 2, 4. on cpu as x"),
    "a state of another size": ({"current": torch.zeros(2, 3)}, "float32 .2, 3. on cpu as current"),
    "a state of half precision": ({"voltage": torch.zeros(2, 4, dtype=torch.float16)}, "float16 .2, 4. on cpu as voltage"),
    "no time": ({"x": torch.zeros(4)}, "the shape .4."),
    "means and no norm": ({"means": torch.zeros(3, 4)}, "for no other"),
    "another bias": ({"bias": torch.zeros(3)}, "as bias"),
    "decay that is not a number": ({"i_decay": torch.tensor(float("nan"))}, "NaN"),
}


@pytest.mark.parametrize("library_on", [True, False])
@pytest.mark.parametrize("case", REFUSED)
def test_the_operator_refuses_what_it_would_read_wrongly(case: str, library_on: bool) -> None:
    changes, reason = REFUSED[case]
    tensors = {"x": torch.zeros(3, 2, 4), "current": torch.zeros(2, 4), "voltage": torch.zeros(2, 4)}
    tensors |= {"i_decay": torch.tensor(4096.0), "v_decay": torch.tensor(0.0), "means": None, "inverse_stds": None, "bias": None}
    rest = (64.0, 64, 1.0, 0, False, False, False)
    with nullcontext() if library_on else native.switched_off():
        assert torch.ops.sj2onnx.cuba_lif(*tensors.values(), *rest)[0].shape == (3, 2, 4)
        with pytest.raises(BlockError, match=reason):
            torch.ops.sj2onnx.cuba_lif(*(tensors | changes).values(), *rest)


def test_nobody_differentiates_twice() -> None:
    """The straight-through gradient has no derivative of its own, and does not pretend that it was zero."""
    for on in (True, False):
        x = torch.randn(3, 2, 4, requires_grad=True)
        with nullcontext() if on else native.switched_off():
            spikes = CubaLIFNode(1.0, 0.0, step_mode="m", surrogate_function=surrogate.ATan())(x)
            (grad,) = torch.autograd.grad(spikes.square().sum(), x, create_graph=True)
            with pytest.raises(RuntimeError):
                torch.autograd.grad(grad.square().sum(), x)


def test_a_surrogate_that_sees_all_neurons_sees_all_of_them() -> None:
    """However many they are: it is not evaluated in parts."""
    case = IF | {"surrogate": ByMean(), "shape": (3, 2, 2, 200, 200), "stored": False, "learned": False}
    found = results(case)
    with native.switched_off():
        require_equal(found, results(case), "many neurons")


def test_what_the_library_reads_is_left_as_it_is() -> None:
    node = CubaLIFNode(1.0, 0.0, step_mode="m", surrogate_function=surrogate.ATan())
    x = 3 * torch.randn(4, 2, 9)
    before = x.clone()
    node(x.requires_grad_()).sum().backward()
    assert torch.equal(x, before)
    node.reset()
    (x * 1).retain_grad()
    sums = x * 1
    with torch.no_grad():
        node(sums, weight_units=True, disposable=True)
    assert torch.equal(sums, before), "nothing is written over where nobody differentiates"


def test_what_is_not_a_number_stays_so() -> None:
    """A training that went wrong shows it."""
    node = CubaLIFNode(1.0, 0.0, step_mode="m", surrogate_function=surrogate.ATan())
    x = torch.randn(4, 2, 9)
    x[1, 0, 0] = float("nan")
    spikes = node(x.requires_grad_())
    spikes.sum().backward()
    assert spikes[1:, 0, 0].sum() == 0
    assert x.grad is not None
    assert x.grad[1:, 0, 0].isnan().all()
    assert x.grad[:, 1].isfinite().all()


def test_a_block_trains_alike_with_and_without_the_library_and_in_any_layout() -> None:
    found = []
    for off, layout in itertools.product((False, True), (torch.contiguous_format, torch.channels_last)):
        torch.manual_seed(0)
        block = BlockContainer(nn.Conv2d(2, 4, 3), neuron.IFNode(surrogate_function=surrogate.ATan(), detach_reset=True))
        nn.init.normal_(block.synapse.weight, 0.0, 1.5)  # some of them beyond 8 bits
        block.to(memory_format=layout)
        x = (torch.rand(6, 2, 2, 7, 7) < 0.4).float().requires_grad_()
        target = torch.randn(6, 2, 4, 5, 5)
        if off:
            with native.switched_off():
                spikes = block(x)
                (spikes * target).sum().backward()
        else:
            spikes = block(x)
            (spikes * target).sum().backward()
        functional.reset_net(block)
        found.append((spikes.detach(), x.grad, block.synapse.weight.grad, block.synapse.bias.grad))
    assert 0.05 < found[0][0].mean() < 0.95
    for with_library, without in (found[::2], found[1::2]):
        for one, other in zip(with_library, without, strict=True):
            assert torch.equal(one, other)  # at a scale of 64 nothing is rounded on the way
    assert torch.equal(found[0][0], found[1][0])
    for one, other in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(one, other)  # torch sums in another order


WRONG = {
    "another version": ({"bytes": 8}, "another version"),
    "steps": ({"steps": -1}, "negative"),
    "more than memory": ({"steps": 2**40, "neurons": 2**40}, "memory"),
    "decay": ({"i_keep": 5000}, "decay"),
    "threshold": ({"threshold": -1}, "threshold"),
    "scale": ({"s_scale": float("nan")}, "scale"),
    "kind": ({"input": 7}, "kind"),
    "state": ({"voltage": None}, "state"),
    "input": ({"x": None}, "missing"),
    "bias of a kept current": ({"bias": 1, "i_keep": 1}, "kept"),
    "channels": ({"bias": 1, "channels": 3, "inner": 1}, "divide"),
    "no channels": ({"bias": 1}, "channels"),
    "norm": ({"input": 2, "channels": 2, "inner": 2, "unit": 1.0}, "mean"),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_library_checks_what_it_is_given(case: str) -> None:
    changes, reason = WRONG[case]
    memory = [torch.zeros(2, 4) for _ in range(6)]
    names = ("x", "spikes", "current", "voltage", "last_current", "last_voltage")
    fields = {name: each.data_ptr() for name, each in zip(names, memory, strict=True)}
    fields |= {"bytes": ctypes.sizeof(native.Forward), "steps": 2, "neurons": 4, "v_keep": 4096, "s_scale": 64.0}
    library = ctypes.CDLL(get_library_path())
    library.snn_training_forward.restype = ctypes.c_char_p
    assert library.snn_training_forward(ctypes.byref(native.Forward(**fields)), 1) is None
    refusal = library.snn_training_forward(ctypes.byref(native.Forward(**(fields | changes))), 1)
    assert reason in refusal.decode()
    assert b"threads" in library.snn_training_forward(ctypes.byref(native.Forward(**fields)), 0)
    assert b"missing" in library.snn_training_forward(None, 1)


BACKWARD_WRONG = {
    "another version": ({"bytes": 8}, "another version"),
    "gain": ({"gain": 0.0}, "gain"),
    "place for a gradient": ({"grad_voltage": None}, "missing"),
    "sequence": ({"charged": None}, "missing"),
    "overlap": ({"grad_spikes_stride": 3}, "overlap"),
    "slopes twice": ({"table": 1, "table_size": 1, "table_step": 1.0}, "one by one or as a table"),
    "table": ({"slopes": None, "table": 1, "table_size": 0, "table_step": 1.0}, "table"),
    "table's step": ({"slopes": None, "table": 1, "table_size": 1, "table_step": 0.0}, "table"),
    "currents": ({"i_sum": 1}, "currents"),
}


@pytest.mark.parametrize("case", BACKWARD_WRONG)
def test_the_library_checks_its_way_back_too(case: str) -> None:
    changes, reason = BACKWARD_WRONG[case]
    memory = [torch.zeros(2, 4) for _ in range(6)]
    names = ("slopes", "grad_spikes", "charged", "grad_x", "grad_current", "grad_voltage")
    fields = {name: each.data_ptr() for name, each in zip(names, memory, strict=True)}
    fields |= {"bytes": ctypes.sizeof(native.Backward), "steps": 2, "neurons": 4, "grad_spikes_stride": 4}
    fields |= {"s_scale": 64.0, "gain": 1.0}
    library = ctypes.CDLL(get_library_path())
    library.snn_training_backward.restype = ctypes.c_char_p
    assert library.snn_training_backward(ctypes.byref(native.Backward(**fields)), 1) is None
    assert reason in library.snn_training_backward(ctypes.byref(native.Backward(**(fields | changes))), 1).decode()


def test_weights_are_checked_too() -> None:
    with pytest.raises(BlockError, match="step between weights"):
        native.whole_weights(torch.zeros(3), 0.0)
