// snn.HeterogeneousCubaLIF: from the inputs of a node to a layer of neurons of which each has parameters of its own.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "contract.h"
#include "layer.h"
#include "operator.h"

namespace snn {

template <class Place>
class HeterogeneousKernel : public Kernel {
 public:
  void check(const std::vector<Known>& shapes) const override {
    check_sequence(shapes[0]);
    for (std::size_t index = 1; index < names.size() + 1; ++index) check_broadcast(shapes[index], names[index - 1], shapes[0]);
  }

  void run(const Context& context) const override {
    check_heterogeneous(context.input(2), context.input(3), context.input(4));
    const Tensor& x = context.input(0);
    const Shape neurons(x.shape.begin() + 1, x.shape.end());
    const auto spread = [&](std::size_t index) {
      const Tensor& values = context.input(index);
      return Spread{static_cast<const std::int32_t*>(values.data), Broadcast(values.shape, neurons)};
    };
    HeterogeneousLayer layer{};
    layer.steps = x.shape[0];
    layer.neurons = element_count(neurons);
    layer.x = static_cast<const float*>(x.data);
    layer.bias = spread(1), layer.i_decay = spread(2), layer.v_decay = spread(3), layer.v_threshold = spread(4);
    layer.s = static_cast<float*>(context.output(0, x.shape));
    if (!layer.idle()) Place::run(layer, context);
  }

 private:
  static constexpr std::array<const char*, 4> names{"bias", "i_decay", "v_decay", "v_threshold"};
};

template <class Place>
std::unique_ptr<Kernel> make_heterogeneous(const Node&) {
  return std::make_unique<HeterogeneousKernel<Place>>();
}

// The operator for one of onnxruntime's providers (null for the CPU's); it lives as long as the process.
template <class Place>
const Operator* heterogeneous_operator_of(const char* provider) {
  const Port number{ort::int32, false};
  static const Operator op{"HeterogeneousCubaLIF", provider, {{ort::float32, false}, number, number, number, number},
                           {{ort::float32, false}}, make_heterogeneous<Place>};
  return &op;
}

}  // namespace snn
