// What a kernel works on: a tile of neighbouring neurons over all time steps.
//
// The states of a tile live in two small arrays that stay in the first-level cache, so that the input is read once and the spikes
// are written once, whatever the number of steps.
#pragma once

#include <cstddef>
#include <cstdint>

namespace snn {

// Neurons in a tile: 512 of them make rows of 2 KiB, long enough for the hardware's prefetcher; their states take 6 KiB.
constexpr std::size_t tile_size = 512;

// Attributes of snn.CubaLIF in the form that the kernels use.
struct CubaLIFParameters {
  std::int32_t u_keep;     // 4096 - i_decay
  std::int32_t v_keep;     // 4096 - v_decay
  std::int32_t threshold;  // v_threshold << 6
};

struct CubaLIFTile {
  CubaLIFParameters parameters;
  const void* x;             // first neuron of the tile at the first step: float or int32
  float* s;                  // likewise
  std::size_t steps;         // T
  std::size_t stride;        // neurons from one step to the next
  std::size_t count;         // neurons of the tile, at most tile_size
  std::int32_t* u;           // states, updated
  std::int32_t* v;
  const std::int32_t* bias;  // bias << 6, one for each neuron of the tile
};

// How a float neuron charges. The forms differ in the order of their roundings, and each is one of SpikingJelly's.
enum class Charge {
  integrate,     // h = v + x                        IF
  decayed_input, // h = v + (x - (v - v_reset)) * k  LIF with decay_input
  plain_input,   // h = v - (v - v_reset) * k + x    LIF without
};

// Attributes of snn.IF and snn.LIF in the form that the kernels use.
struct FloatParameters {
  Charge charge;
  bool divides;      // k = 1 / tau by division (LIFNode), else by multiplication with decay (ParametricLIFNode)
  bool soft_reset;   // v = h - s * v_threshold, else v = s * v_reset + (1 - s) * h
  float leak;        // tau or decay
  float v_threshold;
  float v_reset;     // 0 with a soft reset
};

struct FloatTile {
  FloatParameters parameters;
  const float* x;
  float* s;
  std::size_t steps;
  std::size_t stride;
  std::size_t count;
  float* v;
};

// Output neurons that a block's kernel works on at a time: neighbouring channels at one place.
constexpr std::size_t block_lanes = 16;

// A block of synapse and CUBA neurons at one place, over some time steps.
struct BlockTile {
  CubaLIFParameters parameters;
  const std::uint8_t* x;        // what the synapse sees at the first step: whole numbers, 0 ... 127
  std::size_t x_stride;         // bytes from one step to the next
  const std::int32_t* offsets;  // where each group of four inputs is, in bytes from x
  std::size_t groups;
  const std::int8_t* weights;   // halves of the weights, [groups, 16, 4]
  std::size_t steps;
  const std::int32_t* bias;     // bias << 6, [16]
  std::int32_t* u;              // states, updated, [16]
  std::int32_t* v;
  std::uint8_t* s;              // spikes, 16 bytes a step
  std::size_t s_stride;
};

// The kernels of one instruction set.
struct Kernels {
  const char* isa;
  void (*cuba_lif_float)(const CubaLIFTile&);
  void (*cuba_lif_int)(const CubaLIFTile&);
  void (*float_neuron)(const FloatTile&);
  void (*cuba_block)(const BlockTile&);
  bool fast_block;  // whether that one has vector instructions
};

}  // namespace snn
