// The neurons on the GPU: a thread has one or four neighbouring neurons, keeps their states in registers and walks through all time
// steps. The input is read once and the spikes are written once, past the caches; the kernel is bound by memory.
#include "cuda/launch.h"

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#include <type_traits>

namespace snn::cuda {
namespace {

constexpr int threads_in_block = 256;
constexpr int most_axes = 8;

// How many neurons a thread has, and how many time steps it reads ahead: enough bytes in flight to hide the memory's latency even
// where a layer has too few neurons to fill the GPU.
template <int width>
constexpr int steps_ahead = width == 4 ? 4 : 8;

struct Bias {
  const void* values;  // null where there is none
  bool is_float;
  std::size_t inner, inner_step;
  int axes;
  std::size_t sizes[most_axes], steps[most_axes];

  __device__ std::int32_t shifted(std::size_t neuron) const {
    if (!values) return 0;
    std::size_t outer = neuron / inner, at = neuron % inner * inner_step;
    for (int axis = 0; axis < axes; ++axis) {
      at += outer % sizes[axis] * steps[axis];
      outer /= sizes[axis];
    }
    std::int32_t mantissa;
    if (is_float) {
      const float value = static_cast<const float*>(values)[at];
      mantissa = value > -2147483904.0f && value < 2147483648.0f ? __float2int_rz(value) : INT32_MIN;
    } else {
      mantissa = static_cast<const std::int32_t*>(values)[at];
    }
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(mantissa) << 6);
  }
};

template <class Value, int width>
struct alignas(sizeof(Value) * width) Lanes {
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

// Walks through the time steps with `step(lane, value)`, which gives the spike; the next inputs are on their way meanwhile.
template <int width, class Value, class Step>
__device__ void walk(const Value* x, float* s, std::size_t steps, std::size_t stride, Step step) {
  constexpr int ahead = steps_ahead<width>;
  Lanes<Value, width> next[ahead];
#pragma unroll
  for (int k = 0; k < ahead; ++k)
    if (k < steps) next[k] = load<Value, width>(x + k * stride);
  for (std::size_t t = 0; t < steps; t += ahead) {
    Lanes<Value, width> now[ahead];
#pragma unroll
    for (int k = 0; k < ahead; ++k) now[k] = next[k];
#pragma unroll
    for (int k = 0; k < ahead; ++k)
      if (t + ahead + k < steps) next[k] = load<Value, width>(x + (t + ahead + k) * stride);
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      if (t + k >= steps) break;
      Lanes<float, width> spikes;
#pragma unroll
      for (int lane = 0; lane < width; ++lane) spikes.value[lane] = step(lane, now[k].value[lane]);
      store<width>(s + (t + k) * stride, spikes);
    }
  }
}

__device__ std::int32_t whole(float x) { return x >= -2147483648.0f && x < 2147483648.0f ? __float2int_rn(x) : INT32_MIN; }
__device__ std::int32_t whole(std::int32_t x) { return x; }

// Sums wrap around in 32 bits, as on the CPU; unsigned numbers do so by rule.
__device__ std::int32_t sum(std::int32_t a, std::int32_t b) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
}

// state * keep / 4096, rounded toward zero: a division of whole numbers does that in C++.
__device__ std::int32_t decayed(std::int32_t state, std::int32_t keep) {
  return static_cast<std::int32_t>(static_cast<long long>(state) * keep / 4096);
}

__device__ std::int32_t wrap24(std::int32_t u) {
  if (u > 1 << 23) u -= 1 << 24;
  return u <= -(1 << 23) ? u + (1 << 24) : u;
}

template <class Value, int width>
__global__ void __launch_bounds__(threads_in_block)
    cuba_lif(CubaLIFParameters parameters, const Value* x, float* s, std::size_t steps, std::size_t neurons, Bias bias,
             const std::int32_t* initial_u, const std::int32_t* initial_v, std::int32_t* final_u, std::int32_t* final_v) {
  const std::size_t first = (static_cast<std::size_t>(blockIdx.x) * threads_in_block + threadIdx.x) * width;
  if (first >= neurons) return;
  std::int32_t u[width], v[width], shifted_bias[width];
#pragma unroll
  for (int lane = 0; lane < width; ++lane) {
    u[lane] = initial_u ? initial_u[first + lane] : 0;
    v[lane] = initial_v ? initial_v[first + lane] : 0;
    shifted_bias[lane] = bias.shifted(first + lane);
  }
  walk<width>(x + first, s + first, steps, neurons, [&](int lane, Value value) {
    const auto a = static_cast<std::int32_t>(static_cast<std::uint32_t>(whole(value)) << 6);
    u[lane] = wrap24(sum(decayed(u[lane], parameters.u_keep), a));
    const std::int32_t charged = sum(sum(decayed(v[lane], parameters.v_keep), u[lane]), shifted_bias[lane]);
    const std::int32_t clipped = min(max(charged, 1 - (1 << 23)), (1 << 23) - 1);
    const bool fired = clipped > parameters.threshold;
    v[lane] = fired ? 0 : clipped;
    return fired ? 1.0f : 0.0f;
  });
#pragma unroll
  for (int lane = 0; lane < width; ++lane) {
    if (final_u) final_u[first + lane] = u[lane];
    if (final_v) final_v[first + lane] = v[lane];
  }
}

