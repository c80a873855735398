#include "layer.h"

#include <algorithm>
#include <stdexcept>

#include "kernels/isa.h"

namespace snn {

Broadcast::Broadcast(const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& target) {
  if (shape.size() > target.size()) throw std::invalid_argument("has more dimensions");
  const std::size_t missing = target.size() - shape.size();
  std::size_t step = 1;
  for (std::size_t axis = target.size(); axis-- > 0;) {
    const std::int64_t size = axis < missing ? 1 : shape[axis - missing];
    if (size != 1 && size != target[axis]) throw std::invalid_argument("does not broadcast");
    if (target[axis] == 1) continue;
    const std::size_t axis_step = size == 1 ? 0 : step;
    if (sizes_.empty()) {
      sizes_.push_back(target[axis]), steps_.push_back(axis_step);
    } else if (axis_step == steps_.back() * sizes_.back()) {
      sizes_.back() *= target[axis];  // this axis goes on where the one inside it ends
    } else {
      sizes_.push_back(target[axis]), steps_.push_back(axis_step);
    }
    step *= size;
  }
  if (!sizes_.empty()) {
    inner_ = sizes_.front(), inner_step_ = steps_.front();
    sizes_.erase(sizes_.begin()), steps_.erase(steps_.begin());
    std::reverse(sizes_.begin(), sizes_.end()), std::reverse(steps_.begin(), steps_.end());
  }
}

std::size_t Broadcast::values() const {
  if (!inner_ || std::count(sizes_.begin(), sizes_.end(), 0u)) return 0;
  std::size_t last = inner_step_ ? (inner_ - 1) * inner_step_ : 0;
  for (std::size_t axis = 0; axis < sizes_.size(); ++axis) last += (sizes_[axis] - 1) * steps_[axis];
  return last + 1;
}

namespace {

template <class Value>
void fill(Value* tile, const Value* tensor, std::size_t begin, std::size_t count, Value otherwise) {
  tensor ? std::copy_n(tensor + begin, count, tile) : std::fill_n(tile, count, otherwise);
}

std::int32_t bias_mantissa(const CubaLIFLayer& layer, std::size_t index) {
  if (!layer.bias_is_float) return static_cast<const std::int32_t*>(layer.bias)[index];
  const float value = static_cast<const float*>(layer.bias)[index];
  return value > -2147483904.0f && value < 2147483648.0f ? static_cast<std::int32_t>(value) : INT32_MIN;
}

void fill_bias(std::int32_t* tile, const CubaLIFLayer& layer, std::size_t begin, std::size_t count) {
  layer.bias_over_neurons.runs(begin, begin + count, [&](std::size_t index, std::size_t step, std::size_t run) {
    for (std::size_t i = 0; i < run; ++i, index += step)
      *tile++ = static_cast<std::int32_t>(static_cast<std::uint32_t>(bias_mantissa(layer, index)) << 6);
  });
}

}  // namespace

void CubaLIFLayer::first_states(std::size_t begin, std::size_t count, std::int32_t* u, std::int32_t* v, std::int32_t* shifted_bias) const {
  fill(u, initial_u, begin, count, 0);
  fill(v, initial_v, begin, count, 0);
  if (bias) fill_bias(shifted_bias, *this, begin, count);
}

void CubaLIFLayer::run(std::size_t begin, std::size_t end) const {
  const auto kernel = x_is_float ? kernels().cuba_lif_float : kernels().cuba_lif_int;
  alignas(64) std::int32_t u[tile_size], v[tile_size], shifted_bias[tile_size] = {};
  for (; begin < end; begin += tile_size) {
    const std::size_t count = std::min(tile_size, end - begin);
    first_states(begin, count, u, v, shifted_bias);
    // Both element types of x have four bytes.
    kernel({parameters, static_cast<const float*>(x) + begin, s + begin, steps, neurons, count, u, v, shifted_bias});
    if (final_u) std::copy_n(u, count, final_u + begin);
    if (final_v) std::copy_n(v, count, final_v + begin);
  }
}

namespace {

// `make` of the number of each neuron of a tile.
template <class Make>
void fill_each(std::int32_t* tile, const Spread& spread, std::size_t begin, std::size_t count, Make make) {
  spread.over_neurons.runs(begin, begin + count, [&](std::size_t index, std::size_t step, std::size_t run) {
    for (std::size_t i = 0; i < run; ++i, index += step) *tile++ = make(spread.values[index]);
  });
}

}  // namespace

void HeterogeneousLayer::run(std::size_t begin, std::size_t end) const {
  constexpr std::size_t size = tile_size / 4;  // six arrays of numbers have to stay in the nearest cache, where others have three
  alignas(64) std::int32_t u[size], v[size], shifted_bias[size], u_keep[size], v_keep[size], threshold[size];
  const auto shifted = [](std::int32_t value) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(value) << 6); };
  const auto kept = [](std::int32_t decay) { return 4096 - decay; };
  for (; begin < end; begin += size) {
    const std::size_t count = std::min(size, end - begin);
    std::fill_n(u, count, 0), std::fill_n(v, count, 0);
    fill_each(shifted_bias, bias, begin, count, shifted);
    fill_each(u_keep, i_decay, begin, count, kept);
    fill_each(v_keep, v_decay, begin, count, kept);
    fill_each(threshold, v_threshold, begin, count, shifted);
    kernels().heterogeneous_cuba_lif({x + begin, s + begin, steps, neurons, count, u, v, shifted_bias, u_keep, v_keep, threshold});
  }
}

void FloatLayer::run(std::size_t begin, std::size_t end) const {
  alignas(64) float v[tile_size];
  for (; begin < end; begin += tile_size) {
    const std::size_t count = std::min(tile_size, end - begin);
    fill(v, initial_v, begin, count, parameters.v_reset);
    kernels().float_neuron({parameters, x + begin, s + begin, steps, neurons, count, v});
    if (final_v) std::copy_n(v, count, final_v + begin);
  }
}

}  // namespace snn
