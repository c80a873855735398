#include "training.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "kernels/isa.h"

namespace snn {
namespace {

constexpr std::int64_t grain = 1 << 17;  // neuron-steps that are worth a thread of their own: a hundred microseconds of work
constexpr std::int64_t unity = 4096;
constexpr std::int64_t highest_threshold = 131071 * 64;
constexpr int most_threads = 1024;
constexpr const char* no_memory = "There is no memory left.";
constexpr std::int64_t most_potentials = 1 << 24;  // whole numbers of 24 bits
constexpr auto tile_neurons = static_cast<std::int64_t>(training_tile_size);

// Calls work(tile) for each tile of training_tile_size neurons, on some threads that live for this call alone: a pool would not survive
// the forks of data loaders.
template <class Work>
void over_tiles(std::int64_t steps, std::int64_t neurons, int threads, Work work) {
  const std::int64_t tiles = (neurons + tile_neurons - 1) / tile_neurons;
  const std::int64_t worth_it = 1 + std::max<std::int64_t>(1, steps) * neurons / grain;
  const std::int64_t shares = std::max<std::int64_t>(1, std::min({tiles, worth_it, static_cast<std::int64_t>(threads)}));
  const auto part = [&](std::int64_t share) {
    for (std::int64_t tile = tiles * share / shares; tile < tiles * (share + 1) / shares; ++tile) work(tile);
  };
  std::vector<std::thread> others;
  std::int64_t share = 1;
  try {
    others.reserve(static_cast<std::size_t>(shares - 1));
    for (; share < shares; ++share) others.emplace_back(part, share);
  } catch (const std::system_error&) {  // no more threads to be had: this one does the rest
  } catch (const std::bad_alloc&) {
  }
  part(0);
  for (; share < shares; ++share) part(share);
  for (std::thread& other : others) other.join();
}

const char* wrong_size(std::int64_t steps, std::int64_t neurons) {
  if (steps < 0 || neurons < 0) return "The number of steps or of neurons is negative.";
  if (neurons > INT64_MAX / 16 || (neurons > 0 && steps > INT64_MAX / 16 / neurons)) return "The sequence has more values than memory can hold.";
  return nullptr;
}

const char* wrong_decays(std::int32_t i_keep, std::int32_t v_keep) {
  return i_keep < 0 || i_keep > unity || v_keep < 0 || v_keep > unity ? "A decay is outside 0 ... 4096." : nullptr;
}

bool positive(double value) { return std::isfinite(value) && value > 0 && static_cast<float>(value) > 0.0f; }

}  // namespace

const char* training_problem(const TrainingForward& call) {
  if (call.bytes != sizeof call) return "The caller is of another version than the library.";
  if (const char* what = wrong_size(call.steps, call.neurons)) return what;
  if (const char* what = wrong_decays(call.i_keep, call.v_keep)) return what;
  if (call.threshold < 0 || call.threshold > highest_threshold) return "The threshold is outside 0 ... 131071 weight units.";
  if (!positive(call.s_scale)) return "The scale is not a positive number.";
  if (call.input < 0 || call.input > 2) return "The kind of the input is none of the three.";
  if (call.neurons > 0) {
    if (!call.current || !call.voltage || !call.last_current || !call.last_voltage) return "A state is missing.";
    if (call.steps > 0 && (!call.x || !call.spikes)) return "The input or the spikes are missing.";
  }
  const bool normed = call.input == static_cast<std::int32_t>(TrainingInput::normed);
  if (!normed && !call.bias) return nullptr;
  if (call.i_keep != 0) return "A current that is kept passes no norm and has no bias.";
  if (call.input == static_cast<std::int32_t>(TrainingInput::real_values)) return "Real values have no bias.";
  if (call.channels < 1 || call.inner < 1) return "There are no channels.";
  if (call.neurons > 0 && (call.inner > call.neurons || call.neurons % call.inner || call.neurons / call.inner % call.channels))
    return "The channels do not divide the neurons.";
  if (normed && !positive(call.unit)) return "The norm's unit is not a positive number.";
  if (normed && call.steps > 0 && (!call.means || !call.inverse_stds)) return "The norm's mean or deviation is missing.";
  return nullptr;
}

const char* training_problem(const TrainingBackward& call) {
  if (call.bytes != sizeof call) return "The caller is of another version than the library.";
  if (const char* what = wrong_size(call.steps, call.neurons)) return what;
  if (const char* what = wrong_decays(call.i_keep, call.v_keep)) return what;
  if (call.threshold < 0 || call.threshold > highest_threshold) return "The threshold is outside 0 ... 131071 weight units.";
  if (!positive(call.s_scale) || !positive(call.gain)) return "The scale or the gain is not a positive number.";
  if (call.neurons == 0) return nullptr;
  if (!call.grad_current || !call.grad_voltage) return "A place for the gradient of a state is missing.";
  if (call.i_sum && (!call.current || (call.steps > 0 && !call.currents))) return "The gradient of a decay needs the currents.";
  if (call.v_sum && !call.voltage) return "The gradient of a decay needs the voltage before the first step.";
  if (call.steps == 0) return nullptr;
  if (!call.charged || !call.grad_spikes || !call.grad_x) return "A sequence is missing.";
  if (call.grad_spikes_stride != 0 && call.grad_spikes_stride < call.neurons) return "The rows of the gradient overlap.";
  if (!call.slopes == !call.table) return "The surrogate's slopes come one by one or as a table.";
  if (call.table && (call.table_size < 1 || call.table_size > most_potentials || !positive(call.table_step) ||
                     !std::isfinite(call.table_from)))
    return "The table's size, start or step is none.";
  return nullptr;
}

namespace {

// Large memory that is about to be written is best had in pages of 2 MiB: fresh memory comes page by page, and of small ones getting them
// takes as long as the work does. Where there are none, nothing changes.
void ask_for_large_pages(void* begin, std::int64_t steps, std::int64_t neurons) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t page = 1 << 21;
  const auto bytes = static_cast<std::uintptr_t>(steps) * static_cast<std::uintptr_t>(neurons) * sizeof(float);
  const std::uintptr_t from = (reinterpret_cast<std::uintptr_t>(begin) + page - 1) / page * page;
  const std::uintptr_t to = (reinterpret_cast<std::uintptr_t>(begin) + bytes) / page * page;
  if (begin && from < to) madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);
#else
  (void)begin, (void)steps, (void)neurons;
#endif
}

