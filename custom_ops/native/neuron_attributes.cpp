#include <cfloat>

#include "neuron_kernels.h"

namespace snn {

constexpr std::int64_t unity = 4096;  // decays are fractions of 2**12

CubaLIFParameters cuba_lif_parameters(const Node& node) {
  CubaLIFParameters parameters{};
  parameters.u_keep = static_cast<std::int32_t>(unity - node.integer("i_decay", 0, unity));
  parameters.v_keep = static_cast<std::int32_t>(unity - node.integer("v_decay", 0, unity));
  parameters.threshold = static_cast<std::int32_t>(node.integer("v_threshold", 0, 131071)) << 6;
  return parameters;
}

FloatParameters if_parameters(const Node& node) {
  FloatParameters parameters{};
  parameters.charge = Charge::integrate;
  if (!node.real("v_threshold", parameters.v_threshold)) node.fail("it needs the float attribute v_threshold");
  parameters.soft_reset = !node.real("v_reset", parameters.v_reset);
  return parameters;
}

FloatParameters lif_parameters(const Node& node) {
  FloatParameters parameters = if_parameters(node);
  parameters.charge = node.flag("decay_input", true) ? Charge::decayed_input : Charge::plain_input;
  float tau = 0, decay = 0;
  parameters.divides = node.real("tau", tau);
  if (node.real("decay", decay) == parameters.divides) node.fail("it needs either the float attribute tau or decay");
  parameters.leak = parameters.divides ? node.real("tau", tau, 1.0f, FLT_MAX) : node.real("decay", decay, 0.0f, 1.0f);
  return parameters;
}

}  // namespace snn
