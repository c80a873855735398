// The operator snn.CubaBlock: a synapse and its CubaLIF neurons in one, on the CPU.
#pragma once

#include <vector>

#include "operator.h"

namespace snn {

// One operator for each element type of the input; they live as long as the process.
std::vector<const Operator*> block_operators();

}  // namespace snn
