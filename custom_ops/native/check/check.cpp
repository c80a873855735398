// Drives the kernels of every instruction set that this processor has against a plain oracle: random shapes, attributes and types, with
// states at the ends of their range. Built with the sanitizers by tests/custom_ops/test_sanitizers.py: each tensor is an allocation of
// its exact size, so that a kernel that reads or writes past it is caught.
//
//   check SECONDS [SEED]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>

#include "block.h"
#include "kernels/isa.h"
#include "layer.h"
#include "recurrent.h"
#include "training.h"

namespace {

using snn::Broadcast;
using Shape = std::vector<std::int64_t>;
using i32 = std::int32_t;
using i64 = std::int64_t;

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  i64 between(i64 low, i64 high) { return std::uniform_int_distribution<i64>(low, high)(engine_); }
  bool coin() { return between(0, 1); }
  template <class T>
  T one_of(std::initializer_list<T> values) { return values.begin()[between(0, static_cast<i64>(values.size()) - 1)]; }

  // Small numbers, numbers near the 24-bit limits, and the ends of int32.
  i32 integer(i64 scale) {
    if (between(0, 9) == 0)
      return one_of<i32>({0, -1, 1 << 23, -(1 << 23), (1 << 23) - 1, 1 - (1 << 23), INT32_MAX, INT32_MIN});
    return static_cast<i32>(between(-scale, scale));
  }
  i64 scale() { return one_of<i64>({4, 100, 5000, 1 << 17, 1 << 23, INT32_MAX}); }

 private:
  std::mt19937 engine_;
};

template <class T>
using Array = std::unique_ptr<T[]>;

template <class T, class Make>
Array<T> filled(std::size_t count, Make make) {
  Array<T> values(new T[count]);
  for (std::size_t i = 0; i < count; ++i) values[i] = make();
  return values;
}

i32 wrapped(i64 value) { return static_cast<i32>(static_cast<std::uint32_t>(static_cast<std::uint64_t>(value))); }

struct Failure {
  std::string what;
};

void expect(bool equal, const char* isa, const char* what) {
  if (!equal) throw Failure{std::string(isa) + ": " + what + " differs"};
}

// Runs `layer` in two ranges that meet in the middle of a tile, as two threads would.
template <class Layer>
void run(const Layer& layer, Random& random) {
  const std::size_t middle = layer.neurons ? random.between(0, layer.neurons) : 0;
  layer.run(middle, layer.neurons);
  layer.run(0, middle);
}

std::size_t bias_index(const Shape& bias, const Shape& target, std::size_t neuron) {
  std::size_t index = 0, step = 1;
  for (std::size_t axis = 0; axis < target.size(); ++axis) {
    const std::size_t place = neuron % target[target.size() - 1 - axis];
    neuron /= target[target.size() - 1 - axis];
    if (axis >= bias.size()) continue;
    const std::size_t size = bias[bias.size() - 1 - axis];
    if (size > 1) index += place * step;
    step *= size;
  }
  return index;
}

