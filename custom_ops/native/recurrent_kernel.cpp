#include "recurrent_kernel.h"

#include <atomic>

#include "neuron_kernels.h"
#include "recurrent.h"

namespace snn {
namespace {

class RecurrentKernel : public CubaKernel {
 public:
  explicit RecurrentKernel(const Node& node) : CubaKernel(node) {
    const Shape x = node.input_shape(0), weight = node.input_shape(1);
    if (!x.empty() && x.size() != 3) node.fail(wrong_rank(x));
    if (!weight.empty() && !fits(weight, x.empty() ? -1 : x[2])) node.fail(wrong_weight(weight, x.empty() ? -1 : x[2]));
  }

  void run(const Context& context) const override {
    const Tensor x = context.input(0), weight = context.input(1);
    if (x.shape.size() != 3) fail(wrong_rank(x.shape) + ".");
    if (!fits(weight.shape, x.shape[2])) fail(wrong_weight(weight.shape, x.shape[2]) + ".");
    const Shape neurons{x.shape[1], x.shape[2]};
    RecurrentLayer layer{};
    layer.samples = static_cast<std::size_t>(neurons[0]), layer.features = static_cast<std::size_t>(neurons[1]);
    layer.weight = static_cast<const float*>(weight.data);
    layer.initial_s = static_cast<const float*>(state(context, 5, "initial_s", neurons));
    layer.cuba = cuba_layer(context, x, 2);
    layer.final_s = static_cast<float*>(context.output(3, neurons));

    std::unique_ptr<WordRow[]> words;
    if (layer.wants_words()) {
      words.reset(new WordRow[layer.word_columns() * layer.features]);  // not std::vector, which would fill it first
      std::atomic<bool> fit{true};
      context.parallel(layer.word_bands(), [&](std::size_t band) {
        if (fit && !layer.make_words(band, words.get())) fit = false;
      });
      if (fit) layer.words = words.get();
    }
    const std::size_t each = layer.samples_in_task();
    context.parallel((layer.samples + each - 1) / each, [&](std::size_t task) {
      layer.run(task * each, std::min((task + 1) * each, layer.samples));
    });
  }

 private:
  // Whether these dimensions, of which -1 are unknown, can be [features, features].
  static bool fits(const Shape& weight, std::int64_t features) {
    const auto agree = [](std::int64_t a, std::int64_t b) { return a == b || a < 0 || b < 0; };
    return weight.size() == 2 && agree(weight[0], weight[1]) && agree(weight[0], features) && agree(weight[1], features);
  }
  static std::string wrong_rank(const Shape& x) {
    return "x has " + std::to_string(x.size()) + " dimension" + (x.size() == 1 ? "" : "s") + ", but needs three: [T, N, F]";
  }
  static std::string wrong_weight(const Shape& weight, std::int64_t features) {
    const std::string size = features < 0 ? "F" : std::to_string(features);
    return "recurrent_weight has the shape " + to_string(weight) + ", but " + size + " neurons need [" + size + ", " + size + "]";
  }
};

std::unique_ptr<Kernel> make(const Node& node) { return std::make_unique<RecurrentKernel>(node); }

}  // namespace

std::vector<const Operator*> recurrent_operators() {
  using namespace ort;
  const auto inputs = [](int x, int bias) {
    return std::vector<Port>{{x, false}, {float32, false}, {bias, true}, {int32, true}, {int32, true}, {float32, true}};
  };
  const std::vector<Port> outputs{{float32, false}, {int32, true}, {int32, true}, {float32, true}};
  static const Operator operators[] = {
      {"RecurrentCubaLIF", nullptr, inputs(float32, float32), outputs, make},
      {"RecurrentCubaLIF", nullptr, inputs(float32, int32), outputs, make},
      {"RecurrentCubaLIF", nullptr, inputs(int32, float32), outputs, make},
      {"RecurrentCubaLIF", nullptr, inputs(int32, int32), outputs, make},
  };
  std::vector<const Operator*> pointers;
  for (const Operator& op : operators) pointers.push_back(&op);
  return pointers;
}

}  // namespace snn
