// The operator snn.RecurrentCubaLIF: CUBA neurons whose spikes come back, on the CPU.
#pragma once

#include <vector>

#include "operator.h"

namespace snn {

// One operator for each combination of element types; they live as long as the process.
std::vector<const Operator*> recurrent_operators();

}  // namespace snn