void check_cuba_lif(Random& random) {
  Shape target;
  for (i64 rank = random.between(1, 4); rank > 0; --rank) target.push_back(random.one_of<i64>({1, 2, 3, 5, 7, 17, 40}));
  if (random.between(0, 19) == 0) target[0] = 0;
  Shape bias_shape(target.end() - random.between(0, target.size()), target.end());
  for (i64& size : bias_shape)
    if (random.coin()) size = 1;
  std::size_t neurons = 1, biases = 1;
  for (const i64 size : target) neurons *= size;
  for (const i64 size : bias_shape) biases *= size;
  const std::size_t steps = random.between(0, 6);
  const i64 scale = random.scale();

  const bool x_is_float = random.coin(), bias_is_float = random.coin();
  auto x_int = filled<i32>(steps * neurons, [&] { return random.integer(scale); });
  auto x_float = filled<float>(steps * neurons, [&] {
    const float off = random.one_of({0.0f, 0.0f, 0.5f, -0.5f, 0.25f});
    return static_cast<float>(random.integer(std::min<i64>(scale, 1 << 24)) / 128) + off;
  });
  auto bias_int = filled<i32>(biases, [&] { return random.integer(scale); });
  auto bias_float = filled<float>(biases, [&] { return static_cast<float>(random.integer(4096) / 256); });
  auto initial_u = filled<i32>(neurons, [&] { return random.integer(INT32_MAX); });
  auto initial_v = filled<i32>(neurons, [&] { return random.integer(1 << 23); });
  auto s = filled<float>(steps * neurons, [] { return NAN; });
  auto final_u = filled<i32>(neurons, [] { return 0; }), final_v = filled<i32>(neurons, [] { return 0; });

  snn::CubaLIFLayer layer{};
  layer.parameters = {static_cast<i32>(random.one_of<i64>({0, 4096, 1, random.between(0, 4096)})),
                      static_cast<i32>(random.one_of<i64>({0, 4096, 4095, random.between(0, 4096)})),
                      static_cast<i32>(random.one_of<i64>({0, 131071, random.between(0, 300)})) << 6};
  layer.steps = steps, layer.neurons = neurons;
  layer.x_is_float = x_is_float, layer.x = x_is_float ? static_cast<void*>(x_float.get()) : x_int.get();
  layer.bias_is_float = bias_is_float, layer.bias_over_neurons = Broadcast(bias_shape, target);
  if (random.coin()) layer.bias = bias_is_float ? static_cast<void*>(bias_float.get()) : bias_int.get();
  layer.initial_u = random.coin() ? initial_u.get() : nullptr, layer.initial_v = random.coin() ? initial_v.get() : nullptr;
  layer.s = s.get(), layer.final_u = final_u.get(), layer.final_v = final_v.get();

  for (int index = 0; const snn::Kernels* kernels = snn::available_kernels(index); ++index) {
    snn::use_isa(kernels->isa);
    run(layer, random);
    for (std::size_t n = 0; n < neurons; ++n) {
      i32 u = layer.initial_u ? initial_u[n] : 0, v = layer.initial_v ? initial_v[n] : 0, bias = 0;
      if (layer.bias) {
        const std::size_t at = bias_index(bias_shape, target, n);
        bias = wrapped((bias_is_float ? static_cast<i64>(bias_float[at]) : bias_int[at]) * 64);
      }
      for (std::size_t t = 0; t < steps; ++t) {
        const std::size_t at = t * neurons + n;
        const i64 a = x_is_float ? static_cast<i64>(std::nearbyint(static_cast<double>(x_float[at]))) : x_int[at];
        i64 sum = wrapped(static_cast<i64>(u) * layer.parameters.u_keep / 4096 + wrapped(a * 64));
        if (sum > 1 << 23) sum -= 1 << 24;
        if (sum <= -(1 << 23)) sum += 1 << 24;
        u = wrapped(sum);
        sum = wrapped(static_cast<i64>(v) * layer.parameters.v_keep / 4096 + u + bias);
        v = static_cast<i32>(std::min<i64>(std::max<i64>(sum, 1 - (1 << 23)), (1 << 23) - 1));
        const bool fired = v > layer.parameters.threshold;
        expect(s[at] == static_cast<float>(fired), kernels->isa, "CubaLIF's spike");
        if (fired) v = 0;
      }
      expect(final_u[n] == u, kernels->isa, "CubaLIF's current");
      expect(final_v[n] == v, kernels->isa, "CubaLIF's potential");
    }
  }
}

