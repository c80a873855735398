// CUBA neurons for training on the GPU: a thread has one neuron, keeps its states in registers and walks through all time steps, forward
// and, in another kernel, back again. The arithmetic is that of kernels/training.h, operation by operation, so that spikes are the same.
#include <cuda_runtime.h>

#include "cuda/launch.h"
#include "kernels/tile.h"
#include "training.h"

namespace snn::cuda {
namespace {

constexpr int threads_in_block = 256;
constexpr int steps_ahead = 4;  // read at once, so that some bytes are in flight while a thread waits for the first
constexpr float half_range = 8388608.0f;  // 2**23: the registers have 24 bits with sign

template <class Real>
__device__ inline Real wrapped_once(Real u) {
  u = u > Real(half_range) ? u - 2 * Real(half_range) : u;
  return u <= -Real(half_range) ? u + 2 * Real(half_range) : u;
}

// A state before the first step, in state units: in double the product comes nearer than 0.5 to the whole number that a float had to round.
__device__ inline float units(float real, double s_scale) { return static_cast<float>(rint(static_cast<double>(real) * s_scale)); }

template <TrainingInput input>
__device__ inline float arriving(const TrainingForward& call, float x, float mean, float inverse_std) {
  if constexpr (input == TrainingInput::weight_units) return rintf(x) * 64.0f;
  if constexpr (input == TrainingInput::real_values) return truncf(x * static_cast<float>(call.s_scale));
  return truncf((x * static_cast<float>(call.unit) - mean) * inverse_std * static_cast<float>(call.s_scale));
}

template <TrainingInput input, bool current_is_kept, bool leaks>
__global__ void __launch_bounds__(threads_in_block) training_forward(TrainingForward call) {
  const std::int64_t neuron = static_cast<std::int64_t>(blockIdx.x) * threads_in_block + threadIdx.x;
  if (neuron >= call.neurons) return;
  const double i_keep = call.i_keep / 4096.0, v_keep = call.v_keep / 4096.0;
  const float threshold = static_cast<float>(call.threshold), s_scale = static_cast<float>(call.s_scale);
  const std::int64_t channel = call.channels > 0 ? neuron / call.inner % call.channels : 0;
  const float bias = call.bias ? call.bias[channel] : 0.0f;
  float u = units(call.current[neuron], call.s_scale), v = units(call.voltage[neuron], call.s_scale);
  double kept = u;
  for (std::int64_t first = 0; first < call.steps; first += steps_ahead) {
    float x[steps_ahead];
#pragma unroll
    for (int k = 0; k < steps_ahead; ++k)
      if (first + k < call.steps) x[k] = call.x[(first + k) * call.neurons + neuron];
#pragma unroll
    for (int k = 0; k < steps_ahead; ++k) {
      const std::int64_t t = first + k, at = t * call.neurons + neuron;
      if (t >= call.steps) break;
      float mean = 0.0f, inverse_std = 1.0f;
      if constexpr (input == TrainingInput::normed) mean = call.means[t * call.channels + channel], inverse_std = call.inverse_stds[t];
      const float arrived = arriving<input>(call, x[k], mean, inverse_std);
      if constexpr (current_is_kept) {
        kept = wrapped_once(trunc(kept * i_keep) + static_cast<double>(arrived));
        u = static_cast<float>(kept);
      } else {
        u = call.bias ? wrapped_once(arrived - bias) + bias : wrapped_once(arrived);
      }
      float charged = u + (leaks ? static_cast<float>(trunc(static_cast<double>(v) * v_keep)) : v);
      charged = charged < 1.0f - half_range ? 1.0f - half_range : charged;  // what is not a number stays so
      charged = charged > half_range - 1.0f ? half_range - 1.0f : charged;
      const bool fired = charged > threshold;
      v = fired ? 0.0f : charged;
      call.spikes[at] = fired ? 1.0f : 0.0f;
      if (call.charged) call.charged[at] = charged;
      if (call.currents) call.currents[at] = u / s_scale;
      if (call.voltages) call.voltages[at] = v / s_scale;
    }
  }
  call.last_current[neuron] = u / s_scale;
  call.last_voltage[neuron] = v / s_scale;
}

template <bool current_is_kept, bool through_reset>
__global__ void __launch_bounds__(threads_in_block) training_backward(TrainingBackward call) {
  const std::int64_t neuron = static_cast<std::int64_t>(blockIdx.x) * threads_in_block + threadIdx.x;
  if (neuron >= call.neurons) return;
  const float threshold = static_cast<float>(call.threshold), unit = static_cast<float>(1.0 / call.s_scale);
  const float i_keep = static_cast<float>(call.i_keep) / 4096, v_keep = static_cast<float>(call.v_keep) / 4096;
  float grad_u = call.grad_last_current ? call.grad_last_current[neuron] : 0.0f;  // what later steps want of the current
  float grad_v = call.grad_last_voltage ? call.grad_last_voltage[neuron] : 0.0f;  // with respect to the voltage after the reset
  double i_sum = 0.0, v_sum = 0.0;
  for (std::int64_t last = call.steps - 1; last >= 0; last -= steps_ahead) {
    float slopes[steps_ahead], grad_spikes[steps_ahead], potentials[steps_ahead];
#pragma unroll
    for (int k = 0; k < steps_ahead; ++k) {
      if (k > last) continue;
      const std::int64_t at = (last - k) * call.neurons + neuron;
      slopes[k] = call.slopes[at], potentials[k] = call.charged[at];
      grad_spikes[k] = call.grad_spikes[(last - k) * call.grad_spikes_stride + neuron];
    }
#pragma unroll
    for (int k = 0; k < steps_ahead; ++k) {
      const std::int64_t t = last - k, at = t * call.neurons + neuron;
      if (t < 0) break;
      const float gain = call.gains ? static_cast<float>(call.gain) * call.gains[t] : static_cast<float>(call.gain);
      if (call.grad_voltages) grad_v += call.grad_voltages[at];
      if (call.grad_currents) grad_u += call.grad_currents[at];
      float through = potentials[k] > threshold ? 0.0f : grad_v;
      if constexpr (through_reset) through -= slopes[k] * (potentials[k] * unit) * grad_v;
      grad_v = slopes[k] * grad_spikes[k] + through;  // with respect to the voltage before the reset
      grad_u += grad_v;
      call.grad_x[at] = grad_u * gain;
      if (call.v_sum) {
        float left = call.voltage[neuron];
        if (t > 0) {
          const float before = call.charged[at - call.neurons];
          left = before > threshold ? 0.0f : before * unit;
        }
        v_sum += static_cast<double>(grad_v) * static_cast<double>(left);
      }
      if (call.i_sum) i_sum += static_cast<double>(grad_u) * (t > 0 ? call.currents[at - call.neurons] : call.current[neuron]);
      grad_v *= v_keep;
      grad_u = current_is_kept ? grad_u * i_keep : 0.0f;
    }
  }
  call.grad_current[neuron] = grad_u;
  call.grad_voltage[neuron] = grad_v;
  if (call.i_sum) call.i_sum[neuron] = i_sum;
  if (call.v_sum) call.v_sum[neuron] = v_sum;
}

dim3 blocks(std::int64_t neurons) { return dim3(static_cast<unsigned>((neurons + threads_in_block - 1) / threads_in_block)); }

template <TrainingInput input, bool current_is_kept, bool leaks>
void launch_forward(const TrainingForward& call, cudaStream_t stream) {
  training_forward<input, current_is_kept, leaks><<<blocks(call.neurons), threads_in_block, 0, stream>>>(call);
}

template <TrainingInput input, bool current_is_kept>
void launch_forward(const TrainingForward& call, cudaStream_t stream) {
  call.v_keep != 4096 ? launch_forward<input, current_is_kept, true>(call, stream)
                      : launch_forward<input, current_is_kept, false>(call, stream);
}

template <bool current_is_kept, bool through_reset>
void launch_backward(const TrainingBackward& call, cudaStream_t stream) {
  training_backward<current_is_kept, through_reset><<<blocks(call.neurons), threads_in_block, 0, stream>>>(call);
}

template <bool current_is_kept>
void launch_backward(const TrainingBackward& call, cudaStream_t stream) {
  call.through_reset ? launch_backward<current_is_kept, true>(call, stream) : launch_backward<current_is_kept, false>(call, stream);
}

// Makes a GPU the current one for a while: callers' threads may have another.
class Current {
 public:
  explicit Current(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (device != before_) check(cudaSetDevice(device), "cudaSetDevice");
  }
  Current(const Current&) = delete;
  ~Current() { cudaSetDevice(before_); }

 private:
  int before_ = 0;
};

}  // namespace

void launch(const TrainingForward& call, int device, void* stream) {
  if (call.neurons == 0) return;
  const Current current(device);
  const auto on = static_cast<cudaStream_t>(stream);
  const bool kept = call.i_keep != 0;  // never behind a norm
  switch (static_cast<TrainingInput>(call.input)) {
    case TrainingInput::weight_units:
      kept ? launch_forward<TrainingInput::weight_units, true>(call, on) : launch_forward<TrainingInput::weight_units, false>(call, on);
      break;
    case TrainingInput::real_values:
      kept ? launch_forward<TrainingInput::real_values, true>(call, on) : launch_forward<TrainingInput::real_values, false>(call, on);
      break;
    case TrainingInput::normed:
      launch_forward<TrainingInput::normed, false>(call, on);
      break;
  }
  launched("training forward on the GPU");
}

void launch(const TrainingBackward& call, int device, void* stream) {
  if (call.neurons == 0) return;
  const Current current(device);
  const auto on = static_cast<cudaStream_t>(stream);
  call.i_keep != 0 ? launch_backward<true>(call, on) : launch_backward<false>(call, on);
  launched("training backward on the GPU");
}

}  // namespace snn::cuda
