#include "neurons_cpu.h"

#include <algorithm>
#include <cfloat>

namespace snn {
namespace {

constexpr std::int64_t unity = 4096;  // decays are fractions of 2**12

// Neuron-steps that are worth handing to another thread: some ten microseconds of work.
constexpr std::size_t grain = 1 << 16;

template <class Layer>
void run(const Layer& layer, const Context& context) {
  const std::size_t tiles_in_task = std::max<std::size_t>(1, grain / (tile_size * std::max<std::size_t>(1, layer.steps)));
  const std::size_t neurons_in_task = tiles_in_task * tile_size;
  const std::size_t tasks = (layer.neurons + neurons_in_task - 1) / neurons_in_task;
  const auto task = [&](std::size_t index) {
    const std::size_t begin = index * neurons_in_task;
    layer.run(begin, std::min(begin + neurons_in_task, layer.neurons));
  };
  if (tasks == 1) {
    task(0);
  } else if (tasks > 1) {
    context.parallel(tasks, task);
  }
}

class CubaLIF : public Kernel {
 public:
  explicit CubaLIF(const Node& node) : Kernel(node), parameters_(cuba_lif_parameters(node)) {}

  void run(const Context& context) const override {
    const Tensor x = sequence(context);
    const Shape neurons(x.shape.begin() + 1, x.shape.end());
    const Tensor bias = context.input(1);
    CubaLIFLayer layer{};
    layer.parameters = parameters_;
    layer.steps = x.shape[0];
    layer.neurons = element_count(neurons);
    layer.x = x.data;
    layer.x_is_float = x.type == ort::float32;
    layer.bias = bias.data;
    layer.bias_is_float = bias.type == ort::float32;
    if (bias.data) layer.bias_over_neurons = broadcast(bias.shape, neurons);
    layer.initial_u = static_cast<const std::int32_t*>(state(context, 2, "initial_u", neurons));
    layer.initial_v = static_cast<const std::int32_t*>(state(context, 3, "initial_v", neurons));
    layer.s = static_cast<float*>(context.output(0, x.shape));
    layer.final_u = static_cast<std::int32_t*>(context.output(1, neurons));
    layer.final_v = static_cast<std::int32_t*>(context.output(2, neurons));
    snn::run(layer, context);
  }

 private:
  Broadcast broadcast(const Shape& bias, const Shape& neurons) const {
    try {
      return Broadcast(bias, neurons);
    } catch (const std::invalid_argument&) {
      fail("bias has the shape " + to_string(bias) + ", which does not broadcast to the neurons' " + to_string(neurons) + ".");
    }
  }

  CubaLIFParameters parameters_;
};

class FloatNeuron : public Kernel {
 public:
  FloatNeuron(const Node& node, const FloatParameters& parameters) : Kernel(node), parameters_(parameters) {}

  void run(const Context& context) const override {
    const Tensor x = sequence(context);
    const Shape neurons(x.shape.begin() + 1, x.shape.end());
    FloatLayer layer{};
    layer.parameters = parameters_;
    layer.steps = x.shape[0];
    layer.neurons = element_count(neurons);
    layer.x = static_cast<const float*>(x.data);
    layer.initial_v = static_cast<const float*>(state(context, 1, "initial_v", neurons));
    layer.s = static_cast<float*>(context.output(0, x.shape));
    layer.final_v = static_cast<float*>(context.output(1, neurons));
    snn::run(layer, context);
  }

 private:
  FloatParameters parameters_;
};

template <FloatParameters parameters(const Node&)>
std::unique_ptr<Kernel> make_float_neuron(const Node& node) {
  return std::make_unique<FloatNeuron>(node, parameters(node));
}

std::unique_ptr<Kernel> make_cuba_lif(const Node& node) { return std::make_unique<CubaLIF>(node); }

}  // namespace

CubaLIFParameters cuba_lif_parameters(const Node& node) {
  CubaLIFParameters parameters{};
  parameters.u_keep = static_cast<std::int32_t>(unity - node.integer("i_decay", 0, unity));
  parameters.v_keep = static_cast<std::int32_t>(unity - node.integer("v_decay", 0, unity));
  parameters.threshold = static_cast<std::int32_t>(node.integer("v_threshold", 0, 131071)) << 6;
  return parameters;
}

FloatParameters if_parameters(const Node& node) {
  FloatParameters parameters{};
  parameters.charge = Charge::integrate;
  if (!node.real("v_threshold", parameters.v_threshold)) node.fail("it needs the float attribute v_threshold");
  parameters.soft_reset = !node.real("v_reset", parameters.v_reset);
  return parameters;
}

FloatParameters lif_parameters(const Node& node) {
  FloatParameters parameters = if_parameters(node);
  parameters.charge = node.flag("decay_input", true) ? Charge::decayed_input : Charge::plain_input;
  float tau = 0, decay = 0;
  parameters.divides = node.real("tau", tau);
  if (node.real("decay", decay) == parameters.divides) node.fail("it needs either the float attribute tau or decay");
  parameters.leak = parameters.divides ? node.real("tau", tau, 1.0f, FLT_MAX) : node.real("decay", decay, 0.0f, 1.0f);
  return parameters;
}

std::vector<const Operator*> cpu_operators() {
  using ort::float32;
  using ort::int32;
  const std::vector<Port> cuba_outputs{{float32, false}, {int32, true}, {int32, true}};
  const auto cuba_inputs = [](int x, int bias) {
    return std::vector<Port>{{x, false}, {bias, true}, {int32, true}, {int32, true}};
  };
  const std::vector<Port> float_inputs{{float32, false}, {float32, true}}, float_outputs = float_inputs;
  // One operator for each combination of types: onnxruntime itself then refuses any other, and names the input.
  static const Operator operators[] = {
      {"CubaLIF", nullptr, cuba_inputs(float32, float32), cuba_outputs, make_cuba_lif},
      {"CubaLIF", nullptr, cuba_inputs(float32, int32), cuba_outputs, make_cuba_lif},
      {"CubaLIF", nullptr, cuba_inputs(int32, float32), cuba_outputs, make_cuba_lif},
      {"CubaLIF", nullptr, cuba_inputs(int32, int32), cuba_outputs, make_cuba_lif},
      {"IF", nullptr, float_inputs, float_outputs, make_float_neuron<if_parameters>},
      {"LIF", nullptr, float_inputs, float_outputs, make_float_neuron<lif_parameters>},
  };
  std::vector<const Operator*> pointers;
  for (const Operator& op : operators) pointers.push_back(&op);
  return pointers;
}

}  // namespace snn