void check_recurrent(Random& random) {
  const std::size_t samples = random.between(0, 3), steps = random.one_of<i64>({0, 1, 5, 20});
  const std::size_t F = random.one_of<i64>({0, 1, 15, 16, 17, 63, 64, 65, random.between(1, 150)}), neurons = samples * F;
  const i64 largest = random.one_of<i64>({3, 254, 32767, 32768, 1 << 24});  // the last two need more than 16 bits
  const bool x_is_float = random.coin();
  const i64 scale = random.scale();
  auto x_int = filled<i32>(steps * neurons, [&] { return random.integer(scale); });
  auto x_float = filled<float>(steps * neurons, [&] {
    return static_cast<float>(random.integer(std::min<i64>(scale, 1 << 24)) / 128) + random.one_of({0.0f, 0.0f, 0.5f, -0.5f, 0.25f});
  });
  auto weight = filled<float>(F * F, [&] {
    return static_cast<float>(random.between(-largest, largest)) + (largest < 1 << 16 ? random.one_of({0.0f, 0.0f, 0.5f, -0.25f}) : 0.0f);
  });
  auto bias = filled<i32>(F, [&] { return static_cast<i32>(random.between(-4096, 4095)); });
  auto initial_u = filled<i32>(neurons, [&] { return random.integer(INT32_MAX); });
  auto initial_v = filled<i32>(neurons, [&] { return random.integer(1 << 23); });
  auto initial_s = filled<float>(neurons, [&] { return random.one_of({0.0f, -0.0f, 1.0f, 0.5f}); });
  auto s = filled<float>(steps * neurons, [] { return NAN; }), final_s = filled<float>(neurons, [] { return NAN; });
  auto final_u = filled<i32>(neurons, [] { return 0; }), final_v = filled<i32>(neurons, [] { return 0; });

  snn::RecurrentLayer layer{};
  layer.samples = samples, layer.features = F, layer.weight = weight.get();
  layer.initial_s = random.coin() ? initial_s.get() : nullptr, layer.final_s = final_s.get();
  auto& cuba = layer.cuba;
  cuba.parameters = {static_cast<i32>(random.one_of<i64>({0, 4096, random.between(0, 4096)})),
                     static_cast<i32>(random.one_of<i64>({0, 4096, random.between(0, 4096)})),
                     static_cast<i32>(random.one_of<i64>({0, 131071, random.between(0, 300)})) << 6};
  cuba.steps = steps, cuba.neurons = neurons, cuba.x_is_float = x_is_float;
  cuba.x = x_is_float ? static_cast<void*>(x_float.get()) : x_int.get();
  cuba.bias_over_neurons = Broadcast({static_cast<i64>(F)}, {static_cast<i64>(samples), static_cast<i64>(F)});
  cuba.bias = random.coin() ? bias.get() : nullptr;
  cuba.initial_u = random.coin() ? initial_u.get() : nullptr, cuba.initial_v = random.coin() ? initial_v.get() : nullptr;
  cuba.s = s.get(), cuba.final_u = final_u.get(), cuba.final_v = final_v.get();

  for (int index = 0; const snn::Kernels* kernels = snn::available_kernels(index); ++index) {
    snn::use_isa(kernels->isa);
    const std::unique_ptr<snn::WordRow[]> words(new snn::WordRow[layer.word_columns() * F]);
    bool fit = true;
    for (std::size_t band = layer.word_bands(); band-- > 0;) fit = layer.make_words(band, words.get()) && fit;
    layer.words = fit && random.coin() ? words.get() : nullptr;
    const std::size_t middle = random.between(0, samples);
    layer.run(middle, samples);
    layer.run(0, middle);
    for (std::size_t n = 0; n < samples; ++n) {
      const std::size_t first = n * F;
      std::vector<i32> u(F), v(F), fired(F), next(F);
      for (std::size_t i = 0; i < F; ++i) {
        u[i] = cuba.initial_u ? initial_u[first + i] : 0, v[i] = cuba.initial_v ? initial_v[first + i] : 0;
        fired[i] = layer.initial_s && initial_s[first + i] != 0.0f;
      }
      for (std::size_t t = 0; t < steps; ++t, fired.swap(next)) {
        for (std::size_t i = 0; i < F; ++i) {
          const std::size_t at = t * neurons + first + i;
          i64 a = x_is_float ? static_cast<i64>(std::nearbyint(static_cast<double>(x_float[at]))) : x_int[at];
          for (std::size_t j = 0; j < F; ++j)
            if (fired[j]) a += static_cast<i64>(std::nearbyint(static_cast<double>(weight[j * F + i])));
          i64 sum = wrapped(static_cast<i64>(u[i]) * cuba.parameters.u_keep / 4096 + wrapped(a * 64));
          if (sum > 1 << 23) sum -= 1 << 24;
          if (sum <= -(1 << 23)) sum += 1 << 24;
          u[i] = wrapped(sum);
          sum = wrapped(static_cast<i64>(v[i]) * cuba.parameters.v_keep / 4096 + u[i] + (cuba.bias ? bias[i] * 64 : 0));
          v[i] = static_cast<i32>(std::min<i64>(std::max<i64>(sum, 1 - (1 << 23)), (1 << 23) - 1));
          next[i] = v[i] > cuba.parameters.threshold;
          expect(s[at] == static_cast<float>(next[i]), kernels->isa, "a recurrent layer's spike");
          if (next[i]) v[i] = 0;
        }
      }
      for (std::size_t i = 0; i < F; ++i) {
        expect(final_u[first + i] == u[i], kernels->isa, "a recurrent layer's current");
        expect(final_v[first + i] == v[i], kernels->isa, "a recurrent layer's potential");
        expect(final_s[first + i] == static_cast<float>(fired[i]), kernels->isa, "a recurrent layer's last spike");
      }
    }
  }
}

