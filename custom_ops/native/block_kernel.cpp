#include "block_kernel.h"

#include <atomic>

#include "block.h"
#include "neuron_kernels.h"

namespace snn {
namespace {

std::size_t size_of(std::int64_t size) { return static_cast<std::size_t>(size); }

class CubaBlock : public Kernel {
 public:
  explicit CubaBlock(const Node& node) : Kernel(node), parameters_(cuba_lif_parameters(node)), dense_(node.flag("dense", false)) {
    constexpr std::int64_t most = 1 << 20;
    const char* const names[] = {"kernel", "stride", "padding", "dilation"};
    std::size_t(*const fields[])[2] = {&window_.kernel, &window_.stride, &window_.padding, &window_.dilation};
    for (int field = 0; field < 4; ++field) {
      const std::int64_t least = field == 2 ? 0 : 1;
      (*fields[field])[0] = size_of(node.integer((std::string(names[field]) + "_height").c_str(), least, most));
      (*fields[field])[1] = size_of(node.integer((std::string(names[field]) + "_width").c_str(), least, most));
    }
    channels_ = size_of(node.integer("channels", 1, INT32_MAX));
    small_sums_ = node.flag("small_sums", false);
    outputs_ = size_of(node.integer("outputs", 1, INT32_MAX));
  }

  void run(const Context& context) const override {
    const Tensor x = sequence(context), weights = context.input(1), bias = context.input(2);
    BlockLayer layer{};
    layer.parameters = parameters_, layer.small_sums = small_sums_, layer.window = window_, layer.outputs = outputs_;
    layer.packed = x.type == ort::uint8;
    layer.channels = channels_;
    const Shape dims = layer.packed ? x.shape : dense_ ? Shape{1, 1} : Shape(x.shape.begin() + 2, x.shape.end());
    if (layer.packed) {
      const auto blocks = static_cast<std::int64_t>((channels_ + block_lanes - 1) / block_lanes);
      if (dims.size() != 6 || dims[3] != blocks || dims[5] != block_lanes)
        fail("the packed spikes have the shape " + to_string(dims) + ", not [N, H, W, " + std::to_string(blocks) + ", T, 16].");
      layer.samples = size_of(dims[0]), layer.height = size_of(dims[1]), layer.width = size_of(dims[2]), layer.steps = size_of(dims[4]);
    } else {
      layer.steps = size_of(x.shape[0]), layer.samples = size_of(x.shape[1]);
      const bool fits = dense_ ? size_of(element_count(Shape(x.shape.begin() + 2, x.shape.end()))) == channels_
                               : dims.size() == 3 && size_of(dims[0]) == channels_;
      if (!fits) {
        const std::string needed = std::to_string(channels_);
        fail("x has the shape " + to_string(x.shape) + ", but this synapse needs [T, N, " + needed + (dense_ ? "]." : ", H, W]."));
      }
      layer.height = size_of(dims[dims.size() - 2]), layer.width = size_of(dims.back());
    }
    layer.out_height = places(layer.height, 0), layer.out_width = places(layer.width, 1);
    if (layer.packed) {
      layer.spikes_x = static_cast<const std::uint8_t*>(x.data);
    } else {
      layer.real_x = static_cast<const float*>(x.data);
    }
    const std::size_t lane_blocks = (outputs_ + block_lanes - 1) / block_lanes;
    const Shape packed{static_cast<std::int64_t>(lane_blocks), static_cast<std::int64_t>(layer.groups()), block_lanes, 4};
    if (weights.shape != packed)
      fail("the packed weights have the shape " + to_string(weights.shape) + ", but this input needs " + to_string(packed) + ".");
    if (bias.data && bias.shape != Shape{static_cast<std::int64_t>(outputs_)})
      fail("bias has the shape " + to_string(bias.shape) + ", not one value for each output.");
    layer.weights = static_cast<const std::int8_t*>(weights.data);
    layer.bias = static_cast<const std::int32_t*>(bias.data);

    const auto steps = static_cast<std::int64_t>(layer.steps), samples = static_cast<std::int64_t>(layer.samples);
    const auto height = static_cast<std::int64_t>(layer.out_height), width = static_cast<std::int64_t>(layer.out_width);
    const auto outputs = static_cast<std::int64_t>(outputs_), blocks = static_cast<std::int64_t>(lane_blocks);
    layer.spikes = static_cast<std::uint8_t*>(context.output(0, {samples, height, width, blocks, steps, block_lanes}));
    layer.s = static_cast<float*>(
        context.output(1, dense_ ? Shape{steps, samples, outputs} : Shape{steps, samples, outputs, height, width}));

    std::atomic<bool> whole{true};
    context.parallel(layer.tasks(), [&](std::size_t task) {
      if (whole && !layer.run(task)) whole = false;
    });
    if (!whole) context.parallel(layer.samples, [&](std::size_t sample) { layer.run_real(sample); });
  }

 private:
  std::size_t places(std::size_t size, int axis) const {
    const std::size_t padded = size + 2 * window_.padding[axis], reach = (window_.kernel[axis] - 1) * window_.dilation[axis] + 1;
    if (padded < reach) fail("the kernel is larger than its padded input.");
    return (padded - reach) / window_.stride[axis] + 1;
  }

  CubaLIFParameters parameters_;
  bool dense_;
  Window window_{};
  std::size_t channels_, outputs_;
  bool small_sums_;
};

std::unique_ptr<Kernel> make(const Node& node) { return std::make_unique<CubaBlock>(node); }

}  // namespace

std::vector<const Operator*> block_operators() {
  using namespace ort;
  const auto inputs = [](int x) { return std::vector<Port>{{x, false}, {int8, false}, {int32, true}}; };
  const std::vector<Port> outputs{{uint8, false}, {float32, true}};
  static const Operator operators[] = {
      {"CubaBlock", nullptr, inputs(float32), outputs, make},
      {"CubaBlock", nullptr, inputs(uint8), outputs, make},
  };
  return {&operators[0], &operators[1]};
}

}  // namespace snn
