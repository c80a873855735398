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
    outputs_ = size_of(node.integer("outputs", 1, INT32_MAX));
  }

  void run(const Context& context) const override {
    const Tensor x = sequence(context), weights = context.input(1), bias = context.input(2);
    BlockLayer layer{};
    layer.parameters = parameters_, layer.window = window_, layer.outputs = outputs_;
    layer.steps = size_of(x.shape[0]), layer.samples = size_of(x.shape[1]);
    const bool spikes = x.type == ort::uint8;
    if (dense_) {
      layer.height = layer.width = 1;
      layer.channels = size_of(element_count(Shape(x.shape.begin() + 2, x.shape.end())));
    } else if (x.shape.size() == 5) {
      layer.channels = size_of(x.shape[spikes ? 4 : 2]);
      layer.height = size_of(x.shape[spikes ? 2 : 3]), layer.width = size_of(x.shape[spikes ? 3 : 4]);
    } else {
      fail("x has the shape " + to_string(x.shape) + ", but a convolution needs [T, N, C, H, W].");
    }
    layer.out_height = places(layer.height, 0), layer.out_width = places(layer.width, 1);
    if (spikes) {
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

    const auto height = static_cast<std::int64_t>(layer.out_height), width = static_cast<std::int64_t>(layer.out_width);
    const auto outputs = static_cast<std::int64_t>(outputs_);
    layer.spikes = static_cast<std::uint8_t*>(context.output(0, {x.shape[0], x.shape[1], height, width, outputs}));
    layer.s = static_cast<float*>(
        context.output(1, dense_ ? Shape{x.shape[0], x.shape[1], outputs} : Shape{x.shape[0], x.shape[1], outputs, height, width}));

    std::atomic<bool> whole{true};
    shared(context, layer.tasks(), [&](std::size_t task) {
      if (whole && !layer.run(task)) whole = false;
    });
    if (!whole) shared(context, layer.samples, [&](std::size_t sample) { layer.run_real(sample); });
  }

 private:
  static void shared(const Context& context, std::size_t count, const std::function<void(std::size_t)>& task) {
    if (count == 1) {
      task(0);
    } else if (count > 1) {
      context.parallel(count, task);
    }
  }

  std::size_t places(std::size_t size, int axis) const {
    const std::size_t padded = size + 2 * window_.padding[axis], reach = (window_.kernel[axis] - 1) * window_.dilation[axis] + 1;
    if (padded < reach) fail("the kernel is larger than its padded input.");
    return (padded - reach) / window_.stride[axis] + 1;
  }

  CubaLIFParameters parameters_;
  bool dense_;
  Window window_{};
  std::size_t outputs_;
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
