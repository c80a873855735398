"""Blocks and their neuron against the integer reference, against gradients written out by hand, and against misuse."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, lava_exchange, layer, neuron, surrogate
from torch import nn

from custom_ops.reference import cuba_lif
from sj2onnx import BlockContainer, BlockError, CubaLIFNode, SumPool2d

LIMIT = 2**23 - 1


def units(node: CubaLIFNode, state: torch.Tensor) -> np.ndarray:
    """A state in whole units, as SpikingJelly's real value of it is read back."""
    return np.rint(state.detach().double().numpy() * node.s_scale).astype(np.int64)


@settings(max_examples=150, deadline=None)
@given(
    scale=st.one_of(st.sampled_from([1, 3, 64, 100, 127]), st.integers(1, 5000)),
    i_decay=st.integers(0, 4096),
    v_decay=st.integers(0, 4096),
    mantissa=st.integers(0, 131071),
    span=st.sampled_from([40, 3000, 262144]),
    seed=st.integers(0, 2**32 - 1),
)
@example(scale=100, i_decay=4096, v_decay=0, mantissa=131071, span=262144, seed=0)
@example(scale=7, i_decay=0, v_decay=0, mantissa=0, span=262144, seed=1)
def test_the_neuron_equals_the_integer_reference(scale, i_decay, v_decay, mantissa, span, seed):
    """Any whole scale, states up to the 24-bit limits; many steps at once, step by step, and with every state stored."""
    rng = np.random.default_rng(seed)
    sums = rng.integers(-span, span, (12, 2, 9), endpoint=True)
    states = np.clip(rng.integers(-1, 2, (2, 2, 9)) * LIMIT + rng.integers(-500, 500, (2, 2, 9)), -LIMIT, LIMIT)
    expected = cuba_lif(sums.astype(np.int32), i_decay, v_decay, mantissa, initial_u=states[0], initial_v=states[1])
    after_reset = np.where(expected.s > 0, 0, expected.v_seq)
    x = torch.from_numpy(sums).float()

    for way in ("many steps", "step by step", "states stored"):
        # Half a unit above the mantissa, since what counts is the truncated threshold.
        node = CubaLIFNode(i_decay / 4096, v_decay / 4096, (mantissa + 0.5) / scale, scale=scale)
        assert node.threshold_mantissa == mantissa
        node.current_state, node.voltage_state = (torch.from_numpy(state / node.s_scale).float() for state in states)
        node.step_mode = "s" if way == "step by step" else "m"
        node.store_v_seq = node.store_i_seq = way == "states stored"
        spikes = (
            torch.stack([node(step, weight_units=True) for step in x]) if node.step_mode == "s" else node(x, weight_units=True)
        )
        np.testing.assert_array_equal(spikes.numpy(), expected.s, err_msg=way)
        np.testing.assert_array_equal(units(node, node.current_state), expected.u, err_msg=way)
        np.testing.assert_array_equal(units(node, node.voltage_state), expected.v, err_msg=way)
        if node.store_v_seq:
            np.testing.assert_array_equal(units(node, node.v_seq), after_reset)
            np.testing.assert_array_equal(units(node, node.i_seq), expected.u_seq)


def small_net(step_mode: str = "m") -> nn.Sequential:
    torch.manual_seed(3)
    net = nn.Sequential(
        BlockContainer(nn.Conv2d(1, 4, 3, padding=1, bias=False), neuron.IFNode(v_threshold=0.5), step_mode),
        BlockContainer(SumPool2d(2), neuron.LIFNode(tau=4.0, decay_input=False, v_threshold=1.5), step_mode),
        BlockContainer(nn.Flatten(), None, step_mode),
        BlockContainer(nn.Linear(36, 3, bias=False), CubaLIFNode(0.5, 0.1, 0.3), step_mode),
    )
    for parameter in net.parameters():
        nn.init.normal_(parameter, 0.1, 0.4)
    return net


def test_single_steps_equal_many_steps_and_reset_starts_afresh():
    net = small_net()
    x = (torch.rand(10, 2, 1, 6, 6) < 0.4).float()
    whole = net(x)
    assert 0.05 < whole.mean() < 0.95
    assert not torch.equal(net(x), whole), "states are kept until they are reset"
    functional.reset_net(net)
    assert torch.equal(net(x), whole)
    functional.reset_net(net)
    assert torch.equal(torch.cat([net(x[:4]), net(x[4:4]), net(x[4:])]), whole)
    functional.reset_net(net)
    functional.set_step_mode(net, "s")
    assert torch.equal(torch.stack([net(step) for step in x]), whole)
    assert torch.equal(small_net("s")(x[0]), whole[0])


