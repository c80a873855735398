// Layers of neurons on the GPU: a thread has one or four neighbouring neurons, keeps their states in registers and walks through all time
// steps. The input is read once and the spikes are written once, past the caches; the kernel is bound by memory.
#include <cuda_runtime.h>

#include <cmath>
#include <type_traits>

#include "cuda/bias.cuh"
#include "cuda/launch.h"
#include "cuda/neuron.cuh"

namespace snn::cuda {
namespace {

constexpr int threads_in_block = 256;

// How many time steps a thread reads ahead: enough bytes in flight to hide the memory's latency even where a layer has too few neurons
// to fill the GPU.
template <int width>
constexpr int steps_ahead = width == 4 ? 4 : 8;

template <class Value, int width>
struct Lanes {
  Value value[width];
};

// Past the caches: nothing is read or written twice.
template <class Value, int width>
__device__ Lanes<Value, width> load(const Value* from) {
  Lanes<Value, width> lanes;
  if constexpr (width == 1) {
    lanes.value[0] = __ldcs(from);
  } else {
    using Four = std::conditional_t<std::is_same_v<Value, float>, float4, int4>;
    const Four four = __ldcs(reinterpret_cast<const Four*>(from));
    lanes.value[0] = four.x, lanes.value[1] = four.y, lanes.value[2] = four.z, lanes.value[3] = four.w;
  }
  return lanes;
}

template <int width>
__device__ void store(float* to, const Lanes<float, width>& lanes) {
  if constexpr (width == 1) {
    __stcs(to, lanes.value[0]);
  } else {
    __stcs(reinterpret_cast<float4*>(to), make_float4(lanes.value[0], lanes.value[1], lanes.value[2], lanes.value[3]));
  }
}

// Walks through the time steps with `step(lane, value)`, which gives the spike. Steps go in groups: while one is computed, the input of
// the next is on its way. No step of a whole group asks whether it is one, and places in memory are counted up, not multiplied out.
template <int width, class Value, class Step>
__device__ void walk(const Value* x, float* s, std::size_t steps, std::size_t stride, Step step) {
  constexpr int ahead = steps_ahead<width>;
  Lanes<Value, width> group[ahead];
  const auto read = [&](int k) { group[k] = load<Value, width>(x), x += stride; };
  const auto take = [&](const Lanes<Value, width>& lanes) {
    Lanes<float, width> spikes;
#pragma unroll
    for (int lane = 0; lane < width; ++lane) spikes.value[lane] = step(lane, lanes.value[lane]) ? 1.0f : 0.0f;
    store<width>(s, spikes), s += stride;
  };

  std::size_t left = steps;
  if (left >= ahead) {
#pragma unroll
    for (int k = 0; k < ahead; ++k) read(k);
    for (; left >= 2 * ahead; left -= ahead) {
      Lanes<Value, width> now[ahead];
#pragma unroll
      for (int k = 0; k < ahead; ++k) now[k] = group[k];
#pragma unroll
      for (int k = 0; k < ahead; ++k) read(k);
#pragma unroll
      for (int k = 0; k < ahead; ++k) take(now[k]);
    }
#pragma unroll
    for (int k = 0; k < ahead; ++k) take(group[k]);
    left -= ahead;
  }
#pragma unroll
  for (unsigned k = 0; k < ahead - 1; ++k)
    if (k < left) read(k);
#pragma unroll
  for (unsigned k = 0; k < ahead - 1; ++k)
    if (k < left) take(group[k]);
}

template <bool is_if, class Value, int width>
__global__ void __launch_bounds__(threads_in_block)
    cuba_lif(CubaLIFParameters parameters, const Value* x, float* s, std::size_t steps, std::size_t neurons, Bias bias,
             const std::int32_t* initial_u, const std::int32_t* initial_v, std::int32_t* final_u, std::int32_t* final_v) {
  const std::size_t first = (static_cast<std::size_t>(blockIdx.x) * threads_in_block + threadIdx.x) * width;
  if (first >= neurons) return;
  Cuba cuba[width];
  std::int32_t shifted_bias[width];
#pragma unroll
  for (int lane = 0; lane < width; ++lane) {
    cuba[lane].u = initial_u ? initial_u[first + lane] : 0;
    cuba[lane].v = initial_v ? initial_v[first + lane] : 0;
    shifted_bias[lane] = bias.of(first + lane);
  }
  walk<width>(x + first, s + first, steps, neurons,
              [&](int lane, Value value) { return cuba[lane].template step<is_if>(parameters, shifted<6>(whole(value)), shifted_bias[lane]); });
#pragma unroll
  for (int lane = 0; lane < width; ++lane) {
    if (final_u) final_u[first + lane] = cuba[lane].u;
    if (final_v) final_v[first + lane] = cuba[lane].v;
  }
}

// This file is compiled without fused multiply-add: each operation rounds by itself, as in SpikingJelly.
template <Charge charge, bool divides, int width>
__global__ void __launch_bounds__(threads_in_block)
    float_neuron(FloatParameters parameters, const float* x, float* s, std::size_t steps, std::size_t neurons,
                 const float* initial_v, float* final_v) {
  const std::size_t first = (static_cast<std::size_t>(blockIdx.x) * threads_in_block + threadIdx.x) * width;
  if (first >= neurons) return;
  const FloatParameters& p = parameters;
  float v[width];
#pragma unroll
  for (int lane = 0; lane < width; ++lane) v[lane] = initial_v ? initial_v[first + lane] : p.v_reset;
  walk<width>(x + first, s + first, steps, neurons, [&](int lane, float value) {
    const auto leaked = [&](float y) { return divides ? y / p.leak : y * p.leak; };
    float h;
    if constexpr (charge == Charge::integrate) {
      h = v[lane] + value;
    } else if constexpr (charge == Charge::decayed_input) {
      h = v[lane] + leaked(value - (v[lane] - p.v_reset));
    } else {
      h = v[lane] - leaked(v[lane] - p.v_reset) + value;
    }
    const bool fired = h >= p.v_threshold;
    const float spike = fired ? 1.0f : 0.0f;
    v[lane] = p.soft_reset ? h - spike * p.v_threshold : spike * p.v_reset + (1.0f - spike) * h;
    return fired;
  });
#pragma unroll
  for (int lane = 0; lane < width; ++lane)
    if (final_v) final_v[first + lane] = v[lane];
}

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

// Whether threads of four neurons are enough to fill the GPU, and can be: every row then starts at a multiple of 16 bytes.
bool four_wide(std::size_t neurons, const void* x, const void* s) {
  if (neurons % 4 || !aligned(x) || !aligned(s)) return false;
  int device = 0, processors = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  return neurons / 4 >= static_cast<std::size_t>(processors) * 2 * threads_in_block;
}

dim3 blocks(std::size_t neurons, int width) {
  return dim3(static_cast<unsigned>((neurons / width + (neurons % width != 0) + threads_in_block - 1) / threads_in_block));
}

template <bool is_if, class Value, int width>
void launch_cuba_lif(const CubaLIFLayer& layer, const Bias& bias, cudaStream_t stream) {
  cuba_lif<is_if, Value, width><<<blocks(layer.neurons, width), threads_in_block, 0, stream>>>(
      layer.parameters, static_cast<const Value*>(layer.x), layer.s, layer.steps, layer.neurons, bias, layer.initial_u,
      layer.initial_v, layer.final_u, layer.final_v);
}

template <bool is_if>
void launch_cuba_lif(const CubaLIFLayer& layer, const Bias& bias, cudaStream_t stream) {
  const bool wide = four_wide(layer.neurons, layer.x, layer.s);
  if (layer.x_is_float) {
    wide ? launch_cuba_lif<is_if, float, 4>(layer, bias, stream) : launch_cuba_lif<is_if, float, 1>(layer, bias, stream);
  } else {
    wide ? launch_cuba_lif<is_if, std::int32_t, 4>(layer, bias, stream) : launch_cuba_lif<is_if, std::int32_t, 1>(layer, bias, stream);
  }
}

template <Charge charge, bool divides, int width>
void launch_float_neuron(const FloatLayer& layer, cudaStream_t stream) {
  float_neuron<charge, divides, width><<<blocks(layer.neurons, width), threads_in_block, 0, stream>>>(
      layer.parameters, layer.x, layer.s, layer.steps, layer.neurons, layer.initial_v, layer.final_v);
}

template <Charge charge, bool divides = false>
void launch_float_neuron(const FloatLayer& layer, cudaStream_t stream) {
  if (four_wide(layer.neurons, layer.x, layer.s)) {
    launch_float_neuron<charge, divides, 4>(layer, stream);
  } else {
    launch_float_neuron<charge, divides, 1>(layer, stream);
  }
}

// A division takes ten instructions. By a power of two it is a multiplication, which rounds to the same number.
FloatParameters without_division(FloatParameters parameters) {
  int exponent = 0;
  if (parameters.divides && std::frexp(parameters.leak, &exponent) == 0.5f && parameters.leak <= 0x1p100f)
    parameters.divides = false, parameters.leak = 1.0f / parameters.leak;
  return parameters;
}

}  // namespace

void launch(const CubaLIFLayer& layer, void* stream) {
  if (layer.neurons == 0) return;
  const auto on = static_cast<cudaStream_t>(stream);
  const Bias bias = bias_of(layer);
  is_if(layer.parameters) ? launch_cuba_lif<true>(layer, bias, on) : launch_cuba_lif<false>(layer, bias, on);
  launched("snn.CubaLIF on the GPU");
}

void launch(const FloatLayer& given, void* stream) {
  if (given.neurons == 0) return;
  FloatLayer layer = given;
  layer.parameters = without_division(given.parameters);
  const auto on = static_cast<cudaStream_t>(stream);
  const bool divides = layer.parameters.divides;
  switch (layer.parameters.charge) {
    case Charge::integrate:
      launch_float_neuron<Charge::integrate>(layer, on);
      break;
    case Charge::decayed_input:
      divides ? launch_float_neuron<Charge::decayed_input, true>(layer, on) : launch_float_neuron<Charge::decayed_input>(layer, on);
      break;
    case Charge::plain_input:
      divides ? launch_float_neuron<Charge::plain_input, true>(layer, on) : launch_float_neuron<Charge::plain_input>(layer, on);
      break;
  }
  launched("a float neuron on the GPU");
}

}  // namespace snn::cuda
