// A layer of neurons: whole tensors on one side, tiles for the kernels on the other.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/tile.h"

namespace snn {

// How a tensor of a smaller shape lies over the neurons [N, *] of a layer, by ONNX's (NumPy's) rules of broadcasting.
class Broadcast {
 public:
  // Throws std::invalid_argument where `shape` does not broadcast to `target`.
  Broadcast(const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& target);
  // A single value for every neuron.
  Broadcast() = default;

  // Calls use(index of the value, its step from one neuron to the next, neurons) for each run of the neurons [begin, end).
  template <class Use>
  void runs(std::size_t begin, std::size_t end, Use use) const {
    while (begin < end) {
      std::size_t inner = begin % inner_, outer = begin / inner_, offset = inner * inner_step_;
      for (std::size_t axis = sizes_.size(); axis-- > 0; outer /= sizes_[axis]) offset += outer % sizes_[axis] * steps_[axis];
      const std::size_t count = inner_ - inner < end - begin ? inner_ - inner : end - begin;
      use(offset, inner_step_, count);
      begin += count;
    }
  }

  // Values that the tensor holds.
  std::size_t values() const;

  // The same map for code that runs elsewhere: the innermost axis, and those around it, innermost first.
  std::size_t inner() const { return inner_; }
  std::size_t inner_step() const { return inner_step_; }
  std::size_t outer_axes() const { return sizes_.size(); }
  std::size_t outer_size(std::size_t axis) const { return sizes_[sizes_.size() - 1 - axis]; }
  std::size_t outer_step(std::size_t axis) const { return steps_[steps_.size() - 1 - axis]; }

 private:
  // The innermost axis (with those merged into it), then the others, outermost first. A step of 0 repeats the value.
  std::size_t inner_ = SIZE_MAX, inner_step_ = 0;
  std::vector<std::size_t> sizes_, steps_;
};

struct CubaLIFLayer {
  CubaLIFParameters parameters;
  std::size_t steps, neurons;
  const void* x;              // [T, neurons], float where x_is_float, else int32
  bool x_is_float;
  const void* bias;           // null where there is none
  bool bias_is_float;
  Broadcast bias_over_neurons;
  const std::int32_t *initial_u, *initial_v;  // [neurons], or null for zeros
  float* s;                   // [T, neurons]
  std::int32_t *final_u, *final_v;            // [neurons], or null

  // Whether there is nothing to compute: no neurons, or no time steps and nobody who asks for the states behind them.
  bool idle() const { return !neurons || (!steps && !final_u && !final_v); }

  // All time steps of the neurons [begin, end). Ranges that do not overlap may run at the same time.
  void run(std::size_t begin, std::size_t end) const;

  // States before the first step, and the bias << 6, of `count` neurons. Without a bias the last is left as it is.
  void first_states(std::size_t begin, std::size_t count, std::int32_t* u, std::int32_t* v, std::int32_t* shifted_bias) const;
};

// Numbers that lie over the neurons, one for each.
struct Spread {
  const std::int32_t* values;
  Broadcast over_neurons;
};

struct HeterogeneousLayer {
  std::size_t steps, neurons;
  const float* x;  // [T, neurons]
  Spread bias, i_decay, v_decay, v_threshold;
  float* s;        // [T, neurons]

  bool idle() const { return !neurons || !steps; }
  void run(std::size_t begin, std::size_t end) const;
};

struct FloatLayer {
  FloatParameters parameters;
  std::size_t steps, neurons;
  const float* x;
  const float* initial_v;  // or null for v_reset (0 with a soft reset)
  float* s;
  float* final_v;          // or null

  bool idle() const { return !neurons || (!steps && !final_v); }
  void run(std::size_t begin, std::size_t end) const;
};

}  // namespace snn