def test_spikes_do_not_depend_on_the_precision_around_the_block():
    net = small_net()
    x = (torch.rand(6, 2, 1, 6, 6) < 0.4).float()
    whole = net(x)
    functional.reset_net(net)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(x.bfloat16()), whole)


def test_state_dicts_and_classes_are_those_of_spikingjelly():
    node, published = CubaLIFNode(0.2, 0.1, requires_grad=True), lava_exchange.CubaLIFNode(0.4, 0.3, requires_grad=True)
    assert isinstance(node, lava_exchange.CubaLIFNode)
    node.load_state_dict(published.state_dict())
    assert node.device_params == {"i_decay": 1638, "v_decay": 1229, "v_threshold": 64}


@pytest.mark.parametrize("kind", [neuron.IFNode, neuron.LIFNode, lava_exchange.CubaLIFNode])
def test_conversion_keeps_surrogate_and_options(kind):
    arguments = {neuron.IFNode: {}, neuron.LIFNode: {"decay_input": False}}.get(
        kind, {"current_decay": 0.5, "voltage_decay": 0.25}
    )
    given_ = kind(surrogate_function=surrogate.ATan(alpha=3.0), detach_reset=True, store_v_seq=True, **arguments)
    taken = BlockContainer(nn.Linear(2, 2, bias=False), given_).neuron
    assert taken.surrogate_function is given_.surrogate_function
    assert taken.detach_reset
    assert taken.store_v_seq


def test_learned_decays_of_a_published_neuron_stay_the_same_parameters():
    published = lava_exchange.CubaLIFNode(0.5, 0.25, requires_grad=True)
    taken = BlockContainer(nn.Linear(2, 2, bias=False), published).neuron
    assert taken.current_decay is published.current_decay
    assert taken.voltage_decay is published.voltage_decay


