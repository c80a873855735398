// The GPU's kernels against the CPU's on random input, and their bandwidth against a copy of the same bytes.
//
//   cuda_check [CASES [SEED]]        prints a table; exit code 1 where anything differs, 2 without a GPU
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "cuda/launch.h"
#include "layer.h"

namespace {

using snn::cuda::check;
using i32 = std::int32_t;

template <class T>
class Device {
 public:
  explicit Device(std::size_t count) : count_(count) { check(cudaMalloc(&data_, count * sizeof(T)), "cudaMalloc"); }
  explicit Device(const std::vector<T>& host) : Device(host.size()) {
    check(cudaMemcpy(data_, host.data(), count_ * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  Device(const Device&) = delete;
  ~Device() { cudaFree(data_); }
  T* get() const { return static_cast<T*>(data_); }
  std::vector<T> host() const {
    std::vector<T> values(count_);
    check(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return values;
  }

 private:
  void* data_ = nullptr;
  std::size_t count_;
};

// All neurons of a layer on all cores.
template <class Layer>
void run_on_cpu(const Layer& layer) {
  const std::size_t workers = std::max(1u, std::thread::hardware_concurrency());
  const std::size_t share = (layer.neurons / workers / snn::tile_size + 1) * snn::tile_size;
  std::vector<std::thread> threads;
  for (std::size_t begin = 0; begin < layer.neurons; begin += share)
    threads.emplace_back([&layer, begin, share] { layer.run(begin, std::min(begin + share, layer.neurons)); });
  for (std::thread& thread : threads) thread.join();
}

std::size_t differing(const void* a, const void* b, std::size_t bytes) {
  if (!std::memcmp(a, b, bytes)) return 0;
  std::size_t count = 0;
  for (std::size_t i = 0; i < bytes / 4; ++i) count += std::memcmp(static_cast<const char*>(a) + 4 * i, static_cast<const char*>(b) + 4 * i, 4) != 0;
  return count;
}

struct Tally {
  std::size_t neuron_steps = 0, spikes = 0, differ = 0;
};

std::vector<float> random_input(std::size_t count, float scale, unsigned seed, bool whole) {
  std::vector<float> values(count);
  std::uint64_t state = 0x9e3779b97f4a7c15u * (seed + 1);
  for (float& value : values) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    const float uniform = static_cast<float>(state >> 40) / static_cast<float>(1 << 24) - 0.4f;
    value = whole ? static_cast<float>(static_cast<int>(uniform * scale)) : uniform * scale;
  }
  return values;
}

void cuba_lif_case(std::mt19937& random, std::size_t steps, std::size_t neurons, Tally& tally) {
  const auto between = [&](i32 low, i32 high) { return std::uniform_int_distribution<i32>(low, high)(random); };
  const float scales[] = {100.0f, 3000.0f, 200000.0f};  // the largest reaches the 24-bit limits
  const std::vector<float> x = random_input(steps * neurons, scales[between(0, 2)], random(), true);
  std::vector<i32> bias(neurons), u(neurons), v(neurons);
  for (std::size_t i = 0; i < neurons; ++i) bias[i] = between(-4096, 4095), u[i] = between(-(1 << 23), 1 << 23), v[i] = between(-(1 << 23), 1 << 23);
  snn::CubaLIFLayer layer{};
  const i32 decays[] = {0, 1, 4095, 4096, between(0, 4096)};
  layer.parameters = {decays[between(0, 4)], decays[between(0, 4)], between(0, 131071) << 6};
  if (between(0, 3) == 0) layer.parameters.u_keep = 0, layer.parameters.v_keep = 4096;
  layer.steps = steps, layer.neurons = neurons, layer.x_is_float = true, layer.bias_is_float = false;
  const auto count = static_cast<std::int64_t>(neurons);
  layer.bias_over_neurons = snn::Broadcast({count}, {count});

  std::vector<float> s(steps * neurons);
  std::vector<i32> final_u(neurons), final_v(neurons);
  layer.x = x.data(), layer.bias = bias.data(), layer.initial_u = u.data(), layer.initial_v = v.data();
  layer.s = s.data(), layer.final_u = final_u.data(), layer.final_v = final_v.data();
  run_on_cpu(layer);

  const Device<float> x_gpu(x), s_gpu(s.size());
  const Device<i32> bias_gpu(bias), u_gpu(u), v_gpu(v), final_u_gpu(neurons), final_v_gpu(neurons);
  layer.x = x_gpu.get(), layer.bias = bias_gpu.get(), layer.initial_u = u_gpu.get(), layer.initial_v = v_gpu.get();
  layer.s = s_gpu.get(), layer.final_u = final_u_gpu.get(), layer.final_v = final_v_gpu.get();
  snn::cuda::launch(layer, nullptr);
  tally.differ += differing(s.data(), s_gpu.host().data(), 4 * s.size()) +
                  differing(final_u.data(), final_u_gpu.host().data(), 4 * neurons) +
                  differing(final_v.data(), final_v_gpu.host().data(), 4 * neurons);
  tally.neuron_steps += steps * neurons;
  tally.spikes += static_cast<std::size_t>(std::count(s.begin(), s.end(), 1.0f));
}

void float_case(std::mt19937& random, bool leaks, std::size_t steps, std::size_t neurons, Tally& tally) {
  const auto coin = [&] { return std::uniform_int_distribution<int>(0, 1)(random) == 1; };
  const std::vector<float> x = random_input(steps * neurons, 3.0f, random(), false), v = random_input(neurons, 2.0f, random(), false);
  snn::FloatLayer layer{};
  auto& p = layer.parameters;
  p.charge = !leaks ? snn::Charge::integrate : coin() ? snn::Charge::decayed_input : snn::Charge::plain_input;
  p.divides = coin(), p.leak = p.divides ? 1.7f : 0.37f, p.soft_reset = coin();
  p.v_threshold = 1.0f, p.v_reset = p.soft_reset || coin() ? 0.0f : -0.3f;
  layer.steps = steps, layer.neurons = neurons;
  std::vector<float> s(steps * neurons), final_v(neurons);
  layer.x = x.data(), layer.initial_v = v.data(), layer.s = s.data(), layer.final_v = final_v.data();
  run_on_cpu(layer);
  const Device<float> x_gpu(x), v_gpu(v), s_gpu(s.size()), final_v_gpu(neurons);
  layer.x = x_gpu.get(), layer.initial_v = v_gpu.get(), layer.s = s_gpu.get(), layer.final_v = final_v_gpu.get();
  snn::cuda::launch(layer, nullptr);
  tally.differ += differing(s.data(), s_gpu.host().data(), 4 * s.size()) + differing(final_v.data(), final_v_gpu.host().data(), 4 * neurons);
  tally.neuron_steps += steps * neurons;
  tally.spikes += static_cast<std::size_t>(std::count(s.begin(), s.end(), 1.0f));
}

// The median time of one call in seconds, by events on the stream, after warming up.
template <class Call>
double timed(Call call) {
  cudaEvent_t start, stop;
  check(cudaEventCreate(&start), "cudaEventCreate"), check(cudaEventCreate(&stop), "cudaEventCreate");
  std::vector<float> milliseconds;
  for (int run = 0; run < 23; ++run) {
    check(cudaEventRecord(start), "cudaEventRecord");
    call();
    check(cudaEventRecord(stop), "cudaEventRecord"), check(cudaEventSynchronize(stop), "cudaEventSynchronize");
    float taken = 0;
    check(cudaEventElapsedTime(&taken, start, stop), "cudaEventElapsedTime");
    if (run >= 3) milliseconds.push_back(taken);
  }
  std::nth_element(milliseconds.begin(), milliseconds.begin() + 10, milliseconds.end());
  return milliseconds[10] / 1e3;
}

void bandwidth(std::size_t steps, std::size_t neurons) {
  const std::size_t count = steps * neurons;
  const Device<float> x(random_input(count, 100.0f, 7, true)), s(count);
  const double bytes = 8.0 * static_cast<double>(count);
  const double copy = timed([&] { check(cudaMemcpyAsync(s.get(), x.get(), 4 * count, cudaMemcpyDeviceToDevice), "copy"); });
  std::printf("%4zu x %9zu  %-28s %9.3f ms %8.0f GB/s\n", steps, neurons, "copy", 1e3 * copy, bytes / copy / 1e9);
  const auto report = [&](const char* name, const auto& layer) {
    const double taken = timed([&] { snn::cuda::launch(layer, nullptr); });
    std::printf("%4zu x %9zu  %-28s %9.3f ms %8.0f GB/s  %5.1f %% of the copy\n", steps, neurons, name, 1e3 * taken,
                bytes / taken / 1e9, 100 * copy / taken);
  };
  snn::CubaLIFLayer cuba{};
  cuba.parameters = {3072, 3968, 64 << 6}, cuba.steps = steps, cuba.neurons = neurons;
  cuba.x = x.get(), cuba.x_is_float = true, cuba.s = s.get();
  report("CubaLIF", cuba);
  snn::FloatLayer neuron{};
  neuron.steps = steps, neuron.neurons = neurons, neuron.x = x.get(), neuron.s = s.get();
  neuron.parameters.v_threshold = 50.0f, neuron.parameters.leak = 2.0f, neuron.parameters.divides = true;
  report("IF", neuron);
  neuron.parameters.charge = snn::Charge::decayed_input;
  report("LIF", neuron);
}

}  // namespace

int main(int count, char** arguments) try {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices < 1) {
    std::fprintf(stderr, "Error: no CUDA GPU was found on this machine.\n");
    return 2;
  }
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  std::printf("%s\n\n", properties.name);

  const int cases = count > 1 ? std::atoi(arguments[1]) : 18;  // more than 10**9 neuron-steps
  std::mt19937 random(count > 2 ? std::atoi(arguments[2]) : 0);
  const char* names[] = {"CubaLIF", "IF", "LIF"};
  Tally tallies[3];
  // Whole, odd and tiny layers: four-wide threads, single ones, and steps that are no multiple of what is read ahead.
  const std::size_t shapes[][2] = {{64, 1 << 20}, {61, (1 << 20) + 3}, {1, 5}, {7, 4099}, {3, 1 << 19}, {0, 100}};
  for (int round = 0; round < cases; ++round) {
    const auto& shape = shapes[static_cast<std::size_t>(round) % (sizeof shapes / sizeof *shapes)];
    cuba_lif_case(random, shape[0], shape[1], tallies[0]);
    float_case(random, false, shape[0], shape[1], tallies[1]);
    float_case(random, true, shape[0], shape[1], tallies[2]);
  }
  std::size_t differ = 0;
  for (int kind = 0; kind < 3; ++kind) {
    const Tally& t = tallies[kind];
    std::printf("%-8s %14zu neuron-steps, %13zu spikes, %zu differ from the CPU\n", names[kind], t.neuron_steps, t.spikes, t.differ);
    differ += t.differ;
  }
  std::printf("\n");
  bandwidth(64, 1 << 16);
  bandwidth(64, 1 << 20);
  bandwidth(32, 1 << 24);
  return differ ? 1 : 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "Error: %s\n", error.what());
  return 2;
}
