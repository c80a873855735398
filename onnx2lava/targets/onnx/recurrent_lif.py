"""The float neuron with feedback, as a function of its own: SpikingJelly's operators have none."""

import onnx
import onnx.parser

from custom_ops.operators import DOMAIN, OPSET

__all__ = ["RECURRENT_LIF", "recurrent_lif"]

RECURRENT_LIF = "RecurrentLIF"
"""Its name in the domain ``snn``."""


def recurrent_lif() -> onnx.FunctionProto:
    """The function body: a Scan over time in float32, which ``load`` reads like that of any recurrent container.

    Inputs: ``x`` ``[T, N, F]``, the sums with their bias; ``recurrent_weight`` ``[F, F]``, from the first axis to the second;
    ``keep``, what a time step leaves of the membrane potential; ``v_threshold``. Output: the spikes ``[T, N, F]``::

        h[t] = v[t-1] * keep + (x[t] + s[t-1] @ recurrent_weight)
        s[t] = h[t] >= v_threshold;    v[t] = 0 where s[t], else h[t]
    """
    return onnx.parser.parse_function(f"""
        <domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>
        {RECURRENT_LIF} (x, recurrent_weight, keep, v_threshold) => (s)
        {{
          neurons = Shape <start = 1> (x)
          rest = ConstantOfShape <value = float[1] {{0.0}}> (neurons)
          v_end, s_end, s = Scan <num_scan_inputs = 1, body = step
            (float[N, F] v_in, float[N, F] s_in, float[N, F] x_t) => (float[N, F] v_out, float[N, F] s_out, float[N, F] s_t)
            {{
              feedback = MatMul (s_in, recurrent_weight)
              sum = Add (x_t, feedback)
              kept = Mul (v_in, keep)
              h = Add (kept, sum)
              fires = GreaterOrEqual (h, v_threshold)
              s_t = Cast <to = 1> (fires)
              s_out = Identity (s_t)
              one = Constant <value = float {{1.0}}> ()
              quiet = Sub (one, s_t)
              v_out = Mul (quiet, h)
            }}> (rest, rest, x)
        }}""")
