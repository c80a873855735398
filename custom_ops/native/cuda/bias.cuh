// A bias of any shape that broadcasts to the neurons, read on the GPU.
#pragma once

#include <stdexcept>

#include "cuda/neuron.cuh"
#include "layer.h"

namespace snn::cuda {

constexpr int most_axes = 8;

struct Bias {
  const void* values;  // null where there is none
  bool is_float;
  std::size_t inner, inner_step;
  int axes;
  std::size_t sizes[most_axes], steps[most_axes];

  __device__ std::int32_t of(std::size_t neuron) const {
    if (!values) return 0;
    std::size_t outer = neuron / inner, at = neuron % inner * inner_step;
    for (int axis = 0; axis < axes; ++axis) {
      at += outer % sizes[axis] * steps[axis];
      outer /= sizes[axis];
    }
    return shifted<6>(is_float ? mantissa(__ldg(static_cast<const float*>(values) + at))
                               : mantissa(__ldg(static_cast<const std::int32_t*>(values) + at)));
  }
};

inline Bias bias_of(const CubaLIFLayer& layer) {
  const Broadcast& map = layer.bias_over_neurons;
  Bias bias{layer.bias, layer.bias_is_float, map.inner(), map.inner_step(), static_cast<int>(map.outer_axes()), {}, {}};
  if (map.outer_axes() > most_axes) throw std::runtime_error("bias broadcasts over more separate axes than the GPU kernel takes");
  for (std::size_t axis = 0; axis < map.outer_axes(); ++axis)
    bias.sizes[axis] = map.outer_size(axis), bias.steps[axis] = map.outer_step(axis);
  return bias;
}

}  // namespace snn::cuda
