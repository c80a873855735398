"""The float neuron with a decaying current, as functions of their own: with feedback and without."""

import onnx
import onnx.parser

from custom_ops.operators import DOMAIN, OPSET

__all__ = ["CURRENT_LIF", "RECURRENT_CURRENT_LIF", "current_lif", "recurrent_current_lif"]

CURRENT_LIF = "CurrentLIF"
RECURRENT_CURRENT_LIF = "RecurrentCurrentLIF"
"""Their names in the domain ``snn``."""


def current_lif() -> onnx.FunctionProto:
    """The function body: a Scan over time in float32.

    Inputs: ``x`` ``[T, N, F]``, the sums; ``bias``, broadcast to ``[F]``; and single numbers. Output: the spikes ``[T, N, F]``,
    from u[-1] = 0 and v[-1] = 0, every operation rounded in the order written, as SpikingJelly's CUBALIFNode does::

        u[t] = u[t-1] * current_kept + x[t]
        v[t] = (v[t-1] * voltage_kept + u[t]) + bias
        s[t] = v[t] >= threshold;    v[t] = 0 where s[t]
    """
    return _function(CURRENT_LIF, "", "", "sum = Identity (x_t)", "", "")


def recurrent_current_lif() -> onnx.FunctionProto:
    """The same with feedback: s[t-1] @ recurrent_weight is added to x[t]; the weight ``[F, F]`` leads from the first axis to the
    second."""
    return _function(
        RECURRENT_CURRENT_LIF,
        ", recurrent_weight",
        "float[N, F] s_in, ",
        """feedback = MatMul (s_in, recurrent_weight)
              sum = Add (x_t, feedback)""",
        ", float[N, F] s_out",
        "s_out = Identity (s_t)",
    )


def _function(name: str, weight: str, state_in: str, sums: str, state_out: str, keeps: str) -> onnx.FunctionProto:
    ends, starts = ("s_end, ", "v_start, ") if keeps else ("", "")  # without spikes, as without voltage
    return onnx.parser.parse_function(f"""
        <domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
        {name} (x, bias, current_kept, voltage_kept, threshold{weight}) => (s)
        {{
          zero = Constant <value = float {{0.0}}> ()
          neurons = Shape <start = 1> (x)
          v_start = ConstantOfShape <value = float[1] {{0.0}}> (neurons)
          u_end, v_end, {ends}s = Scan <num_scan_inputs = 1, body = step
            (float[N, F] u_in, float[N, F] v_in, {state_in}float[N, F] x_t)
            => (float[N, F] u_out, float[N, F] v_out{state_out}, float[N, F] s_t)
            {{
              {sums}
              u_kept = Mul (u_in, current_kept)
              u_out = Add (u_kept, sum)
              v_kept = Mul (v_in, voltage_kept)
              charged = Add (v_kept, u_out)
              h = Add (charged, bias)
              fires = GreaterOrEqual (h, threshold)
              s_t = Cast <to = 1> (fires)
              {keeps}
              v_out = Where (fires, zero, h)
            }}> (v_start, v_start, {starts}x)
        }}""")
