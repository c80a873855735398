// A block on the GPU: 8-bit weights where spikes are, and the neurons behind them, in one kernel.
//
// A thread is one neuron. It forms the sums of several time steps together, since they do not depend on its state: a weight is read once
// for all of them, and four products are one instruction (dp4a). The sums go on to the neuron in registers. Sixteen neighbouring threads
// are the sixteen outputs at one place; they read the same inputs, sixteen bytes at a time, and weights that lie side by side.
//
// An input that comes as floats is first made bytes, as the CPU does, channels last and with zeros around the image. Where one of them is no
// whole number in 0 ... 127 the kernels before it have said so, and another forms the sums in float64, in the CPU's order.
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "cuda/launch.h"
#include "cuda/memory.h"
#include "cuda/neuron.cuh"

namespace snn::cuda {
namespace {

constexpr int threads_in_block = 256;
constexpr unsigned together = 8;                 // time steps whose sums are formed together
constexpr unsigned most_blocks = 1 << 12;    // of the kernel that usually has nothing to do

// What a kernel needs of a layer; sizes of 32 bits, in which a GPU divides quickly.
struct Block {
  CubaLIFParameters parameters;
  unsigned steps, samples, channels, height, width, outputs, out_height, out_width, lane_blocks;
  unsigned kernel[2], stride[2], padding[2], dilation[2];
  unsigned row_runs, run_groups, run_bytes;
  bool joins_row;
  const float* real_x;         // [T, N, C, H, W], or null
  const std::uint8_t* x;       // [N, H, W, C / 16, T, 16], or the bytes made of real_x: [N, T, H + 2 P, W + 2 P, C]
  const int* beyond;           // not 0 where those bytes cannot say what real_x is
  const std::int8_t* weights;
  const std::int32_t* bias;
  std::uint8_t* spikes;
  float* s;

  // Of the image with its padding.
  __host__ __device__ unsigned padded_row() const { return (width + 2 * padding[1]) * channels; }
  __host__ __device__ unsigned padded_frame() const { return (height + 2 * padding[0]) * padded_row(); }
};

// A place of the output, and which sixteen outputs there.
struct Place {
  unsigned block, column, row;
  std::size_t sample;

