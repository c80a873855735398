#include "recurrent.h"

#include <algorithm>
#include <vector>

#include "kernels/isa.h"

namespace snn {
namespace {

// Sums of a neuron and step that are worth handing to another thread: some ten microseconds of work.
constexpr std::size_t grain = 1 << 16;
constexpr std::size_t steps_for_words = 32;  // of all samples: below that, making words takes longer than it saves
constexpr std::size_t rows_in_band = 32;     // few enough for their pages, and those of their words, to be found quickly

// The neurons that fired, in order. No branch: it would be mispredicted at every spike.
std::size_t list_fired(const float* s, std::size_t count, std::uint32_t* fired) {
  std::size_t found = 0;
  for (std::size_t i = 0; i < count; ++i) {
    fired[found] = static_cast<std::uint32_t>(i);
    found += s[i] != 0.0f;
  }
  return found;
}

}  // namespace

std::size_t RecurrentLayer::word_bands() const { return (features + rows_in_band - 1) / rows_in_band; }

bool RecurrentLayer::wants_words() const { return cuba.steps * samples >= steps_for_words; }

bool RecurrentLayer::make_words(std::size_t band, WordRow* all) const {
  const std::size_t begin = band * rows_in_band, end = std::min(begin + rows_in_band, features);
  bool fit = true;
  for (std::size_t column = 0; column < word_columns(); ++column) {
    const std::size_t first = column * feedback_width, count = std::min(feedback_width, features - first);
    for (std::size_t from = begin; from < end; ++from)
      fit &= kernels().whole_words(weight + from * features + first, all[column * features + from].weights, count);
  }
  return fit;
}

std::size_t RecurrentLayer::samples_in_task() const {
  const std::size_t work = cuba.steps * features * (1 + features / 64);
  return std::max<std::size_t>(1, grain / std::max<std::size_t>(1, work));
}

void RecurrentLayer::run(std::size_t begin, std::size_t end) const {
  const std::size_t count = end - begin, lanes = count * features, first = begin * features;
  std::vector<std::int32_t> u(lanes), v(lanes), shifted_bias(lanes), sums(lanes);
  std::vector<std::uint32_t> fired(lanes);
  std::vector<std::size_t> fired_counts(count);
  cuba.first_states(first, lanes, u.data(), v.data(), shifted_bias.data());
  for (std::size_t n = 0; n < count && initial_s; ++n)
    fired_counts[n] = list_fired(initial_s + first + n * features, features, fired.data() + n * features);

  const auto* x = static_cast<const std::int32_t*>(cuba.x) + first;  // both element types of x have four bytes
  float* s = cuba.s + first;
  const auto neurons_kernel = kernels().cuba_lif_int;
  for (std::size_t t = 0; t < cuba.steps; ++t, x += cuba.neurons, s += cuba.neurons) {
    for (std::size_t column = 0; column < word_columns(); ++column) {
      const std::size_t at = column * feedback_width;
      FeedbackTile tile{};
      tile.x_is_float = cuba.x_is_float, tile.rows_are_float = !words;
      tile.rows = words ? static_cast<const void*>(words + column * features) : weight + at;
      tile.row_step = words ? feedback_width : features;
      tile.count = std::min(feedback_width, features - at);
      for (std::size_t n = 0; n < count; ++n) {
        tile.x = x + n * features + at, tile.sums = sums.data() + n * features + at;
        tile.fired = fired.data() + n * features, tile.fired_count = fired_counts[n];
        kernels().feedback(tile);
      }
    }
    for (std::size_t at = 0; at < lanes; at += tile_size) {
      const std::size_t tile = std::min(tile_size, lanes - at);
      neurons_kernel({cuba.parameters, sums.data() + at, s + at, 1, tile, tile, u.data() + at, v.data() + at, shifted_bias.data() + at});
    }
    for (std::size_t n = 0; n < count; ++n)
      fired_counts[n] = list_fired(s + n * features, features, fired.data() + n * features);
  }
  if (cuba.final_u) std::copy(u.begin(), u.end(), cuba.final_u + first);
  if (cuba.final_v) std::copy(v.begin(), v.end(), cuba.final_v + first);
  if (final_s) {
    std::fill_n(final_s + first, lanes, 0.0f);
    for (std::size_t n = 0; n < count; ++n)
      for (std::size_t k = 0; k < fired_counts[n]; ++k) final_s[first + n * features + fired[n * features + k]] = 1.0f;
  }
}

}  // namespace snn
