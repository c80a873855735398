// A recurrent layer on the GPU: the threads of a block share the neurons of one sample, and meet after each time step.
//
// Of the matrix only the rows of the neurons that fired are read, as on the CPU: each thread adds up its column. Who fired is noted in a
// list, in any order, since sums of whole numbers have one value.
#include <cuda_runtime.h>

#include <algorithm>

#include "cuda/bias.cuh"
#include "cuda/launch.h"
#include "cuda/memory.h"

namespace snn::cuda {
namespace {

struct Recurrent {
  CubaLIFParameters parameters;
  std::size_t steps;
  unsigned samples, features;
  const float* weight;
  Bias bias;
  const std::int32_t *initial_u, *initial_v;
  const float* initial_s;
  float* s;
  std::int32_t *u, *v;     // [N, F]: the final states, or memory for them
  float* final_s;
  unsigned* fired;         // [N, 2, F]: who fired in the last step, and who fires in this one
};

template <class Value>
__global__ void recurrent_cuba_lif(Recurrent layer, const Value* x) {
  // How many fired; of three steps, so that one can be set to 0 while the others are read and counted up.
  __shared__ unsigned counts[3];
  const unsigned features = layer.features, first = threadIdx.x, step = blockDim.x;
  const std::size_t sample = static_cast<std::size_t>(blockIdx.x) * features, neurons = static_cast<std::size_t>(layer.samples) * features;
  unsigned* lists = layer.fired + 2 * sample;
  if (first < 3) counts[first] = 0;
  __syncthreads();
  for (unsigned f = first; f < features; f += step) {
    layer.u[sample + f] = layer.initial_u ? layer.initial_u[sample + f] : 0;
    layer.v[sample + f] = layer.initial_v ? layer.initial_v[sample + f] : 0;
    const bool fired = layer.initial_s && layer.initial_s[sample + f] != 0.0f;
    if (fired) lists[atomicAdd(&counts[0], 1u)] = f;
    if (layer.final_s) layer.final_s[sample + f] = fired ? 1.0f : 0.0f;
  }
  __syncthreads();
  for (std::size_t t = 0; t < layer.steps; ++t) {
    const unsigned count = counts[t % 3];
    const unsigned* fired = lists + t % 2 * features;
    unsigned* fires = lists + (t + 1) % 2 * features;
    if (first == 0) counts[(t + 2) % 3] = 0;
    for (unsigned f = first; f < features; f += step) {
      const std::size_t neuron = sample + f;
      std::int32_t sums = whole(__ldcs(x + t * neurons + neuron));
#pragma unroll 4
      for (unsigned k = 0; k < count; ++k) sums = sum(sums, whole(__ldg(layer.weight + static_cast<std::size_t>(fired[k]) * features + f)));
      Cuba cuba{layer.u[neuron], layer.v[neuron]};
      const bool fires_now = cuba.step<false>(layer.parameters, shifted<6>(sums), layer.bias.of(neuron));
      layer.u[neuron] = cuba.u, layer.v[neuron] = cuba.v;
      if (fires_now) fires[atomicAdd(&counts[(t + 1) % 3], 1u)] = f;
      __stcs(layer.s + t * neurons + neuron, fires_now ? 1.0f : 0.0f);
      if (layer.final_s) layer.final_s[neuron] = fires_now ? 1.0f : 0.0f;
    }
    __syncthreads();
  }
}

}  // namespace

void launch(const RecurrentLayer& layer, void* given_stream) {
  const CubaLIFLayer& cuba = layer.cuba;
  if (cuba.neurons == 0) return;
  constexpr std::size_t most = UINT32_MAX / 2, warp = 32, most_threads = 512;
  if (layer.samples > most || layer.features > most) throw std::runtime_error("snn.RecurrentCubaLIF on the GPU: the layer is too large");
  const auto stream = static_cast<cudaStream_t>(given_stream);
  Memory memory(stream);
  Recurrent on_gpu{cuba.parameters, cuba.steps, static_cast<unsigned>(layer.samples), static_cast<unsigned>(layer.features), layer.weight,
                   bias_of(cuba), cuba.initial_u, cuba.initial_v, layer.initial_s, cuba.s, cuba.final_u, cuba.final_v, layer.final_s, nullptr};
  if (!on_gpu.u) on_gpu.u = memory.allocate<std::int32_t>(cuba.neurons);
  if (!on_gpu.v) on_gpu.v = memory.allocate<std::int32_t>(cuba.neurons);
  on_gpu.fired = memory.allocate<unsigned>(2 * cuba.neurons);
  const unsigned threads = static_cast<unsigned>(std::min(most_threads, (layer.features + warp - 1) / warp * warp));
  const unsigned samples = on_gpu.samples;
  if (cuba.x_is_float) {
    recurrent_cuba_lif<float><<<samples, threads, 0, stream>>>(on_gpu, static_cast<const float*>(cuba.x));
  } else {
    recurrent_cuba_lif<std::int32_t><<<samples, threads, 0, stream>>>(on_gpu, static_cast<const std::int32_t*>(cuba.x));
  }
  launched("snn.RecurrentCubaLIF on the GPU");
}

}  // namespace snn::cuda