// This file is compiled without fused multiply-add: each operation rounds by itself, as in SpikingJelly.
template <Charge charge, int width>
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
    const auto leaked = [&](float y) { return p.divides ? y / p.leak : y * p.leak; };
    float h;
    if constexpr (charge == Charge::integrate) {
      h = v[lane] + value;
    } else if constexpr (charge == Charge::decayed_input) {
      h = v[lane] + leaked(value - (v[lane] - p.v_reset));
    } else {
      h = v[lane] - leaked(v[lane] - p.v_reset) + value;
    }
    const float spike = h >= p.v_threshold ? 1.0f : 0.0f;
    v[lane] = p.soft_reset ? h - spike * p.v_threshold : spike * p.v_reset + (1.0f - spike) * h;
    return spike;
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

template <class Value, int width>
void launch_cuba_lif(const CubaLIFLayer& layer, const Bias& bias, cudaStream_t stream) {
  cuba_lif<Value, width><<<blocks(layer.neurons, width), threads_in_block, 0, stream>>>(
      layer.parameters, static_cast<const Value*>(layer.x), layer.s, layer.steps, layer.neurons, bias, layer.initial_u,
      layer.initial_v, layer.final_u, layer.final_v);
}

template <Charge charge>
void launch_float_neuron(const FloatLayer& layer, bool wide, cudaStream_t stream) {
  const auto arguments = [&](auto kernel, int width) {
    kernel<<<blocks(layer.neurons, width), threads_in_block, 0, stream>>>(layer.parameters, layer.x, layer.s, layer.steps,
                                                                          layer.neurons, layer.initial_v, layer.final_v);
  };
  wide ? arguments(float_neuron<charge, 4>, 4) : arguments(float_neuron<charge, 1>, 1);
}

Bias bias_of(const CubaLIFLayer& layer) {
  const Broadcast& map = layer.bias_over_neurons;
  Bias bias{layer.bias, layer.bias_is_float, map.inner(), map.inner_step(), static_cast<int>(map.outer_axes()), {}, {}};
  if (map.outer_axes() > most_axes) throw std::runtime_error("bias broadcasts over more separate axes than the GPU kernel takes");
  for (std::size_t axis = 0; axis < map.outer_axes(); ++axis)
    bias.sizes[axis] = map.outer_size(axis), bias.steps[axis] = map.outer_step(axis);
  return bias;
}

}  // namespace

void check(int status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(static_cast<cudaError_t>(status)));
}

void launch(const CubaLIFLayer& layer, void* stream) {
  if (layer.neurons == 0) return;
  const auto on = static_cast<cudaStream_t>(stream);
  const Bias bias = bias_of(layer);
  const bool wide = four_wide(layer.neurons, layer.x, layer.s);
  if (layer.x_is_float) {
    wide ? launch_cuba_lif<float, 4>(layer, bias, on) : launch_cuba_lif<float, 1>(layer, bias, on);
  } else {
    wide ? launch_cuba_lif<std::int32_t, 4>(layer, bias, on) : launch_cuba_lif<std::int32_t, 1>(layer, bias, on);
  }
  check(cudaGetLastError(), "snn.CubaLIF on the GPU");
}

void launch(const FloatLayer& layer, void* stream) {
  if (layer.neurons == 0) return;
  const auto on = static_cast<cudaStream_t>(stream);
  const bool wide = four_wide(layer.neurons, layer.x, layer.s);
  switch (layer.parameters.charge) {
    case Charge::integrate:
      launch_float_neuron<Charge::integrate>(layer, wide, on);
      break;
    case Charge::decayed_input:
      launch_float_neuron<Charge::decayed_input>(layer, wide, on);
      break;
    case Charge::plain_input:
      launch_float_neuron<Charge::plain_input>(layer, wide, on);
      break;
  }
  check(cudaGetLastError(), "a float neuron on the GPU");
}

}  // namespace snn::cuda
