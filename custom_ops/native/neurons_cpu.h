// The operators of the domain "snn" on the CPU.
#pragma once

#include <vector>

#include "operator.h"

namespace snn {

// Every operator of the domain for onnxruntime's CPU provider; they live as long as the process.
std::vector<const Operator*> cpu_operators();

}  // namespace snn