  __device__ Place(const Block& layer, std::size_t item) {
    block = static_cast<unsigned>(item % layer.lane_blocks), item /= layer.lane_blocks;
    column = static_cast<unsigned>(item % layer.out_width), item /= layer.out_width;
    row = static_cast<unsigned>(item % layer.out_height);
    sample = item / layer.out_height;
  }
};

__device__ std::size_t thread_number() { return static_cast<std::size_t>(blockIdx.x) * threads_in_block + threadIdx.x; }

__global__ void __launch_bounds__(threads_in_block) pack(Block layer, unsigned blocks_in_frame, std::uint8_t* bytes, int* beyond) {
  const unsigned frame = blockIdx.x / blocks_in_frame;  // sample and time step
  const unsigned at = blockIdx.x % blocks_in_frame * threads_in_block + threadIdx.x;
  if (at >= layer.padded_frame()) return;
  const unsigned channel = at % layer.channels, place = at / layer.channels, padded_width = layer.width + 2 * layer.padding[1];
  const unsigned row = place / padded_width - layer.padding[0], column = place % padded_width - layer.padding[1];
  std::uint8_t byte = 0;
  if (row < layer.height && column < layer.width) {  // numbers before the image have wrapped around
    const std::size_t image = (frame % layer.steps * static_cast<std::size_t>(layer.samples) + frame / layer.steps) * layer.channels + channel;
    const float value = __ldcs(layer.real_x + (image * layer.height + row) * layer.width + column);
    const int whole_value = value >= 0.0f && value <= 127.0f ? __float2int_rz(value) : 128;
    if (whole_value == 128 || static_cast<float>(whole_value) != value) *beyond = 1;
    byte = static_cast<std::uint8_t>(whole_value);
  }
  bytes[static_cast<std::size_t>(frame) * layer.padded_frame() + at] = byte;
}

// The four bytes from `offset` on, which need not be aligned; the word behind them is read as well.
__device__ int four_bytes(const std::uint32_t* words, std::size_t offset) {
  const std::uint32_t* word = words + offset / 4;
  return static_cast<int>(__funnelshift_r(__ldg(word), __ldg(word + 1), static_cast<unsigned>(offset % 4) * 8));
}

// The sums of up to `together` time steps from `t` on, with all of them there where `all`.
template <bool packed, bool all>
__device__ void add_up(const Block& layer, const Place& place, const int* weights, unsigned t, unsigned count, int* sums) {
  for (unsigned ky = 0; ky < layer.kernel[0]; ++ky) {
    unsigned y = place.row * layer.stride[0] + ky * layer.dilation[0];
    for (unsigned run = 0; run < layer.row_runs; ++run, weights += layer.run_groups * block_lanes) {
      unsigned x = place.column * layer.stride[1] + run * layer.dilation[1];
      if constexpr (packed) {
        if (y - layer.padding[0] >= layer.height || x - layer.padding[1] >= layer.width) continue;  // before the image: wrapped around
        const std::size_t at = (place.sample * layer.height + y - layer.padding[0]) * layer.width + x - layer.padding[1];
        const unsigned blocks = (layer.run_groups + 3) / 4;
        for (unsigned block = 0; block < blocks; ++block) {
          const auto* inputs = reinterpret_cast<const uint4*>(layer.x) + (at * blocks + block) * layer.steps + t;
          const unsigned group = 4 * block;
          int w[4];
#pragma unroll
          for (unsigned k = 0; k < 4; ++k) w[k] = group + k < layer.run_groups ? __ldg(weights + (group + k) * block_lanes) : 0;
#pragma unroll
          for (unsigned k = 0; k < together; ++k) {
            if (!all && k >= count) break;
            const uint4 sixteen = __ldg(inputs + k);
            sums[k] = __dp4a(static_cast<int>(sixteen.x), w[0], sums[k]);
            sums[k] = __dp4a(static_cast<int>(sixteen.y), w[1], sums[k]);
            sums[k] = __dp4a(static_cast<int>(sixteen.z), w[2], sums[k]);
            sums[k] = __dp4a(static_cast<int>(sixteen.w), w[3], sums[k]);
          }
        }
      } else {
        const auto* words = reinterpret_cast<const std::uint32_t*>(layer.x);
        const std::size_t frame = layer.padded_frame();
        const std::size_t at = (place.sample * layer.steps + t) * frame + y * layer.padded_row() + x * layer.channels;
        for (unsigned group = 0; group < layer.run_groups; ++group) {
          const int w = __ldg(weights + group * block_lanes);
#pragma unroll
          for (unsigned k = 0; k < together; ++k)
            if (all || k < count) sums[k] = __dp4a(four_bytes(words, at + k * frame + 4 * group), w, sums[k]);
        }
      }
    }
  }
}

template <bool packed, bool is_if>
__global__ void __launch_bounds__(threads_in_block) cuba_block(Block layer) {
  const std::size_t item = thread_number() / block_lanes;
  const unsigned lane = threadIdx.x % block_lanes;
  const Place place(layer, item);
  if (place.sample >= layer.samples) return;
  if (!packed && *layer.beyond) return;
  const unsigned output = place.block * block_lanes + lane;
  const std::int32_t bias = layer.bias && output < layer.outputs ? shifted<6>(__ldg(layer.bias + output)) : 0;
  const std::size_t groups = static_cast<std::size_t>(layer.kernel[0]) * layer.row_runs * layer.run_groups;
  const int* weights = reinterpret_cast<const int*>(layer.weights) + place.block * groups * block_lanes + lane;
  std::uint8_t* spikes = layer.spikes + item * layer.steps * block_lanes + lane;
  Cuba neuron{0, 0};
  for (unsigned t = 0; t < layer.steps; t += together, spikes += together * block_lanes) {
    const unsigned count = layer.steps - t;
    int sums[together] = {};
    if (count >= together) {
      add_up<packed, true>(layer, place, weights, t, count, sums);
    } else {
      add_up<packed, false>(layer, place, weights, t, count, sums);
    }
#pragma unroll
    for (unsigned k = 0; k < together; ++k)  // weights are halves, and a state's unit is 2**-6
      if (k < count) spikes[k * block_lanes] = neuron.step<is_if>(layer.parameters, shifted<7>(sums[k]), bias);
  }
}

// The same for an input that is no whole number: what onnxruntime's convolution would give, rounded to float32, and a CubaLIF node behind it.
__global__ void __launch_bounds__(threads_in_block) real_block(Block layer, std::size_t neurons) {
  if (!*layer.beyond) return;
  for (std::size_t index = thread_number(); index < neurons; index += static_cast<std::size_t>(gridDim.x) * threads_in_block) {
    const std::size_t item = index / block_lanes;
    const unsigned lane = static_cast<unsigned>(index % block_lanes);
    const Place place(layer, item);
    const unsigned output = place.block * block_lanes + lane;
    const std::int32_t bias = layer.bias && output < layer.outputs ? shifted<6>(__ldg(layer.bias + output)) : 0;
    const std::size_t groups = static_cast<std::size_t>(layer.kernel[0]) * layer.row_runs * layer.run_groups;
    const std::int8_t* weights = layer.weights + (place.block * groups * block_lanes + lane) * 4;
    Cuba neuron{0, 0};
    for (unsigned t = 0; t < layer.steps; ++t) {
      const float* image = layer.real_x + (t * static_cast<std::size_t>(layer.samples) + place.sample) * layer.channels * layer.height * layer.width;
      double sum = 0;
      std::size_t group = 0;
      for (unsigned ky = 0; ky < layer.kernel[0]; ++ky) {
        const unsigned y = place.row * layer.stride[0] + ky * layer.dilation[0] - layer.padding[0];
        for (unsigned run = 0; run < layer.row_runs; ++run, group += layer.run_groups) {
          for (unsigned byte = 0; byte < layer.run_bytes; ++byte) {
            const unsigned kx = layer.joins_row ? byte / layer.channels : run, channel = byte % layer.channels;
            const unsigned x = place.column * layer.stride[1] + kx * layer.dilation[1] - layer.padding[1];
            if (y >= layer.height || x >= layer.width) continue;
            const int weight = weights[(group + byte / 4) * block_lanes * 4 + byte % 4];
            sum += 2.0 * weight * image[(static_cast<std::size_t>(channel) * layer.height + y) * layer.width + x];
          }
        }
      }
      const bool fired = neuron.step<false>(layer.parameters, shifted<6>(whole(static_cast<float>(sum))), bias);
      layer.spikes[(item * layer.steps + t) * block_lanes + lane] = fired;
    }
  }
}

// The spikes as onnxruntime's other operators read them, [T, N, O, H', W']: a thread has sixteen outputs at one place in one step.
__global__ void __launch_bounds__(threads_in_block) unpack(Block layer, std::size_t count) {
  std::size_t index = thread_number();
  if (index >= count) return;
  const unsigned plane = layer.out_height * layer.out_width;
  const unsigned place = static_cast<unsigned>(index % plane);
  index /= plane;
  const unsigned block = static_cast<unsigned>(index % layer.lane_blocks);
  index /= layer.lane_blocks;  // time step and sample
  const std::size_t t = index / layer.samples, sample = index % layer.samples;
  const std::uint8_t* from = layer.spikes + (((sample * plane + place) * layer.lane_blocks + block) * layer.steps + t) * block_lanes;
  float* to = layer.s + (index * layer.outputs + block * block_lanes) * plane + place;
  const unsigned outputs = layer.outputs - block * block_lanes;
#pragma unroll
  for (unsigned k = 0; k < block_lanes; ++k)
    if (k < outputs) to[static_cast<std::size_t>(k) * plane] = static_cast<float>(from[k]);
}

unsigned narrow(std::size_t size, const char* what) {
  if (size > INT32_MAX) throw std::runtime_error(std::string("snn.CubaBlock on the GPU: ") + what + " is larger than a GPU kernel takes");
  return static_cast<unsigned>(size);
}

dim3 blocks_for(std::size_t threads) { return dim3(narrow((threads + threads_in_block - 1) / threads_in_block, "the layer")); }

void check_alignment(const void* pointer, std::size_t bytes, const char* what) {
  if (reinterpret_cast<std::uintptr_t>(pointer) % bytes)
    throw std::runtime_error(std::string("snn.CubaBlock on the GPU: ") + what + " start at no multiple of " + std::to_string(bytes) + " bytes");
}

Block sizes(const BlockLayer& layer) {
  Block block{};
  block.parameters = layer.parameters;
  block.steps = narrow(layer.steps, "the number of time steps"), block.samples = narrow(layer.samples, "the batch");
  block.channels = narrow(layer.channels, "the number of channels"), block.outputs = narrow(layer.outputs, "the number of outputs");
  block.height = narrow(layer.height, "the image"), block.width = narrow(layer.width, "the image");
  block.out_height = narrow(layer.out_height, "the image"), block.out_width = narrow(layer.out_width, "the image");
  narrow(layer.out_height * layer.out_width, "the image");
  block.lane_blocks = narrow(layer.lane_blocks(), "the number of outputs");
  for (int axis = 0; axis < 2; ++axis) {
    block.kernel[axis] = narrow(layer.window.kernel[axis], "the kernel"), block.stride[axis] = narrow(layer.window.stride[axis], "the stride");
    block.padding[axis] = narrow(layer.window.padding[axis], "the padding");
    block.dilation[axis] = narrow(layer.window.dilation[axis], "the dilation");
  }
  block.row_runs = narrow(layer.row_runs(), "the kernel"), block.run_groups = narrow(layer.run_groups(), "the kernel");
  block.run_bytes = narrow(layer.run_bytes(), "the kernel"), block.joins_row = layer.joins_row();
  block.weights = layer.weights, block.bias = layer.bias, block.spikes = layer.spikes, block.s = layer.s;
  return block;
}

template <bool packed>
void launch_block(const Block& block, std::size_t neurons, cudaStream_t stream) {
  if (is_if(block.parameters)) {
    cuba_block<packed, true><<<blocks_for(neurons), threads_in_block, 0, stream>>>(block);
  } else {
    cuba_block<packed, false><<<blocks_for(neurons), threads_in_block, 0, stream>>>(block);
  }
  launched("snn.CubaBlock on the GPU");
}

// Makes bytes of the input.
void launch_pack(const Block& block, std::uint8_t* bytes, int* beyond, cudaStream_t stream) {
  const unsigned blocks_in_frame = (block.padded_frame() + threads_in_block - 1) / threads_in_block;
  const unsigned blocks = narrow(static_cast<std::size_t>(block.steps) * block.samples * blocks_in_frame, "the input");
  check(cudaMemsetAsync(beyond, 0, sizeof *beyond, stream), "cudaMemsetAsync");
  pack<<<blocks, threads_in_block, 0, stream>>>(block, blocks_in_frame, bytes, beyond);
  launched("packing the input of snn.CubaBlock on the GPU");
}

}  // namespace

void launch(const BlockLayer& layer, void* given_stream) {
  const std::size_t places = layer.samples * layer.out_height * layer.out_width, neurons = places * layer.lane_blocks() * block_lanes;
  if (!layer.steps || !places) return;
  const auto stream = static_cast<cudaStream_t>(given_stream);
  check_alignment(layer.weights, 4, "the weights");
  Block block = sizes(layer);
  Memory memory(stream);
  if (layer.packed) {
    check_alignment(layer.spikes_x, 16, "the spikes");
    block.x = layer.spikes_x;
    launch_block<true>(block, neurons, stream);
  } else {
    const std::size_t padded[2] = {layer.height + 2 * layer.window.padding[0], layer.width + 2 * layer.window.padding[1]};
    const std::size_t frame = narrow(padded[0] * padded[1] * layer.channels, "the padded image");
    constexpr std::size_t slack = 8;  // the last group of four may end behind the last byte, and the word behind it is read, too
    auto* bytes = memory.allocate<std::uint8_t>((layer.steps * layer.samples * frame + 3) / 4 * 4 + slack);
    auto* beyond = memory.allocate<int>(1);
    block.real_x = layer.real_x, block.x = bytes, block.beyond = beyond;
    launch_pack(block, bytes, beyond, stream);
    launch_block<false>(block, neurons, stream);
    const dim3 few(blocks_for(neurons).x < most_blocks ? blocks_for(neurons).x : most_blocks);
    real_block<<<few, threads_in_block, 0, stream>>>(block, neurons);
    launched("snn.CubaBlock on the GPU");
  }
  if (!block.s) return;
  const std::size_t sixteens = layer.steps * places * layer.lane_blocks();
  unpack<<<blocks_for(sixteens), threads_in_block, 0, stream>>>(block, sixteens);
  launched("snn.CubaBlock on the GPU");
}

}  // namespace snn::cuda
