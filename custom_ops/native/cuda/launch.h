// Runs a layer of neurons on the GPU. The layer's pointers are device memory.
#pragma once

#include "layer.h"

namespace snn::cuda {

// Puts the layer onto `stream` (a cudaStream_t) and returns at once. Throws std::runtime_error where CUDA refuses.
void launch(const CubaLIFLayer& layer, void* stream);
void launch(const FloatLayer& layer, void* stream);

// Throws std::runtime_error with CUDA's own words where `status`, a cudaError_t, is not success.
void check(int status, const char* what);

}  // namespace snn::cuda
