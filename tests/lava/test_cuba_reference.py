"""`reference.cuba_lif` against Lava's own bit-accurate model of Loihi's neuron, state by state."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lava.proc.lif.models import PyLifModelBitAcc

from custom_ops import reference

from ..custom_ops.one_node import Case, cuba_lif_cases


def lava_model(i_decay: int, v_decay: int, v_threshold: int, bias: np.ndarray, u: np.ndarray, v: np.ndarray) -> PyLifModelBitAcc:
    """Lava's process model with its variables set as NetX sets them: it adds 1 to du itself."""
    model = PyLifModelBitAcc({})
    model.du, model.dv, model.vth = i_decay - 1, v_decay, v_threshold
    model.bias_mant, model.bias_exp = bias, np.full_like(bias, 6)
    model.u, model.v = u.copy(), v.copy()
    model.scale_bias()
    model.scale_threshold()
    return model


def check(case: Case) -> None:
    x = case.inputs["x"]
    neurons = x.shape[1:]
    a = np.rint(x).astype(np.int32)
    bias = np.array(np.broadcast_to(case.inputs.get("bias", np.int32(0)), neurons), np.int32)
    u, v = (case.inputs.get(name, np.zeros(neurons, np.int32)) for name in ("initial_u", "initial_v"))
    model = lava_model(**case.attributes, bias=bias, u=u, v=v)
    ours = reference.cuba_lif(x, **case.attributes, bias=bias, initial_u=u, initial_v=v)
    for t in range(len(x)):
        # Lava's run_spk, without its ports.
        model.subthr_dynamics(a[t])
        spikes = model.spiking_activation()
        np.testing.assert_array_equal(ours.u_seq[t], model.u)
        np.testing.assert_array_equal(ours.v_seq[t], model.v)
        np.testing.assert_array_equal(ours.s[t], spikes)
        model.reset_voltage(spikes)
    np.testing.assert_array_equal(ours.u, model.u)
    np.testing.assert_array_equal(ours.v, model.v)


def limits(sign: int, **attributes: int) -> Case:
    """A neuron that is driven to the ends of its 24 bits and stays there."""
    x = np.full((40, 1, 3), sign * 50_000, np.int32) + np.int32([0, 1, 7])
    return Case("CubaLIF", {"i_decay": 10, "v_decay": 0, "v_threshold": 131071} | attributes, {"x": x})


@given(cuba_lif_cases())
@example(limits(1))
@example(limits(-1))
@example(limits(-1, i_decay=4096, v_decay=4096))
@example(limits(1, v_threshold=0))
@settings(deadline=None, max_examples=400)
def test_every_state_equals_lavas(case: Case) -> None:
    check(case)


@given(st.integers(-(2**23) + 1, 2**23 - 1), st.integers(0, 4096))
@settings(deadline=None, max_examples=300)
def test_decay_rounds_toward_zero(state: int, decay: int) -> None:
    x = np.zeros((1, 1, 1), np.int32)
    start = np.full((1, 1), state, np.int32)
    check(
        Case(
            "CubaLIF",
            {"i_decay": decay, "v_decay": decay, "v_threshold": 131071},
            {"x": x, "initial_u": start, "initial_v": start},
        )
    )
    expected = int(abs(state) * (4096 - decay) // 4096) * (1 if state >= 0 else -1)
    assert reference.cuba_lif(x, decay, 4096, 131071, initial_u=start).u == expected
