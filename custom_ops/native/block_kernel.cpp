#include "block_kernel.h"

#include <atomic>

#include "block.h"
#include "contract.h"

namespace snn {
namespace {

template <bool packed>
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

    std::atomic<bool> whole{true};
    context.parallel(layer.tasks(), [&](std::size_t task) {
      if (whole && !layer.run(task)) whole = false;
    });
    if (!whole) context.parallel(layer.samples, [&](std::size_t sample) { layer.run_real(sample); });
  }

 private:
  BlockAttributes attributes_;
};

template <bool packed>
std::unique_ptr<Kernel> make(const Node& node) {
  return std::make_unique<CubaBlock<packed>>(node);
}

}  // namespace

std::vector<const Operator*> block_operators() {
  using namespace ort;
  const auto inputs = [](int x) { return std::vector<Port>{{x, false}, {int8, false}, {int32, true}}; };
  const std::vector<Port> outputs{{uint8, false}, {float32, true}};
  static const Operator operators[] = {
      {"CubaBlock", nullptr, inputs(float32), outputs, make<false>},
      {"CubaBlock", nullptr, inputs(uint8), outputs, make<true>},
  };
  return {&operators[0], &operators[1]};
}

}  // namespace snn
