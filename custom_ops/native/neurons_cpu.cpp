#include "neurons_cpu.h"

#include <algorithm>

#include "block_kernel.h"
#include "neuron_kernels.h"
#include "recurrent_kernel.h"

namespace snn {
namespace {

// Neuron-steps that are worth handing to another thread: some ten microseconds of work.
constexpr std::size_t grain = 1 << 16;

struct Cpu {
  template <class Layer>
  static void run(const Layer& layer, const Context& context) {
    const std::size_t tiles_in_task = std::max<std::size_t>(1, grain / (tile_size * std::max<std::size_t>(1, layer.steps)));
    const std::size_t neurons_in_task = tiles_in_task * tile_size;
    const std::size_t tasks = (layer.neurons + neurons_in_task - 1) / neurons_in_task;
    context.parallel(tasks, [&](std::size_t index) {
      const std::size_t begin = index * neurons_in_task;
      layer.run(begin, std::min(begin + neurons_in_task, layer.neurons));
    });
  }
};

}  // namespace

std::vector<const Operator*> cpu_operators() {
  std::vector<const Operator*> operators = operators_of<Cpu>(nullptr);
  for (const Operator* block : block_operators()) operators.push_back(block);
  for (const Operator* recurrent : recurrent_operators()) operators.push_back(recurrent);
  return operators;
}

}  // namespace snn