// What was written to `charged`.
struct Potentials {
  std::int32_t lowest = INT32_MAX, highest = INT32_MIN;
  bool whole_weights = true;  // the voltages before the first step were whole weight units
};

void forward_tile(const TrainingForward& call, std::int64_t begin, std::size_t count, Potentials& potentials) {
  alignas(64) float u[training_tile_size], v[training_tile_size], bias[training_tile_size];
  const bool normed = call.input == static_cast<std::int32_t>(TrainingInput::normed);
  const auto at = [begin](auto* pointer) { return pointer ? pointer + begin : nullptr; };
  // In double the product comes nearer than 0.5 to the whole number that a float had to round when it was divided.
  for (std::size_t i = 0; i < count; ++i) {
    u[i] = static_cast<float>(__builtin_rint(static_cast<double>(call.current[begin + i]) * call.s_scale));
    v[i] = static_cast<float>(__builtin_rint(static_cast<double>(call.voltage[begin + i]) * call.s_scale));
    potentials.whole_weights &= v[i] == __builtin_truncf(v[i] / 64.0f) * 64.0f;
  }
  TrainingForwardTile tile{};
  tile.input = static_cast<TrainingInput>(call.input);
  tile.i_keep = call.i_keep, tile.v_keep = call.v_keep, tile.threshold = call.threshold;
  tile.s_scale = static_cast<float>(call.s_scale);
  tile.steps = static_cast<std::size_t>(call.steps), tile.stride = static_cast<std::size_t>(call.neurons), tile.count = count;
  tile.x = at(call.x), tile.s = at(call.spikes);
  tile.charged = at(call.charged), tile.currents = at(call.currents), tile.voltages = at(call.voltages);
  tile.u = u, tile.v = v;
  if (normed) {
    tile.unit = static_cast<float>(call.unit), tile.means = call.means, tile.inverse_stds = call.inverse_stds;
    tile.channels = static_cast<std::size_t>(call.channels), tile.inner = static_cast<std::size_t>(call.inner);
    tile.first_channel = static_cast<std::size_t>(begin / call.inner % call.channels);
    tile.first_left = static_cast<std::size_t>(call.inner - begin % call.inner);
  }
  if (call.bias) {
    for (std::size_t i = 0; i < count; ++i)
      bias[i] = call.bias[(begin + static_cast<std::int64_t>(i)) / call.inner % call.channels];
    tile.bias = bias;
  }
  kernels().training_forward(tile);
  potentials.lowest = tile.lowest, potentials.highest = tile.highest;
  for (std::size_t i = 0; i < count; ++i) {
    call.last_current[begin + i] = u[i] / tile.s_scale;
    call.last_voltage[begin + i] = v[i] / tile.s_scale;
  }
}

