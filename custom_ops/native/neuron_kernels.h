// From the inputs of a node to a layer of neurons, and the table of all operators, for whatever place runs them.
//
// A `Place` has a function run(layer, context) for every kind of layer; the layer's pointers are what onnxruntime gave the node.
#pragma once

#include <memory>
#include <vector>

#include "contract.h"
#include "layer.h"
#include "operator.h"

namespace snn {

// What the operators with CUBA neurons have in common.
class CubaKernel : public Kernel {
 protected:
  explicit CubaKernel(const Node& node) : parameters_(cuba_lif_parameters(node)) {}

  // Their inputs behind x: the bias is number `bias_index`, and the states follow.
  static void check_cuba(const std::vector<Known>& shapes, std::size_t bias_index) {
    check_broadcast(shapes[bias_index], "bias", shapes[0]);
    check_state(shapes[bias_index + 1], "initial_u", shapes[0]);
    check_state(shapes[bias_index + 2], "initial_v", shapes[0]);
  }

  // The neurons with their inputs and their first three outputs.
  CubaLIFLayer cuba_layer(const Context& context, std::size_t bias_index) const {
    const Tensor &x = context.input(0), &bias = context.input(bias_index);
    const Shape neurons(x.shape.begin() + 1, x.shape.end());
    CubaLIFLayer layer{};
    layer.parameters = parameters_;
    layer.steps = x.shape[0];
    layer.neurons = element_count(neurons);
    layer.x = x.data;
    layer.x_is_float = x.type == ort::float32;
    layer.bias = bias.data;
    layer.bias_is_float = bias.type == ort::float32;
    if (bias.given()) layer.bias_over_neurons = Broadcast(bias.shape, neurons);
    layer.initial_u = static_cast<const std::int32_t*>(context.input(bias_index + 1).data);
    layer.initial_v = static_cast<const std::int32_t*>(context.input(bias_index + 2).data);
    layer.s = static_cast<float*>(context.output(0, x.shape));
    layer.final_u = static_cast<std::int32_t*>(context.output(1, neurons));
    layer.final_v = static_cast<std::int32_t*>(context.output(2, neurons));
    return layer;
  }

 private:
  CubaLIFParameters parameters_;
};

template <class Place>
class CubaLIFKernel : public CubaKernel {
 public:
  explicit CubaLIFKernel(const Node& node) : CubaKernel(node) {}
  void check(const std::vector<Known>& shapes) const override {
    check_sequence(shapes[0]);
    check_cuba(shapes, 1);
  }
  void run(const Context& context) const override {
    const CubaLIFLayer layer = cuba_layer(context, 1);
    if (!layer.idle()) Place::run(layer, context);
  }
};

template <class Place>
class FloatNeuronKernel : public Kernel {
 public:
  explicit FloatNeuronKernel(const FloatParameters& parameters) : parameters_(parameters) {}

  void check(const std::vector<Known>& shapes) const override {
    check_sequence(shapes[0]);
    check_state(shapes[1], "initial_v", shapes[0]);
  }
  void run(const Context& context) const override {
    const Tensor& x = context.input(0);
    const Shape neurons(x.shape.begin() + 1, x.shape.end());
    FloatLayer layer{};
    layer.parameters = parameters_;
    layer.steps = x.shape[0];
    layer.neurons = element_count(neurons);
    layer.x = static_cast<const float*>(x.data);
    layer.initial_v = static_cast<const float*>(context.input(1).data);
    layer.s = static_cast<float*>(context.output(0, x.shape));
    layer.final_v = static_cast<float*>(context.output(1, neurons));
    if (!layer.idle()) Place::run(layer, context);
  }

 private:
  FloatParameters parameters_;
};

template <class Place>
std::unique_ptr<Kernel> make_cuba_lif(const Node& node) {
  return std::make_unique<CubaLIFKernel<Place>>(node);
}

template <class Place, FloatParameters parameters(const Node&)>
std::unique_ptr<Kernel> make_float_neuron(const Node& node) {
  return std::make_unique<FloatNeuronKernel<Place>>(parameters(node));
}

// Every operator of the domain, for one of onnxruntime's providers (null for the CPU's); they live as long as the process.
template <class Place>
std::vector<const Operator*> operators_of(const char* provider) {
  using ort::float32;
  using ort::int32;
  const std::vector<Port> cuba_outputs{{float32, false}, {int32, true}, {int32, true}};
  const auto cuba_inputs = [](int x, int bias) {
    return std::vector<Port>{{x, false}, {bias, true}, {int32, true}, {int32, true}};
  };
  const std::vector<Port> float_inputs{{float32, false}, {float32, true}}, float_outputs = float_inputs;
  // One operator for each combination of types: onnxruntime itself then refuses any other, and names the input.
  static const Operator operators[] = {
      {"CubaLIF", provider, cuba_inputs(float32, float32), cuba_outputs, make_cuba_lif<Place>},
      {"CubaLIF", provider, cuba_inputs(float32, int32), cuba_outputs, make_cuba_lif<Place>},
      {"CubaLIF", provider, cuba_inputs(int32, float32), cuba_outputs, make_cuba_lif<Place>},
      {"CubaLIF", provider, cuba_inputs(int32, int32), cuba_outputs, make_cuba_lif<Place>},
      {"IF", provider, float_inputs, float_outputs, make_float_neuron<Place, if_parameters>},
      {"LIF", provider, float_inputs, float_outputs, make_float_neuron<Place, lif_parameters>},
  };
  std::vector<const Operator*> pointers;
  for (const Operator& op : operators) pointers.push_back(&op);
  return pointers;
}

}  // namespace snn