// Whether the library takes the call, which is sound.
void expect_taken(const char* refusal, const char* isa) {
  if (refusal) throw Failure{std::string(isa) + ": training is refused: " + refusal};
}

void check_training(Random& random) {
  const std::size_t channels = random.one_of<i64>({1, 2, 3}), inner = random.one_of<i64>({1, 7, 64, random.between(1, 1500)});
  const std::size_t neurons = random.between(0, 2) * channels * inner, steps = random.one_of<i64>({0, 1, 2, random.between(1, 9)});
  const std::size_t count = steps * neurons;
  const bool real = random.coin(), biased = !real && random.coin(), in_place = random.coin(), reset = random.coin();
  const float s_scale = random.one_of({64.0f, 4096.0f, 6400.0f}), size = random.one_of({1.0f, 60.0f, 1e5f, 1e8f});
  const auto any = [&] { return size * static_cast<float>(random.between(-1000, 1000)) / 500.0f; };
  const auto x = filled<float>(count, [&] { return real ? any() / 64.0f : std::fmod(any(), 1e6f); });
  const auto u0 = filled<float>(neurons, [&] { return static_cast<float>(random.integer(1 << 20) % (1 << 23)) / s_scale; });
  const auto v0 = filled<float>(neurons, [&] { return static_cast<float>(random.integer(1 << 20) % (1 << 23)) / s_scale; });
  const auto bias = filled<float>(channels, [&] { return 64.0f * static_cast<float>(random.between(-4096, 4095)); });
  const auto grad_s = filled<float>(count, any), slopes = filled<float>(count, any), after_v = filled<float>(neurons, any);
  const auto late = filled<float>(count, any);
  auto memory = filled<float>(count, [] { return NAN; }), s = filled<float>(count, [] { return NAN; });
  auto currents = filled<float>(count, [] { return NAN; }), voltages = filled<float>(count, [] { return NAN; });
  auto last_u = filled<float>(neurons, [] { return NAN; }), last_v = filled<float>(neurons, [] { return NAN; });
  auto grad_x = filled<float>(count, [] { return NAN; });
  auto grad_u = filled<float>(neurons, [] { return NAN; }), grad_v = filled<float>(neurons, [] { return NAN; });
  double potentials[3], i_sum = 0, v_sum = 0;

  snn::TrainingForward forward{};
  forward.bytes = sizeof forward, forward.steps = steps, forward.neurons = neurons, forward.input = real;
  forward.i_keep = biased ? 0 : static_cast<i32>(random.one_of<i64>({0, 4096, random.between(0, 4096)}));
  forward.v_keep = static_cast<i32>(random.one_of<i64>({0, 4096, random.between(0, 4096)}));
  forward.threshold = static_cast<i32>(random.one_of<i64>({0, 131071, random.between(0, 300)})) << 6;
  forward.s_scale = s_scale, forward.current = u0.get(), forward.voltage = v0.get(), forward.spikes = s.get();
  forward.last_current = last_u.get(), forward.last_voltage = last_v.get(), forward.potentials = potentials;
  forward.currents = currents.get(), forward.voltages = random.coin() ? voltages.get() : nullptr;
  forward.charged = memory.get(), forward.x = in_place ? memory.get() : x.get();
  if (biased) forward.bias = bias.get(), forward.channels = channels, forward.inner = inner;

  snn::TrainingBackward backward{};
  backward.bytes = sizeof backward, backward.steps = steps, backward.neurons = neurons;
  backward.grad_spikes_stride = random.coin() ? neurons : 0;  // the gradient of the first step is that of all
  backward.i_keep = forward.i_keep, backward.v_keep = forward.v_keep, backward.threshold = forward.threshold;
  backward.through_reset = reset, backward.s_scale = s_scale, backward.gain = 0.5, backward.grad_spikes = grad_s.get();
  backward.grad_last_voltage = after_v.get(), backward.grad_currents = random.coin() ? late.get() : nullptr;
  backward.charged = memory.get(), backward.currents = currents.get(), backward.current = u0.get(), backward.voltage = v0.get();
  backward.grad_x = grad_x.get(), backward.grad_current = grad_u.get(), backward.grad_voltage = grad_v.get();
  const bool learns = random.coin();
  if (learns) backward.i_sum = &i_sum, backward.v_sum = &v_sum;

  for (int index = 0; const snn::Kernels* kernels = snn::available_kernels(index); ++index) {
    const char* isa = kernels->isa;
    snn::use_isa(isa);
    const int threads = static_cast<int>(random.between(1, 3));
    std::copy_n(x.get(), count, memory.get());
    expect_taken(snn::training_forward(forward, threads), isa);
    // The slopes come one by one, or, where potentials are few enough, as a table.
    Array<float> table;
    const double step = potentials[2];
    const bool by_table = count > 0 && step > 0 && (potentials[1] - potentials[0]) / step < 1 << 14;
    if (by_table) {
      backward.table_size = static_cast<i64>((potentials[1] - potentials[0]) / step) + 1;
      table = filled<float>(static_cast<std::size_t>(backward.table_size), any);
      backward.table_from = potentials[0], backward.table_step = step;
    }
    backward.table = table.get(), backward.slopes = by_table ? nullptr : slopes.get();
    i_sum = v_sum = 0;
    expect_taken(snn::training_backward(backward, threads), isa);

    double i_expected = 0, v_expected = 0, largest = 1;
    for (std::size_t n = 0; n < neurons; ++n) {
      i64 u = static_cast<i64>(std::rint(static_cast<double>(u0[n]) * s_scale));
      i64 v = static_cast<i64>(std::rint(static_cast<double>(v0[n]) * s_scale));
      const i64 held = biased ? static_cast<i64>(bias[n / inner % channels]) : 0;
      std::vector<i64> charged(steps);
      for (std::size_t t = 0; t < steps; ++t) {
        const std::size_t at = t * neurons + n;
        u = u * forward.i_keep / 4096 + (real ? static_cast<i64>(std::trunc(x[at] * s_scale)) : 64 * static_cast<i64>(std::rint(x[at]))) - held;
        if (u > 1 << 23) u -= 1 << 24;
        if (u <= -(1 << 23)) u += 1 << 24;
        u += held;  // where there is a bias, no current is kept
        v = std::min<i64>(std::max<i64>(v * forward.v_keep / 4096 + u, 1 - (1 << 23)), (1 << 23) - 1);
        charged[t] = v;
        const bool fired = v > forward.threshold;
        expect(s[at] == static_cast<float>(fired), isa, "a spike in training");
        expect(memory[at] == static_cast<float>(v), isa, "a potential in training");
        expect(currents[at] == static_cast<float>(u) / s_scale, isa, "a current in training");
        if (fired) v = 0;
        if (forward.voltages) expect(voltages[at] == static_cast<float>(v) / s_scale, isa, "a voltage in training");
      }
      expect(last_u[n] == static_cast<float>(u) / s_scale, isa, "the last current in training");
      expect(last_v[n] == static_cast<float>(v) / s_scale, isa, "the last voltage in training");

      float after = after_v[n], kept = 0.0f;
      const float unit = 1.0f / s_scale, i_keep = static_cast<float>(forward.i_keep) / 4096, v_keep = static_cast<float>(forward.v_keep) / 4096;
      for (std::size_t t = steps; t-- > 0;) {
        const std::size_t at = t * neurons + n;
        if (backward.grad_currents) kept += late[at];
        const float slope = by_table ? table[static_cast<std::size_t>((static_cast<double>(charged[t]) - potentials[0]) / step)] : slopes[at];
        float through = charged[t] > forward.threshold ? 0.0f : after;
        if (reset) through -= slope * (static_cast<float>(charged[t]) * unit) * after;
        const float grad = slope * grad_s[backward.grad_spikes_stride ? at : n] + through;
        kept += grad;
        expect(grad_x[at] == kept * 0.5f || std::isnan(kept), isa, "a gradient in training");
        const float left = t == 0 ? v0[n] : charged[t - 1] > forward.threshold ? 0.0f : static_cast<float>(charged[t - 1]) * unit;
        const double of_v = static_cast<double>(grad) * left, of_i = static_cast<double>(kept) * (t ? currents[at - neurons] : u0[n]);
        i_expected += of_i, v_expected += of_v, largest += std::abs(of_i) + std::abs(of_v);
        after = grad * v_keep, kept = forward.i_keep ? kept * i_keep : 0.0f;
      }
      expect(grad_u[n] == kept || std::isnan(kept), isa, "the first current's gradient");
      expect(grad_v[n] == after || std::isnan(after), isa, "the first voltage's gradient");
    }
    if (learns && std::isfinite(largest)) {
      expect(std::abs(i_sum - i_expected) <= 1e-9 * largest, isa, "the current decay's gradient");
      expect(std::abs(v_sum - v_expected) <= 1e-9 * largest, isa, "the voltage decay's gradient");
    }
  }
}

