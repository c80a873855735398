#include "recurrent_kernel.h"

#include <atomic>

#include "neuron_kernels.h"
#include "recurrent.h"

namespace snn {
namespace {

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
    if (layer.cuba.idle() && !(layer.final_s && layer.cuba.neurons)) return;

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
