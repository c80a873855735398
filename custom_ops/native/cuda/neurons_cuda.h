// The operators of the domain "snn" on the GPU.
#pragma once

#include <vector>

#include "operator.h"

namespace snn {

// For onnxruntime's CUDA provider, whose name this is: on its stream, in its memory.
std::vector<const Operator*> cuda_operators(const char* provider);

// For onnxruntime's CPU provider: inputs are copied to the GPU, outputs back.
std::vector<const Operator*> copying_operators();

}  // namespace snn