void backward_tile(const TrainingBackward& call, std::int64_t begin, std::size_t count, double* i_sum, double* v_sum) {
  alignas(64) float grad_u[training_tile_size] = {}, grad_v[training_tile_size] = {};
  if (call.grad_last_current) std::copy_n(call.grad_last_current + begin, count, grad_u);
  if (call.grad_last_voltage) std::copy_n(call.grad_last_voltage + begin, count, grad_v);
  const auto at = [begin](auto* pointer) { return pointer ? pointer + begin : nullptr; };
  TrainingBackwardTile tile{};
  tile.i_keep = static_cast<float>(call.i_keep) / unity, tile.v_keep = static_cast<float>(call.v_keep) / unity;
  tile.threshold = static_cast<float>(call.threshold), tile.unit = static_cast<float>(1.0 / call.s_scale);
  tile.gain = static_cast<float>(call.gain), tile.gains = call.gains;
  tile.through_reset = call.through_reset != 0;
  tile.steps = static_cast<std::size_t>(call.steps), tile.count = count;
  tile.stride = static_cast<std::size_t>(call.neurons), tile.grad_s_stride = static_cast<std::size_t>(call.grad_spikes_stride);
  tile.slopes = at(call.slopes), tile.grad_s = at(call.grad_spikes), tile.table = call.table;
  if (call.table) {
    tile.table_from = static_cast<float>(call.table_from), tile.table_inverse_step = static_cast<float>(1.0 / call.table_step);
    tile.table_last = static_cast<float>(call.table_size - 1);
  }
  tile.charged = at(call.charged), tile.currents = at(call.currents);
  tile.grad_currents = at(call.grad_currents), tile.grad_voltages = at(call.grad_voltages);
  tile.first_u = at(call.current), tile.first_v = at(call.voltage);
  tile.grad_x = at(call.grad_x), tile.grad_u = grad_u, tile.grad_v = grad_v;
  tile.i_sum = call.i_sum ? i_sum : nullptr, tile.v_sum = call.v_sum ? v_sum : nullptr;
  kernels().training_backward(tile);
  std::copy_n(grad_u, count, call.grad_current + begin);
  std::copy_n(grad_v, count, call.grad_voltage + begin);
}

// The float that ordered() numbers so.
double value_of(std::int32_t place) {
  const std::int32_t bits = place ^ (place >> 31 & 0x7fffffff);
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

std::size_t neurons_in(std::int64_t tile, std::int64_t neurons) {
  return static_cast<std::size_t>(std::min(tile_neurons, neurons - tile * tile_neurons));
}

}  // namespace

const char* training_forward(const TrainingForward& call, int threads) try {
  if (const char* what = training_problem(call)) return what;
  if (threads < 1 || threads > most_threads) return "The number of threads is outside 1 ... 1024.";
  for (float* each : {call.spikes, call.charged, call.currents, call.voltages}) ask_for_large_pages(each, call.steps, call.neurons);
  std::vector<Potentials> found(static_cast<std::size_t>((call.neurons + tile_neurons - 1) / tile_neurons));
  over_tiles(call.steps, call.neurons, threads, [&](std::int64_t tile) {
    forward_tile(call, tile * tile_neurons, neurons_in(tile, call.neurons), found[static_cast<std::size_t>(tile)]);
  });
  if (call.charged && call.potentials) {
    Potentials all;
    for (const Potentials& each : found) {
      all.lowest = std::min(all.lowest, each.lowest), all.highest = std::max(all.highest, each.highest);
      all.whole_weights &= each.whole_weights;
    }
    const double lowest = value_of(all.lowest), highest = value_of(all.highest);
    // Inside of the range, where nothing was clipped; what is not a number is not inside.
    const bool inside = lowest > 1 - 8388608.0 && highest < 8388607.0 && lowest <= highest;
    const bool whole_weights = all.whole_weights && call.input == 0 && call.i_keep == 0 && (call.v_keep == 0 || call.v_keep == unity);
    call.potentials[0] = lowest, call.potentials[1] = highest;
    call.potentials[2] = !inside ? 0.0 : whole_weights ? 64.0 : 1.0;
  }
  return nullptr;
} catch (const std::bad_alloc&) {
  return no_memory;
}

const char* training_backward(const TrainingBackward& call, int threads) try {
  if (const char* what = training_problem(call)) return what;
  if (threads < 1 || threads > most_threads) return "The number of threads is outside 1 ... 1024.";
  ask_for_large_pages(call.grad_x, call.steps, call.neurons);
  // Sums of the tiles are added in their order, so that the result does not depend on the threads.
  const std::size_t tiles = static_cast<std::size_t>((call.neurons + tile_neurons - 1) / tile_neurons);
  std::vector<double> i_sums(tiles), v_sums(tiles);
  over_tiles(call.steps, call.neurons, threads, [&](std::int64_t tile) {
    backward_tile(call, tile * tile_neurons, neurons_in(tile, call.neurons), &i_sums[tile], &v_sums[tile]);
  });
  for (std::size_t tile = 0; tile < tiles; ++tile) {
    if (call.i_sum) *call.i_sum += i_sums[tile];
    if (call.v_sum) *call.v_sum += v_sums[tile];
  }
  return nullptr;
} catch (const std::bad_alloc&) {
  return no_memory;
}

const char* training_weights(const float* weight, const float* grad_whole, float* result, std::int64_t count, double step) {
  if (count < 0) return "The number of weights is negative.";
  if (!positive(step)) return "The step between weights is not a positive number.";
  if (count > 0 && (!weight || !result)) return "The weights or a place for the result are missing.";
  const auto size = static_cast<std::size_t>(count);
  const auto width = static_cast<float>(step);
  grad_whole ? kernels().training_weights_back(weight, grad_whole, result, size, width)
             : kernels().training_weights(weight, result, size, width);
  return nullptr;
}

}  // namespace snn
