// The operator snn.CubaBlock: a synapse and its CubaLIF neurons in one, for whatever place runs it (see neuron_kernels.h).
#pragma once

#include <memory>
#include <vector>

#include "block.h"
#include "contract.h"
#include "operator.h"

namespace snn {

template <class Place, bool packed>
class CubaBlock : public Kernel {
 public:
  explicit CubaBlock(const Node& node) : attributes_(block_attributes(node)) {}

  void check(const std::vector<Known>& shapes) const override { check_block(attributes_, packed, shapes[0], shapes[1], shapes[2]); }

  void run(const Context& context) const override {
    const Tensor& x = context.input(0);
    BlockLayer layer = block_layer(attributes_, packed, x.shape);
    if constexpr (packed) {
      layer.spikes_x = static_cast<const std::uint8_t*>(x.data);
    } else {
      layer.real_x = static_cast<const float*>(x.data);
    }
    layer.weights = static_cast<const std::int8_t*>(context.input(1).data);
    layer.bias = static_cast<const std::int32_t*>(context.input(2).data);

    const auto steps = static_cast<std::int64_t>(layer.steps), samples = static_cast<std::int64_t>(layer.samples);
    const auto height = static_cast<std::int64_t>(layer.out_height), width = static_cast<std::int64_t>(layer.out_width);
    const auto outputs = static_cast<std::int64_t>(layer.outputs), blocks = static_cast<std::int64_t>(layer.lane_blocks());
    layer.spikes = static_cast<std::uint8_t*>(context.output(0, {samples, height, width, blocks, steps, block_lanes}));
    layer.s = static_cast<float*>(
        context.output(1, attributes_.dense ? Shape{steps, samples, outputs} : Shape{steps, samples, outputs, height, width}));
    Place::run(layer, context);
  }

 private:
  BlockAttributes attributes_;
};

template <class Place, bool packed>
std::unique_ptr<Kernel> make_block(const Node& node) {
  return std::make_unique<CubaBlock<Place, packed>>(node);
}

// One operator for each element type of the input, for one of onnxruntime's providers (null for the CPU's); they live as long as the
// process.
template <class Place>
std::vector<const Operator*> block_operators_of(const char* provider) {
  using namespace ort;
  const auto inputs = [](int x) { return std::vector<Port>{{x, false}, {int8, false}, {int32, true}}; };
  const std::vector<Port> outputs{{uint8, false}, {float32, true}};
  static const Operator operators[] = {
      {"CubaBlock", provider, inputs(float32), outputs, make_block<Place, false>},
      {"CubaBlock", provider, inputs(uint8), outputs, make_block<Place, true>},
  };
  return {&operators[0], &operators[1]};
}

}  // namespace snn
