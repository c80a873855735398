// What a kernel works on: a tile of neighbouring neurons over all time steps.
//
// The states of a tile live in two arrays that stay in the caches of one core, so that the input is read once and the spikes are written
// once, whatever the number of steps.
#pragma once

#include <cstddef>
#include <cstdint>

namespace snn {

// Neurons in a tile, at most: rows of 16 KiB, since memory is slow to give many short pieces; their states take 48 KiB.
constexpr std::size_t tile_size = 4096;

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

// Inputs of a neuron that lie side by side, and their weights.
struct BlockRun {
  std::size_t x;            // where the first is, in bytes from what the tile's first place sees
  std::size_t first_group;  // of its weights
  std::size_t groups;       // of four inputs
};

// A block of synapse and CUBA neurons, at places in a row that see their inputs in the same way, over some time steps.
struct BlockTile {
  CubaLIFParameters parameters;
  bool small_sums;             // no sum of products reaches 2**17
  const std::uint8_t* x;       // whole numbers, 0 ... 127
  std::size_t x_step, x_place; // bytes from one step, and from one place, to the next
  const BlockRun* runs;
  std::size_t run_count;
  const std::int8_t* weights;  // halves of the weights, [groups, 16, 4]
  std::size_t steps, places;
  const std::int32_t* bias;    // bias << 6, [16]
  std::int32_t* u;             // states, updated, [16] at each place
  std::int32_t* v;
  std::size_t state_place;     // numbers from one place to the next
  std::uint8_t* s;             // spikes, [steps, 16] at each place
  std::size_t s_place;
};

// Neighbouring neurons of a recurrent layer whose sums are formed together.
constexpr std::size_t feedback_width = 64;

// What such neurons of one sample get in a time step: their input, and the weights from the neurons that fired before.
struct FeedbackTile {
  const void* x;        // input of the first neuron: float or int32
  bool x_is_float;
  const void* rows;     // weights from neuron 0 to the first neuron: float or int16
  bool rows_are_float;
  std::size_t row_step; // numbers from the weights of one neuron to those of the next
  const std::uint32_t* fired;
  std::size_t fired_count;
  std::size_t count;    // neurons, at most feedback_width
  std::int32_t* sums;   // of 32 bits: larger ones wrap around
};

// The kernels of one instruction set.
struct Kernels {
  const char* isa;
  void (*cuba_lif_float)(const CubaLIFTile&);
  void (*cuba_lif_int)(const CubaLIFTile&);
  void (*float_neuron)(const FloatTile&);
  void (*cuba_block)(const BlockTile&);
  bool (*whole_bytes)(const float* x, std::uint8_t* bytes, std::size_t count);
  void (*feedback)(const FeedbackTile&);
  bool (*whole_words)(const float* x, std::int16_t* words, std::size_t count);
  bool fast_block;  // whether that one has vector instructions
};

}  // namespace snn