def straight(value: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """``whole`` in the forward pass, the gradient of ``value``."""
    return value + (whole - value).detach()


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize(("i_decay", "v_decay"), [(4096.0, 0.0), (1000.3, 400.7)])
def test_gradients_equal_those_of_the_equations(detach_reset, i_decay, v_decay):
    """The equations in real values, step by step in float64, each rounding passed straight through by autograd itself."""
    torch.manual_seed(5)
    sg, scale, mantissa, T = surrogate.ATan(), 50, 45, 7
    block = BlockContainer(
        nn.Linear(6, 4, bias=False),
        CubaLIFNode(
            i_decay / 4096,
            v_decay / 4096,
            0.91,
            scale=scale,
            requires_grad=True,
            surrogate_function=sg,
            detach_reset=detach_reset,
        ),
    )
    nn.init.normal_(block.synapse.weight, 0.2, 0.8)
    block.synapse.weight.data[0, :2] = torch.tensor([5.4, -5.4])  # beyond the range of 8 bits: no gradient there
    x = (torch.rand(T, 3, 6) < 0.5).float().requires_grad_()
    states = [(0.4 * torch.randn(3, 4)).requires_grad_() for _ in range(2)]
    block.neuron.current_state, block.neuron.voltage_state = states
    readout = torch.randn(T, 3, 4)
    final = torch.randn(2, 3, 4)
    loss = (block(x) * readout).sum() + (block.neuron.current_state * final[0] + block.neuron.voltage_state * final[1]).sum()
    leaves = [block.synapse.weight, x, *states, block.neuron.current_decay, block.neuron.voltage_decay]
    found = torch.autograd.grad(loss, leaves)

    weight, x_, u, v, di, dv = (leaf.detach().double().requires_grad_() for leaf in leaves)
    ours = [weight, x_, u, v, di, dv]
    s_scale = 64 * scale

    def kept(state: torch.Tensor, decay: torch.Tensor) -> torch.Tensor:
        real = state * (1 - straight(decay, decay.round()) / 4096)
        return straight(real, ((state * s_scale).round() * (4096 - decay.round()) / 4096).trunc() / s_scale)

    quantised = straight(weight, 2 / scale * (weight * scale / 2).round()).clamp(-256 / scale, 254 / scale)
    u, v = (straight(state, (state * s_scale).round() / s_scale) for state in (u, v))
    expected_loss = torch.zeros((), dtype=torch.float64)
    fired = 0.0
    for t in range(T):
        u = kept(u, di) + F.linear(x_[t], quantised)
        u = straight(u, (u * s_scale).round() / s_scale)
        v = kept(v, dv) + u
        spike = sg(v - (64 * mantissa + 0.5) / s_scale)
        v = v * (1 - (spike.detach() if detach_reset else spike))
        expected_loss = expected_loss + (spike * readout[t]).sum()
        fired += spike.detach().mean().item() / T
    expected_loss = expected_loss + (u * final[0] + v * final[1]).sum()
    assert 0.1 < fired < 0.9
    torch.testing.assert_close(loss.double(), expected_loss, rtol=1e-5, atol=1e-5)
    assert found[0][0, :2].abs().max() == 0
    for name, one, other in zip(
        ("weight", "x", "u", "v", "i_decay", "v_decay"), found, torch.autograd.grad(expected_loss, ours), strict=True
    ):
        torch.testing.assert_close(one.double(), other, rtol=2e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_a_small_net_learns():
    torch.manual_seed(0)
    net = nn.Sequential(
        BlockContainer(nn.Linear(20, 32, bias=False), neuron.IFNode(surrogate_function=surrogate.ATan(), detach_reset=True)),
        BlockContainer(
            nn.Linear(32, 4, bias=False), CubaLIFNode(0.8, 0.1, requires_grad=True, surrogate_function=surrogate.ATan())
        ),
    )
    for parameter in (net[0].synapse.weight, net[1].synapse.weight):
        nn.init.normal_(parameter, 0.05, 0.3)
    labels = torch.arange(16) % 4
    rates = torch.rand(4, 20)[labels]
    decays = [net[1].neuron.current_decay, net[1].neuron.voltage_decay]
    started = [decay.item() for decay in decays]
    weights = [net[0].synapse.weight, net[1].synapse.weight]
    optimizer = torch.optim.Adam([{"params": weights, "lr": 0.02}, {"params": decays, "lr": 5.0}])
    losses = []
    for _ in range(40):
        functional.reset_net(net)
        loss = F.cross_entropy(5 * net((torch.rand(12, 16, 20) < rates).float()).mean(0), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.4 * losses[0], losses
    assert all(decay.item() != start for decay, start in zip(decays, started, strict=True))


IF, FC = neuron.IFNode, {"in_features": 2, "out_features": 2, "bias": False}


def normed(current_decay: float = 1.0) -> nn.Module:
    return lava_exchange.CubaLIFNode(current_decay, 0.0, norm=lava_exchange.BatchNorm2d(3))


MISUSE = {
    "bias of a kept current": (lambda: BlockContainer(nn.Linear(2, 2), CubaLIFNode(0.5, 0.0)), "current_decay=1.0"),
    "bias before a norm": (lambda: BlockContainer(nn.Conv2d(1, 3, 1), normed()), "bias=False"),
    "v_reset": (lambda: BlockContainer(nn.Linear(**FC), IF(v_reset=0.1)), "resets to 0.1"),
    "soft reset": (lambda: BlockContainer(nn.Linear(**FC), IF(v_reset=None)), "subtraction"),
    "v_reset of CubaLIF": (lambda: CubaLIFNode(1.0, 0.0, v_reset=None), "v_reset is None"),
    "decay_input": (lambda: BlockContainer(nn.Linear(**FC), neuron.LIFNode()), "decay_input=False"),
    "neuron without counterpart": (lambda: BlockContainer(nn.Linear(**FC), neuron.ParametricLIFNode()), "ParametricLIFNode"),
    "subclass with other dynamics": (
        lambda: BlockContainer(nn.Linear(**FC), neuron.LIAFNode(act=nn.ReLU(), threshold_related=False)),
        "LIAFNode",
    ),
    "no neuron": (lambda: BlockContainer(nn.Linear(**FC), None), "NoneType"),
    "flatten with neuron": (lambda: BlockContainer(nn.Flatten(), IF()), "give None"),
    "start_dim": (lambda: BlockContainer(nn.Flatten(0), None), "start_dim=1"),
    "end_dim": (lambda: BlockContainer(layer.Flatten(1, 2), None), "end_dim=-1"),
    "average pooling": (lambda: BlockContainer(nn.AvgPool2d(2), IF()), "SumPool2d"),
    "transposed convolution": (lambda: BlockContainer(nn.ConvTranspose2d(1, 1, 2, bias=False), IF()), "ConvTranspose2d"),
    "padding mode": (
        lambda: BlockContainer(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular", bias=False), IF()),
        "circular",
    ),
    "uneven padding": (lambda: BlockContainer(nn.Conv2d(1, 1, 2, padding="same", bias=False), IF()), "odd size"),
    "norm of another kind": (lambda: CubaLIFNode(1.0, 0.0, norm=nn.BatchNorm2d(3)), "lava_exchange.BatchNorm2d"),
    "norm of a row": (lambda: BlockContainer(nn.Linear(**FC), normed()), "use norm=None"),
    "norm of other channels": (lambda: BlockContainer(nn.Conv2d(1, 2, 1, bias=False), normed()), "BatchNorm2d(2)"),
    "norm of a current that is kept": (lambda: BlockContainer(nn.Conv2d(1, 3, 1, bias=False), normed(0.5)), "current_decay=1.0"),
    "norm at a scale in between": (lambda: CubaLIFNode(1.0, 0.0, scale=100, norm=lava_exchange.BatchNorm2d(3)), "power of two"),
    "norm fed with a row": (lambda: CubaLIFNode(1.0, 0.0, norm=lava_exchange.BatchNorm2d(3))(torch.zeros(2, 3)), "images"),
    "threshold too high": (lambda: CubaLIFNode(1.0, 0.0, 131072 / 64), "131071"),
    "threshold negative": (lambda: BlockContainer(nn.Linear(**FC), IF(v_threshold=-1.0)), "change the threshold"),
    "threshold NaN": (lambda: CubaLIFNode(1.0, 0.0, float("nan")), "change the threshold"),
    "current decay of 0": (lambda: BlockContainer(nn.Linear(**FC), CubaLIFNode(0.0001, 0.0)), "NetX"),
    "decay above 1": (lambda: CubaLIFNode(1.5, 0.0), "current_decay is 1.5"),
    "decay NaN": (lambda: CubaLIFNode(1.0, float("nan")), "voltage_decay is nan"),
    "decay per channel": (lambda: CubaLIFNode(torch.rand(3), 0.0), "single number"),
    "fractional scale": (lambda: CubaLIFNode(1.0, 0.0, scale=64.5), "whole scale"),
    "scale NaN": (lambda: CubaLIFNode(1.0, 0.0, scale=float("nan")), "whole scale"),
    "scale 0": (lambda: CubaLIFNode(1.0, 0.0, scale=0), "whole scale"),
    "step mode": (lambda: BlockContainer(nn.Linear(**FC), IF(), step_mode="x"), "'s' or 'm'"),
    "sum pooling of a row": (lambda: SumPool2d(2)(torch.zeros(3, 2, 8)), "add the missing axes"),
    "input without time": (lambda: BlockContainer(nn.Linear(**FC), IF())(torch.zeros(3, 2)), "step mode"),
    "surrogate not spiking": (
        lambda: BlockContainer(nn.Linear(**FC), IF(surrogate_function=surrogate.ATan(spiking=False)))(torch.zeros(1, 1, 2)),
        "spiking=True",
    ),
    "weight of Flatten": (lambda: BlockContainer(nn.Flatten(), None).integer_weight(), "no weight"),
}


@pytest.mark.parametrize("case", MISUSE)
def test_misuse_gets_one_clear_sentence(case):
    call, hint = MISUSE[case]
    with pytest.raises(BlockError) as raised:
        call()
    message = str(raised.value)
    assert hint in message
    assert message.endswith(".")
    assert "\n" not in message


def test_weights_and_decays_that_training_destroyed_are_refused():
    block = BlockContainer(nn.Linear(2, 2, bias=False), CubaLIFNode(1.0, 0.0, requires_grad=True))
    block.neuron.voltage_decay.data.fill_(float("nan"))
    with pytest.raises(BlockError, match="NaN"):
        _ = block.neuron.device_params
    block.synapse.weight.data[0, 0] = float("inf")
    with pytest.raises(BlockError, match="infinity"):
        block.integer_weight()