void check_training_weights(Random& random) {
  const std::size_t count = random.between(0, 100);
  const float step = random.one_of({2.0f / 64, 2.0f / 100, 2.0f});
  const auto weight = filled<float>(count, [&] { return static_cast<float>(random.between(-2000, 2000)) / 100; });
  const auto grad = filled<float>(count, [&] { return static_cast<float>(random.between(-9, 9)); });
  auto whole = filled<float>(count, [] { return NAN; }), back = filled<float>(count, [] { return NAN; });
  for (int index = 0; const snn::Kernels* kernels = snn::available_kernels(index); ++index) {
    snn::use_isa(kernels->isa);
    expect_taken(snn::training_weights(weight.get(), nullptr, whole.get(), count, step), kernels->isa);
    expect_taken(snn::training_weights(weight.get(), grad.get(), back.get(), count, step), kernels->isa);
    for (std::size_t i = 0; i < count; ++i) {
      const float half = std::rint(weight[i] / step);
      expect(whole[i] == 2 * std::min(127.0f, std::max(-128.0f, half)), kernels->isa, "a weight in training");
      expect(back[i] == (half >= -128 && half <= 127 ? grad[i] * 2 / step : 0), kernels->isa, "a weight's gradient");
    }
  }
}

void check_float_neuron(Random& random) {
  const std::size_t neurons = random.one_of<i64>({0, 1, 15, 16, 17, 511, 512, 513, random.between(1, 2000)});
  const std::size_t steps = random.between(0, 6);
  const float scale = random.one_of({1.0f, 3.0f, 1e30f});
  const auto real = [&] { return scale * static_cast<float>(random.between(-1000, 1000)) / 700.0f; };
  auto x = filled<float>(steps * neurons, [&] { return random.between(0, 99) ? real() : random.one_of({INFINITY, -INFINITY, NAN}); });
  auto initial_v = filled<float>(neurons, real), s = filled<float>(steps * neurons, [] { return NAN; });
  auto final_v = filled<float>(neurons, [] { return 0.0f; });

  snn::FloatLayer layer{};
  auto& p = layer.parameters;
  p.charge = random.one_of({snn::Charge::integrate, snn::Charge::decayed_input, snn::Charge::plain_input});
  p.divides = random.coin(), p.soft_reset = random.coin();
  p.leak = p.divides ? random.one_of({1.0f, 1.7f, 100.0f}) : random.one_of({0.0f, 0.37f, 1.0f});
  p.v_threshold = random.one_of({1.0f, 0.1f, -0.5f}), p.v_reset = p.soft_reset ? 0.0f : random.one_of({0.0f, -0.3f});
  layer.steps = steps, layer.neurons = neurons, layer.x = x.get(), layer.s = s.get(), layer.final_v = final_v.get();
  layer.initial_v = random.coin() ? initial_v.get() : nullptr;

  for (int index = 0; const snn::Kernels* kernels = snn::available_kernels(index); ++index) {
    snn::use_isa(kernels->isa);
    run(layer, random);
    for (std::size_t n = 0; n < neurons; ++n) {
      float v = layer.initial_v ? initial_v[n] : p.v_reset;
      for (std::size_t t = 0; t < steps; ++t) {
        const float x_t = x[t * neurons + n];
        const auto leak = [&](float y) { return p.divides ? y / p.leak : y * p.leak; };
        const float h = p.charge == snn::Charge::integrate       ? v + x_t
                        : p.charge == snn::Charge::decayed_input ? v + leak(x_t - (v - p.v_reset))
                                                                 : v - leak(v - p.v_reset) + x_t;
        const float spike = h >= p.v_threshold ? 1.0f : 0.0f;
        expect(s[t * neurons + n] == spike, kernels->isa, "a float neuron's spike");
        v = p.soft_reset ? h - spike * p.v_threshold : spike * p.v_reset + (1.0f - spike) * h;
      }
      expect(final_v[n] == v || (std::isnan(v) && std::isnan(final_v[n])), kernels->isa, "a float neuron's potential");
    }
  }
}

