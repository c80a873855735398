// CUBA neurons for training: all time steps forward, and back again through the straight-through gradient, written once for every
// instruction set. Compilers make vector instructions of the loops over a row.
//
// Whole numbers are carried as floats, which hold all that 24-bit registers hold; a current that is kept is a double, in which its product
// with a decay is exact. What is not a number stays so, and shows that a training went wrong. See neurons.h for why everything here has
// internal linkage.
#pragma once

#include <cstring>

#include "neurons.h"
#include "tile.h"

namespace snn {
namespace {

constexpr float half_range = 8388608.0f;  // 2**23: the registers have 24 bits with sign

template <class Real>
inline Real wrapped_once(Real u) {
  u = u > Real(half_range) ? u - 2 * Real(half_range) : u;
  return u <= -Real(half_range) ? u + 2 * Real(half_range) : u;
}

// What arrives at a neuron, in state units.
template <TrainingInput input>
inline float arriving(const TrainingForwardTile& tile, float x, float mean, float inverse_std) {
  if constexpr (input == TrainingInput::weight_units) return __builtin_rintf(x) * 64.0f;
  if constexpr (input == TrainingInput::real_values) return __builtin_truncf(x * tile.s_scale);
  return __builtin_truncf((x * tile.unit - mean) * inverse_std * tile.s_scale);
}

// How the synaptic current of a step comes about.
enum class Current {
  gone,    // of the step's input alone
  kept,    // of the steps before as well
  biased,  // of the step's input, which holds a bias that the register does not
};

// Numbers in the order of these floats, in which what is not a number lies beyond all others: compilers make vector instructions of the
// search for the least of them.
inline std::int32_t ordered(float value) {
  std::int32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits ^ (bits >> 31 & 0x7fffffff);
}

// One neuron in one step, its current in `u`; its potential before the reset.
template <bool leaks>
inline float fire(float threshold, double v_keep, float u, float& v, float& s) {
  float charged = u + (leaks ? static_cast<float>(__builtin_trunc(static_cast<double>(v) * v_keep)) : v);
  charged = charged < 1.0f - half_range ? 1.0f - half_range : charged;
  charged = charged > half_range - 1.0f ? half_range - 1.0f : charged;
  const bool fired = charged > threshold;
  s = fired ? 1.0f : 0.0f;
  v = fired ? 0.0f : charged;
  return charged;
}

template <TrainingInput input, Current current, bool leaks, bool with_charged>
void training_forward_rows(TrainingForwardTile& tile) {
  alignas(64) float currents[training_tile_size], means[training_tile_size];
  alignas(64) double kept_currents[training_tile_size];
  const double i_keep = tile.i_keep / 4096.0, v_keep = tile.v_keep / 4096.0;
  const float threshold = static_cast<float>(tile.threshold), s_scale = tile.s_scale;
  const std::size_t count = tile.count;
  float* __restrict v = tile.v;
  float* __restrict u = currents;
  double* __restrict kept = kept_currents;
  const float* __restrict mean = means;
  const float* __restrict bias = tile.bias;
  for (std::size_t i = 0; i < count; ++i) u[i] = tile.u[i], kept[i] = tile.u[i], means[i] = 0.0f;
  std::int32_t lowest = INT32_MAX, highest = INT32_MIN;
  for (std::size_t t = 0; t < tile.steps; ++t) {
    const std::size_t row = t * tile.stride;
    const float* x = tile.x + row;
    float* __restrict s = tile.s + row;
    float* charged = with_charged ? tile.charged + row : nullptr;
    float inverse_std = 1.0f;
    if constexpr (input == TrainingInput::normed) {
      const std::size_t period = tile.channels * tile.inner;  // after so many neurons the same channels come again
      const std::size_t first = count < period ? count : period;
      std::size_t channel = tile.first_channel, left = tile.first_left;
      for (std::size_t i = 0; i < first; left = tile.inner, channel = channel + 1 == tile.channels ? 0 : channel + 1)
        for (; left > 0 && i < first; --left) means[i++] = tile.means[t * tile.channels + channel];
      for (std::size_t i = first; i < count; i += period)
        std::memcpy(means + i, means, (count - i < period ? count - i : period) * sizeof(float));
      inverse_std = tile.inverse_stds[t];
    }
    if constexpr (current == Current::kept) {
#pragma GCC ivdep
      for (std::size_t i = 0; i < count; ++i) {
        const double arrived = arriving<input>(tile, x[i], mean[i], inverse_std);
        kept[i] = wrapped_once(__builtin_trunc(kept[i] * i_keep) + arrived);
        u[i] = static_cast<float>(kept[i]);
      }
    }
#pragma GCC ivdep  // rows do not overlap, but x and charged may be one row
    for (std::size_t i = 0; i < count; ++i) {
      if constexpr (current == Current::gone) u[i] = wrapped_once(arriving<input>(tile, x[i], mean[i], inverse_std));
      if constexpr (current == Current::biased)
        u[i] = wrapped_once(arriving<input>(tile, x[i], mean[i], inverse_std) - bias[i]) + bias[i];
      const float potential = fire<leaks>(threshold, v_keep, u[i], v[i], s[i]);
      if constexpr (with_charged) {
        charged[i] = potential;
        const std::int32_t place = ordered(potential);
        lowest = place < lowest ? place : lowest;
        highest = place > highest ? place : highest;
      }
    }
    if (tile.currents)
      for (std::size_t i = 0; i < count; ++i) tile.currents[row + i] = u[i] / s_scale;
    if (tile.voltages)
      for (std::size_t i = 0; i < count; ++i) tile.voltages[row + i] = v[i] / s_scale;
  }
  for (std::size_t i = 0; i < count; ++i) tile.u[i] = u[i];
  tile.lowest = lowest, tile.highest = highest;
}

template <TrainingInput input, Current current>
void training_forward_of(TrainingForwardTile& tile) {
  if (tile.v_keep != 4096)
    tile.charged ? training_forward_rows<input, current, true, true>(tile) : training_forward_rows<input, current, true, false>(tile);
  else
    tile.charged ? training_forward_rows<input, current, false, true>(tile) : training_forward_rows<input, current, false, false>(tile);
}

// The caller has seen to it that no current is kept behind a norm or with a bias.
inline void training_forward(TrainingForwardTile& tile) {
  const bool kept = tile.i_keep != 0;
  switch (tile.input) {
    case TrainingInput::weight_units:
      if (tile.bias) return training_forward_of<TrainingInput::weight_units, Current::biased>(tile);
      return kept ? training_forward_of<TrainingInput::weight_units, Current::kept>(tile)
                  : training_forward_of<TrainingInput::weight_units, Current::gone>(tile);
    case TrainingInput::real_values:
      return kept ? training_forward_of<TrainingInput::real_values, Current::kept>(tile)
                  : training_forward_of<TrainingInput::real_values, Current::gone>(tile);
    case TrainingInput::normed:
      return tile.bias ? training_forward_of<TrainingInput::normed, Current::biased>(tile)
                       : training_forward_of<TrainingInput::normed, Current::gone>(tile);
  }
}

// The surrogate's slope at a potential, out of the table of all potentials that there are.
inline float looked_up(const float* table, float from, float inverse_step, float last, float charged) {
  float place = (charged - from) * inverse_step;
  place = place > 0.0f ? place : 0.0f;  // what is not a number, too: nothing beside the table is read, whatever comes in
  place = place < last ? place : last;
  return table[static_cast<std::int32_t>(place)];
}

template <bool current_is_kept, bool through_reset, bool by_table>
void training_backward_rows(const TrainingBackwardTile& tile) {
  alignas(64) double i_sums[training_tile_size], v_sums[training_tile_size];
  const std::size_t count = tile.count;
  const float threshold = tile.threshold, unit = tile.unit, v_keep = tile.v_keep, i_keep = tile.i_keep;
  const float *table = tile.table, from = tile.table_from, inverse_step = tile.table_inverse_step, last = tile.table_last;
  float* __restrict grad_v = tile.grad_v;  // with respect to the voltage after the reset
  float* __restrict grad_u = tile.grad_u;  // what later steps want of the current
  for (std::size_t i = 0; i < count; ++i) i_sums[i] = v_sums[i] = 0.0;
  for (std::size_t t = tile.steps; t-- > 0;) {
    const std::size_t row = t * tile.stride;
    const float* __restrict slopes = by_table ? nullptr : tile.slopes + row;
    const float* __restrict grad_s = tile.grad_s + t * tile.grad_s_stride;
    const float* __restrict charged = tile.charged + row;
    float* __restrict grad_x = tile.grad_x + row;
    const float gain = tile.gains ? tile.gain * tile.gains[t] : tile.gain;
    if (tile.grad_voltages)
      for (std::size_t i = 0; i < count; ++i) grad_v[i] += tile.grad_voltages[row + i];
    if (tile.grad_currents)
      for (std::size_t i = 0; i < count; ++i) grad_u[i] += tile.grad_currents[row + i];
#pragma GCC ivdep  // no row overlaps with another
    for (std::size_t i = 0; i < count; ++i) {
      const float after = grad_v[i];
      const float slope = by_table ? looked_up(table, from, inverse_step, last, charged[i]) : slopes[i];
      float through = charged[i] > threshold ? 0.0f : after;
      if constexpr (through_reset) through -= slope * (charged[i] * unit) * after;
      const float grad = slope * grad_s[i] + through;
      grad_v[i] = grad;  // with respect to the voltage before the reset
      grad_u[i] += grad;
      grad_x[i] = grad_u[i] * gain;
    }
    if (tile.v_sum && t) {
      const float* __restrict before = charged - tile.stride;
      for (std::size_t i = 0; i < count; ++i) {
        const float left = before[i] > threshold ? 0.0f : before[i] * unit;
        v_sums[i] += static_cast<double>(grad_v[i]) * static_cast<double>(left);
      }
    } else if (tile.v_sum) {
      for (std::size_t i = 0; i < count; ++i) v_sums[i] += static_cast<double>(grad_v[i]) * tile.first_v[i];
    }
    if (tile.i_sum) {
      const float* __restrict before = t ? tile.currents + row - tile.stride : tile.first_u;
      for (std::size_t i = 0; i < count; ++i) i_sums[i] += static_cast<double>(grad_u[i]) * before[i];
    }
    for (std::size_t i = 0; i < count; ++i) {
      grad_v[i] *= v_keep;
      grad_u[i] = current_is_kept ? grad_u[i] * i_keep : 0.0f;
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (tile.i_sum) *tile.i_sum += i_sums[i];
    if (tile.v_sum) *tile.v_sum += v_sums[i];
  }
}

template <bool current_is_kept, bool through_reset>
void training_backward_of(const TrainingBackwardTile& tile) {
  tile.table ? training_backward_rows<current_is_kept, through_reset, true>(tile)
             : training_backward_rows<current_is_kept, through_reset, false>(tile);
}

inline void training_backward(const TrainingBackwardTile& tile) {
  if (tile.i_keep != 0.0f)
    tile.through_reset ? training_backward_of<true, true>(tile) : training_backward_of<true, false>(tile);
  else
    tile.through_reset ? training_backward_of<false, true>(tile) : training_backward_of<false, false>(tile);
}

// Halves of 8-bit weights, rounded; times 2 they are weight units.
inline void training_weights(const float* weight, float* whole, std::size_t count, float step) {
  for (std::size_t i = 0; i < count; ++i) {
    float half = __builtin_rintf(weight[i] / step);
    half = half < -128.0f ? -128.0f : half;
    half = half > 127.0f ? 127.0f : half;
    whole[i] = half * 2.0f;
  }
}

// Where weights are inside their range, the gradient passes.
inline void training_weights_back(const float* weight, const float* grad_whole, float* grad, std::size_t count, float step) {
  for (std::size_t i = 0; i < count; ++i) {
    const float half = __builtin_rintf(weight[i] / step);
    grad[i] = half >= -128.0f && half <= 127.0f ? grad_whole[i] * 2.0f / step : 0.0f;
  }
}

}  // namespace
}  // namespace snn
