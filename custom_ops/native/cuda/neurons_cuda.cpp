#include "cuda/neurons_cuda.h"

#include <cuda_runtime_api.h>

#include "block_kernel.h"
#include "cuda/launch.h"
#include "cuda/memory.h"
#include "neuron_kernels.h"
#include "recurrent_kernel.h"

namespace snn {
namespace {

struct OnDevice {
  template <class Layer>
  static void run(const Layer& layer, const Context& context) {
    cuda::launch(layer, context.gpu_stream());
  }
};

// Copies of tensors in the GPU's memory.
class Copies {
 public:
  // Where something failed, what was put onto the stream before may still use the tensors.
  ~Copies() {
    if (!finished_) cudaStreamSynchronize(stream_);
  }

  // A copy of `host` on the GPU; null for null.
  template <class T>
  T* in(const T* host, std::size_t count) {
    if (!host) return nullptr;
    T* device = memory_.allocate<T>(count);
    cuda::check(cudaMemcpyAsync(device, host, count * sizeof(T), cudaMemcpyHostToDevice, stream_), "copying to the GPU");
    return device;
  }

  // Room on the GPU for what is to become `host`; null for null.
  template <class T>
  T* room(const T* host, std::size_t count) {
    return host ? memory_.allocate<T>(count) : nullptr;
  }

  template <class T>
  void out(T* host, const T* device, std::size_t count) {
    if (host) cuda::check(cudaMemcpyAsync(host, device, count * sizeof(T), cudaMemcpyDeviceToHost, stream_), "copying from the GPU");
  }

  void finish() {
    finished_ = true;
    cuda::check(cudaStreamSynchronize(stream_), "running on the GPU");
  }
  void* stream() const { return stream_; }

 private:
  cudaStream_t stream_ = cudaStreamPerThread;  // many threads may run one session
  cuda::Memory memory_{stream_};
  bool finished_ = false;
};

struct Copying {
  static void run(const CubaLIFLayer& layer, const Context&) {
    Copies copies;
    const CubaLIFLayer device = cuba(copies, layer);
    cuda::launch(device, copies.stream());
    cuba_out(copies, layer, device);
    copies.finish();
  }

  static void run(const FloatLayer& layer, const Context&) {
    Copies copies;
    const std::size_t values = layer.steps * layer.neurons;
    FloatLayer device = layer;
    device.x = copies.in(layer.x, values);
    device.initial_v = copies.in(layer.initial_v, layer.neurons);
    device.s = copies.room(layer.s, values);
    device.final_v = copies.room(layer.final_v, layer.neurons);
    cuda::launch(device, copies.stream());
    copies.out(layer.s, device.s, values);
    copies.out(layer.final_v, device.final_v, layer.neurons);
    copies.finish();
  }

  static void run(const BlockLayer& layer, const Context&) {
    Copies copies;
    const std::size_t places = layer.samples * layer.out_height * layer.out_width, pixels = layer.samples * layer.height * layer.width;
    const std::size_t sixteens = (layer.channels + block_lanes - 1) / block_lanes;
    const std::size_t packed = places * layer.lane_blocks() * layer.steps * block_lanes, values = places * layer.outputs * layer.steps;
    BlockLayer device = layer;
    device.real_x = copies.in(layer.real_x, layer.steps * pixels * layer.channels);
    device.spikes_x = copies.in(layer.spikes_x, pixels * sixteens * layer.steps * block_lanes);
    device.weights = copies.in(layer.weights, layer.lane_blocks() * layer.groups() * block_lanes * 4);
    device.bias = copies.in(layer.bias, layer.outputs);
    device.spikes = copies.room(layer.spikes, packed);
    device.s = copies.room(layer.s, values);
    cuda::launch(device, copies.stream());
    copies.out(layer.spikes, device.spikes, packed);
    copies.out(layer.s, device.s, values);
    copies.finish();
  }

  static void run(const RecurrentLayer& layer, const Context&) {
    Copies copies;
    RecurrentLayer device = layer;
    device.cuba = cuba(copies, layer.cuba);
    device.weight = copies.in(layer.weight, layer.features * layer.features);
    device.initial_s = copies.in(layer.initial_s, layer.cuba.neurons);
    device.final_s = copies.room(layer.final_s, layer.cuba.neurons);
    cuda::launch(device, copies.stream());
    cuba_out(copies, layer.cuba, device.cuba);
    copies.out(layer.final_s, device.final_s, layer.cuba.neurons);
    copies.finish();
  }

 private:
  static CubaLIFLayer cuba(Copies& copies, const CubaLIFLayer& layer) {
    const std::size_t values = layer.steps * layer.neurons;
    CubaLIFLayer device = layer;
    // Both element types of x, and of bias, have four bytes.
    device.x = copies.in(static_cast<const std::int32_t*>(layer.x), values);
    device.bias = copies.in(static_cast<const std::int32_t*>(layer.bias), layer.bias_over_neurons.values());
    device.initial_u = copies.in(layer.initial_u, layer.neurons);
    device.initial_v = copies.in(layer.initial_v, layer.neurons);
    device.s = copies.room(layer.s, values);
    device.final_u = copies.room(layer.final_u, layer.neurons);
    device.final_v = copies.room(layer.final_v, layer.neurons);
    return device;
  }

  static void cuba_out(Copies& copies, const CubaLIFLayer& layer, const CubaLIFLayer& device) {
    copies.out(layer.s, device.s, layer.steps * layer.neurons);
    copies.out(layer.final_u, device.final_u, layer.neurons);
    copies.out(layer.final_v, device.final_v, layer.neurons);
  }
};

template <class Place>
std::vector<const Operator*> all(const char* provider) {
  std::vector<const Operator*> operators = operators_of<Place>(provider);
  for (const Operator* block : block_operators_of<Place>(provider)) operators.push_back(block);
  for (const Operator* recurrent : recurrent_operators_of<Place>(provider)) operators.push_back(recurrent);
  return operators;
}

}  // namespace

std::vector<const Operator*> cuda_operators(const char* provider) { return all<OnDevice>(provider); }
std::vector<const Operator*> copying_operators() { return all<Copying>(nullptr); }

}  // namespace snn
