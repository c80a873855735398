// The operator snn.RecurrentCubaLIF: CUBA neurons whose spikes come back, for whatever place runs it.
#pragma once

#include "neuron_kernels.h"
#include "recurrent.h"

namespace snn {

template <class Place>
class RecurrentKernel : public CubaKernel {
 public:
  explicit RecurrentKernel(const Node& node) : CubaKernel(node) {}

  void check(const std::vector<Known>& shapes) const override {
    check_recurrent(shapes[0], shapes[1]);
    check_cuba(shapes, 2);
    check_state(shapes[5], "initial_s", shapes[0]);
  }

  void run(const Context& context) const override {
    const Shape& x = context.input(0).shape;
    RecurrentLayer layer{};
    layer.samples = static_cast<std::size_t>(x[1]), layer.features = static_cast<std::size_t>(x[2]);
    layer.weight = static_cast<const float*>(context.input(1).data);
    layer.initial_s = static_cast<const float*>(context.input(5).data);
    layer.cuba = cuba_layer(context, 2);
    layer.final_s = static_cast<float*>(context.output(3, {x[1], x[2]}));
    if (!layer.cuba.idle() || (layer.final_s && layer.cuba.neurons)) Place::run(layer, context);
  }
};

template <class Place>
std::unique_ptr<Kernel> make_recurrent(const Node& node) {
  return std::make_unique<RecurrentKernel<Place>>(node);
}

// One operator for each combination of element types, for one of onnxruntime's providers (null for the CPU's); they live as long as the
// process.
template <class Place>
std::vector<const Operator*> recurrent_operators_of(const char* provider) {
  using namespace ort;
  const auto inputs = [](int x, int bias) {
    return std::vector<Port>{{x, false}, {float32, false}, {bias, true}, {int32, true}, {int32, true}, {float32, true}};
  };
  const std::vector<Port> outputs{{float32, false}, {int32, true}, {int32, true}, {float32, true}};
  static const Operator operators[] = {
      {"RecurrentCubaLIF", provider, inputs(float32, float32), outputs, make_recurrent<Place>},
      {"RecurrentCubaLIF", provider, inputs(float32, int32), outputs, make_recurrent<Place>},
      {"RecurrentCubaLIF", provider, inputs(int32, float32), outputs, make_recurrent<Place>},
      {"RecurrentCubaLIF", provider, inputs(int32, int32), outputs, make_recurrent<Place>},
  };
  std::vector<const Operator*> pointers;
  for (const Operator& op : operators) pointers.push_back(&op);
  return pointers;
}

}  // namespace snn
