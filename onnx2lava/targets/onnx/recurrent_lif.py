"""The float neuron with feedback, as a function of its own: SpikingJelly's operators have none."""

import onnx
import onnx.parser

from custom_ops.operators import DOMAIN, OPSET

__all__ = ["RECURRENT_LIF", "recurrent_lif"]

RECURRENT_LIF = "RecurrentLIF"
"""Its name in the domain ``snn``. Its attributes are those of ``LIF`` with a hard reset, all of them given."""


def recurrent_lif() -> onnx.FunctionProto:
    """The function body: a Scan over time in float32.

    Inputs: ``x`` ``[T, N, F]``, the sums with their bias; ``recurrent_weight`` ``[F, F]``, from the first axis to the second.
    Output: the spikes ``[T, N, F]``, from v[-1] = v_reset and s[-1] = 0::

        a[t] = x[t] + s[t-1] @ recurrent_weight
        h[t] = v[t-1] - (v[t-1] - v_reset) * decay + a[t] * (decay if decay_input else 1)
        s[t] = h[t] >= v_threshold;    v[t] = v_reset where s[t], else h[t]
    """
    return onnx.parser.parse_function(f"""
        <domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
        {RECURRENT_LIF} <v_threshold, v_reset, decay, decay_input> (x, recurrent_weight) => (s)
        {{
          one = Constant <value = float {{1.0}}> ()
          threshold = Constant <value_float: float = @v_threshold> ()
          reset = Constant <value_float: float = @v_reset> ()
          share = Constant <value_float: float = @decay> ()
          decay_input_int = Constant <value_int: int = @decay_input> ()
          leaks = Cast <to = 9> (decay_input_int)
          input_share = Where (leaks, share, one)
          neurons = Shape <start = 1> (x)
          v_start = Expand (reset, neurons)
          s_start = ConstantOfShape <value = float[1] {{0.0}}> (neurons)
          v_end, s_end, s = Scan <num_scan_inputs = 1, body = step
            (float[N, F] v_in, float[N, F] s_in, float[N, F] x_t) => (float[N, F] v_out, float[N, F] s_out, float[N, F] s_t)
            {{
              feedback = MatMul (s_in, recurrent_weight)
              sum = Add (x_t, feedback)
              gap = Sub (v_in, reset)
              lost = Mul (gap, share)
              kept = Sub (v_in, lost)
              drive = Mul (sum, input_share)
              h = Add (kept, drive)
              fires = GreaterOrEqual (h, threshold)
              s_t = Cast <to = 1> (fires)
              s_out = Identity (s_t)
              v_out = Where (fires, reset, h)
            }}> (v_start, s_start, x)
        }}""")
