#include "neurons_cpu.h"

#include <algorithm>
#include <atomic>

#include "block_kernel.h"
#include "heterogeneous_kernel.h"
#include "neuron_kernels.h"
#include "recurrent_kernel.h"

namespace snn {
namespace {

// Neuron-steps that are worth handing to another thread: some ten microseconds of work.
constexpr std::size_t grain = 1 << 16;
constexpr std::size_t fewest_neurons = 512;  // in a task, and what they come in multiples of: rows of 2 KiB
constexpr std::size_t most_tasks = 16;       // while there are no more neurons than in as many tiles

struct Cpu {
  template <class Layer>
  static void run(const Layer& layer, const Context& context) {
    const std::size_t worth_it = grain / std::max<std::size_t>(1, layer.steps);
    const std::size_t share = std::min(tile_size, layer.neurons / most_tasks);
    const std::size_t pieces = (std::max(worth_it, share) + fewest_neurons - 1) / fewest_neurons;
    const std::size_t neurons_in_task = std::max<std::size_t>(1, pieces) * fewest_neurons;
    const std::size_t tasks = (layer.neurons + neurons_in_task - 1) / neurons_in_task;
    context.parallel(tasks, [&](std::size_t index) {
      const std::size_t begin = index * neurons_in_task;
      layer.run(begin, std::min(begin + neurons_in_task, layer.neurons));
    });
  }

  static void run(const BlockLayer& layer, const Context& context) {
    std::atomic<bool> whole{true};
    context.parallel(layer.tasks(), [&](std::size_t task) {
      if (whole && !layer.run(task)) whole = false;
    });
    if (!whole) context.parallel(layer.samples, [&](std::size_t sample) { layer.run_real(sample); });
  }

  static void run(RecurrentLayer layer, const Context& context) {
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

}  // namespace

std::vector<const Operator*> cpu_operators() {
  std::vector<const Operator*> operators = operators_of<Cpu>(nullptr);
  for (const Operator* block : block_operators_of<Cpu>(nullptr)) operators.push_back(block);
  for (const Operator* recurrent : recurrent_operators_of<Cpu>(nullptr)) operators.push_back(recurrent);
  operators.push_back(heterogeneous_operator_of<Cpu>(nullptr));
  return operators;
}

}  // namespace snn
