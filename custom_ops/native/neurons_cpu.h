// The operators of the domain "snn" on the CPU.
#pragma once

#include "layer.h"
#include "operator.h"

namespace snn {

// The attributes of a node, checked, in the form that the kernels use.
CubaLIFParameters cuba_lif_parameters(const Node& node);
FloatParameters if_parameters(const Node& node);
FloatParameters lif_parameters(const Node& node);

// Every operator of the domain for onnxruntime's CPU provider; they live as long as the process.
std::vector<const Operator*> cpu_operators();

}  // namespace snn
