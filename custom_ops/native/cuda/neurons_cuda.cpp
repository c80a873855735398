#include "cuda/neurons_cuda.h"

#include <cuda_runtime_api.h>

#include "cuda/launch.h"
#include "neuron_kernels.h"

namespace snn {
namespace {

struct OnDevice {
  template <class Layer>
  static void run(const Layer& layer, const Context& context) {
    cuda::launch(layer, context.gpu_stream());
  }
};

// Device memory for the time of one run. Allocation and copies are in the order of one stream, so that nothing waits but the end.
class Copies {
 public:
  ~Copies() {
    for (void* memory : memory_) cudaFreeAsync(memory, stream_);
  }

  template <class T>
  T* allocate(std::size_t count) {
    void* memory = nullptr;
    cuda::check(cudaMallocAsync(&memory, count ? count * sizeof(T) : 1, stream_), "allocating GPU memory");
    memory_.push_back(memory);
    return static_cast<T*>(memory);
  }

  // A copy of `host` on the GPU; null for null.
  template <class T>
  T* in(const T* host, std::size_t count) {
    if (!host) return nullptr;
    T* device = allocate<T>(count);
    cuda::check(cudaMemcpyAsync(device, host, count * sizeof(T), cudaMemcpyHostToDevice, stream_), "copying to the GPU");
    return device;
  }

  template <class T>
  void out(T* host, const T* device, std::size_t count) {
    if (host) cuda::check(cudaMemcpyAsync(host, device, count * sizeof(T), cudaMemcpyDeviceToHost, stream_), "copying from the GPU");
  }

  void finish() const { cuda::check(cudaStreamSynchronize(stream_), "running on the GPU"); }
  void* stream() const { return stream_; }

 private:
  cudaStream_t stream_ = cudaStreamPerThread;  // many threads may run one session
  std::vector<void*> memory_;
};

struct Copying {
  static void run(const CubaLIFLayer& layer, const Context&) {
    Copies copies;
    const std::size_t values = layer.steps * layer.neurons;
    CubaLIFLayer device = layer;
    // Both element types of x, and of bias, have four bytes.
    device.x = copies.in(static_cast<const std::int32_t*>(layer.x), values);
    device.bias = copies.in(static_cast<const std::int32_t*>(layer.bias), layer.bias_over_neurons.values());
    device.initial_u = copies.in(layer.initial_u, layer.neurons);
    device.initial_v = copies.in(layer.initial_v, layer.neurons);
    device.s = copies.allocate<float>(values);
    if (layer.final_u) device.final_u = copies.allocate<std::int32_t>(layer.neurons);
    if (layer.final_v) device.final_v = copies.allocate<std::int32_t>(layer.neurons);
    cuda::launch(device, copies.stream());
    copies.out(layer.s, device.s, values);
    copies.out(layer.final_u, device.final_u, layer.neurons);
    copies.out(layer.final_v, device.final_v, layer.neurons);
    copies.finish();
  }

  static void run(const FloatLayer& layer, const Context&) {
    Copies copies;
    const std::size_t values = layer.steps * layer.neurons;
    FloatLayer device = layer;
    device.x = copies.in(layer.x, values);
    device.initial_v = copies.in(layer.initial_v, layer.neurons);
    device.s = copies.allocate<float>(values);
    if (layer.final_v) device.final_v = copies.allocate<float>(layer.neurons);
    cuda::launch(device, copies.stream());
    copies.out(layer.s, device.s, values);
    copies.out(layer.final_v, device.final_v, layer.neurons);
    copies.finish();
  }
};

}  // namespace

std::vector<const Operator*> cuda_operators() { return operators_of<OnDevice>("CUDAExecutionProvider"); }
std::vector<const Operator*> copying_operators() { return operators_of<Copying>(nullptr); }

}  // namespace snn
