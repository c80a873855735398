// Memory of the GPU for the time of one run. Allocation, copies and release are in the order of one stream, so that nothing waits for them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <vector>

#include "cuda/launch.h"

namespace snn::cuda {

// Keeps what is released for the next run, where the GPU has memory pools: without that, every wait for a stream would give it back to the
// driver. Once for each GPU.
void keep_memory();

class Memory {
 public:
  explicit Memory(void* stream) : stream_(static_cast<cudaStream_t>(stream)) { keep_memory(); }
  Memory(const Memory&) = delete;
  ~Memory() {
    for (void* memory : memory_) cudaFreeAsync(memory, stream_);
  }

  template <class T>
  T* allocate(std::size_t count) {
    void* memory = nullptr;
    check(cudaMallocAsync(&memory, count ? count * sizeof(T) : 1, stream_), "allocating GPU memory");
    memory_.push_back(memory);
    return static_cast<T*>(memory);
  }

 private:
  cudaStream_t stream_;
  std::vector<void*> memory_;
};

}  // namespace snn::cuda