void check_block(Random& random) {
  snn::BlockLayer layer{};
  auto& w = layer.window;
  const bool real = random.coin();
  std::size_t size[2], out[2];
  for (int axis = 0; axis < 2; ++axis) {
    size[axis] = random.between(1, 9), w.padding[axis] = random.between(0, 2), w.stride[axis] = random.between(1, 3);
    w.kernel[axis] = random.between(1, std::min<i64>(5, size[axis] + 2 * w.padding[axis]));
    w.dilation[axis] = w.kernel[axis] > 1 ? random.between(1, std::min<i64>(3, (size[axis] + 2 * w.padding[axis] - 1) / (w.kernel[axis] - 1))) : 1;
    out[axis] = (size[axis] + 2 * w.padding[axis] - (w.kernel[axis] - 1) * w.dilation[axis] - 1) / w.stride[axis] + 1;
  }
  layer.height = size[0], layer.width = size[1], layer.channels = random.one_of<i64>({1, 2, 3, 4, 8, 17});
  layer.out_height = out[0], layer.out_width = out[1], layer.outputs = random.one_of<i64>({1, 2, 15, 16, 17, 33});
  layer.steps = random.one_of<i64>({0, 1, 3, 8, 31, 32, 33, 70}), layer.samples = random.between(0, 3);
  layer.parameters = {static_cast<i32>(random.one_of<i64>({0, 4096, random.between(0, 4096)})),
                      static_cast<i32>(random.one_of<i64>({0, 4096, random.between(0, 4096)})), static_cast<i32>(random.between(0, 400)) << 6};
  const std::size_t C = layer.channels, H = layer.height, W = layer.width, O = layer.outputs, T = layer.steps, N = layer.samples;

  // The weights as a convolution has them, and packed.
  layer.packed = !real;
  const std::size_t kh = w.kernel[0], kw = w.kernel[1], groups = layer.groups(), runs = real && w.dilation[1] == 1 ? kh : kh * kw;
  auto weights = filled<std::int8_t>(O * kh * kw * C, [&] { return static_cast<std::int8_t>(random.between(-128, 127)); });
  auto packed = filled<std::int8_t>((O + 15) / 16 * groups * 64, [] { return std::int8_t{0}; });
  const std::size_t run_bytes = kh * kw * C / runs;
  for (std::size_t o = 0; o < O; ++o)
    for (std::size_t i = 0; i < kh * kw * C; ++i)
      packed[((o / 16 * groups + i / run_bytes * (groups / runs) + i % run_bytes / 4) * 16 + o % 16) * 4 + i % run_bytes % 4] = weights[o * kh * kw * C + i];
  auto bias = filled<i32>(O, [&] { return static_cast<i32>(random.between(-4096, 4095)); });
  const i64 largest = real ? random.one_of<i64>({1, 1, 127, 128}) : 1;  // 128 is more than the kernels take
  auto x = filled<std::uint8_t>(T * N * H * W * C, [&] { return static_cast<std::uint8_t>(random.between(0, largest)); });
  auto real_x = filled<float>(T * N * H * W * C, [] { return 0.0f; });
  // Spikes as a block leaves them, with anything behind the last channel.
  const std::size_t in_blocks = (C + 15) / 16, out_blocks = (O + 15) / 16;
  auto packed_x = filled<std::uint8_t>(N * H * W * in_blocks * T * 16, [&] { return static_cast<std::uint8_t>(random.between(0, 255)); });
  for (std::size_t frame = 0; frame < T * N; ++frame)
    for (std::size_t i = 0; i < H * W * C; ++i) {
      const std::size_t t = frame / N, n = frame % N, c = i % C, place = i / C;
      real_x[(frame * C + c) * H * W + place] = x[frame * H * W * C + i];
      packed_x[(((n * H * W + place) * in_blocks + c / 16) * T + t) * 16 + c % 16] = x[frame * H * W * C + i];
    }
  const std::size_t count = T * N * layer.out_height * layer.out_width * O;
  auto spikes = filled<std::uint8_t>(N * layer.out_height * layer.out_width * out_blocks * T * 16, [] { return std::uint8_t{9}; });
  auto s = filled<float>(count, [] { return NAN; });
  layer.weights = packed.get(), layer.bias = random.coin() ? bias.get() : nullptr;
  real ? layer.real_x = real_x.get() : nullptr;
  layer.spikes_x = real ? nullptr : packed_x.get();
  layer.spikes = spikes.get(), layer.s = random.coin() ? s.get() : nullptr;

  i64 most = 0;
  for (std::size_t o = 0; o < O; ++o) {
    i64 sum = 0;
    for (std::size_t i = 0; i < kh * kw * C; ++i) sum += std::abs(2 * weights[o * kh * kw * C + i]);
    most = std::max(most, sum);
  }
  layer.small_sums = most * (real ? 127 : 1) < 1 << 17 && random.coin();

  for (int index = 0; const snn::Kernels* kernels = snn::available_kernels(index); ++index) {
    snn::use_isa(kernels->isa);
    bool fits = true;
    for (std::size_t task = layer.tasks(); task-- > 0;) fits = layer.run(task) && fits;
    if (!fits)
      for (std::size_t n = 0; n < N; ++n) layer.run_real(n);
    for (std::size_t at = 0; at < N * layer.out_height * layer.out_width * O; ++at) {
      const std::size_t o = at % O, column = at / O % out[1], row = at / O / out[1] % out[0], n = at / O / out[1] / out[0];
      i32 u = 0, v = 0;
      for (std::size_t t = 0; t < T; ++t) {
        i64 a = 0;
        for (std::size_t i = 0; i < kh * kw * C; ++i) {
          const std::size_t y = row * w.stride[0] + i / C / kw * w.dilation[0] - w.padding[0];
          const std::size_t z = column * w.stride[1] + i / C % kw * w.dilation[1] - w.padding[1];
          if (y < H && z < W) a += i64{2} * weights[o * kh * kw * C + i] * x[(((t * N + n) * H + y) * W + z) * C + i % C];
        }
        i64 sum = wrapped(static_cast<i64>(u) * layer.parameters.u_keep / 4096 + wrapped(a * 64));
        if (sum > 1 << 23) sum -= 1 << 24;
        if (sum <= -(1 << 23)) sum += 1 << 24;
        u = wrapped(sum);
        sum = wrapped(static_cast<i64>(v) * layer.parameters.v_keep / 4096 + u + (layer.bias ? bias[o] * 64 : 0));
        v = static_cast<i32>(std::min<i64>(std::max<i64>(sum, 1 - (1 << 23)), (1 << 23) - 1));
        const bool fired = v > layer.parameters.threshold;
        const std::size_t frame = (t * N + n) * out[0] * out[1] * O, place = row * out[1] + column;
        expect(spikes[(((n * out[0] * out[1] + place) * out_blocks + o / 16) * T + t) * 16 + o % 16] == fired, kernels->isa, "a block's spike");
        if (layer.s) expect(s[frame + o * out[0] * out[1] + place] == static_cast<float>(fired), kernels->isa, "a block's spike as float");
        if (fired) v = 0;
      }
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  const double seconds = count > 1 ? std::atof(arguments[1]) : 5;
  const unsigned seed = count > 2 ? std::atoi(arguments[2]) : 0;
  const auto start = std::chrono::steady_clock::now();
  unsigned round = 0;
  try {
    for (; std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < seconds; ++round) {
      Random random(seed + round);
      check_cuba_lif(random);
      check_recurrent(random);
      check_float_neuron(random);
      check_block(random);
      check_training(random);
      check_training_weights(random);
    }
  } catch (const Failure& failure) {
    std::printf("seed %u: %s\n", seed + round, failure.what.c_str());
    return 1;
  }
  std::printf("%u rounds on", round);
  for (int index = 0; const snn::Kernels* kernels = snn::available_kernels(index); ++index) std::printf(" %s", kernels->isa);
  std::printf(": no difference\n");
}
