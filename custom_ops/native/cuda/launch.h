// Runs a layer on the GPU. The layer's pointers are device memory.
#pragma once

#include "block.h"
#include "layer.h"
#include "recurrent.h"
#include "training.h"

namespace snn::cuda {

// Puts the layer onto `stream` (a cudaStream_t) and returns at once. Throws std::runtime_error where CUDA refuses.
void launch(const CubaLIFLayer& layer, void* stream);
void launch(const FloatLayer& layer, void* stream);
void launch(const BlockLayer& layer, void* stream);
void launch(const RecurrentLayer& layer, void* stream);
// Likewise, on a stream of that GPU; the caller has looked at the call with training_problem.
void launch(const TrainingForward& call, int device, void* stream);
void launch(const TrainingBackward& call, int device, void* stream);

// Throws std::runtime_error with CUDA's own words where `status`, a cudaError_t, is not success.
void check(int status, const char* what);

// Counts kernels that were put onto a stream, and throws where CUDA refused the last one.
void launched(const char* what);
// How many there were since the process started.
std::uint64_t launches();

}  // namespace snn::cuda
