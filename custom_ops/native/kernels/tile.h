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

// CUBA neurons of which each has parameters of its own.
struct HeterogeneousTile {
  const float* x;  // as in CubaLIFTile
  float* s;
  std::size_t steps;
  std::size_t stride;
  std::size_t count;
  std::int32_t* u;
  std::int32_t* v;
  const std::int32_t* bias;       // bias << 6, and so on: one for each neuron of the tile
  const std::int32_t* u_keep;     // 4096 - i_decay
  const std::int32_t* v_keep;     // 4096 - v_decay
  const std::int32_t* threshold;  // v_threshold << 6
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

// Neurons of a tile in training: its rows and states fit into the nearest cache.
constexpr std::size_t training_tile_size = 2048;

// What arrives at neurons in training.
enum class TrainingInput : std::int32_t {
  weight_units,  // synaptic sums in weight units, rounded to whole ones
  real_values,   // truncated to whole state units
  normed,        // whole numbers, of which each is `unit`, minus the mean of step and channel and times the inverse of the step's deviation
};

// CUBA neurons forward in training. Sequences are [T, stride] from the tile's first neuron on.
struct TrainingForwardTile {
  TrainingInput input;
  std::int32_t i_keep, v_keep;  // 4096 minus decay
  std::int32_t threshold;       // in state units
  float s_scale;                // state units in 1.0
  std::size_t steps, stride, count;
  const float* x;
  float* s;
  float* charged;                // potential before the reset in state units, or null; may be x
  float *currents, *voltages;    // of every step after it, real values, or null
  float *u, *v;                  // states in whole units, updated
  std::int32_t lowest, highest;  // of what was written to `charged`, as ordered() in training.h numbers them; written
  const float* bias;  // what the input, not of real values, holds that the current's register does not, in state units [count], or null
  // Behind a norm: channels change every `inner` neurons, for the first time `first_left` neurons after the tile's first.
  float unit;
  const float *means, *inverse_stds;  // [T, channels] and [T]
  std::size_t channels, inner, first_channel, first_left;
};

// The same backward. Gradients are those of real values.
struct TrainingBackwardTile {
  float i_keep, v_keep;  // 1 minus decay
  float threshold;       // in state units
  float unit;            // real value of a state unit
  float gain;            // of the input
  const float* gains;    // another one for each step, or null
  bool through_reset;    // whether the reset has a gradient
  std::size_t steps, stride, grad_s_stride, count;
  const float* slopes;   // the surrogate's, for each neuron and step, where there is no table
  const float* table;    // or for each potential from `table_from` on, as far as number `table_last`
  float table_from, table_inverse_step, table_last;
  const float* grad_s;
  const float *charged, *currents;              // currents only for i_sum
  const float *grad_voltages, *grad_currents;   // or null
  const float *first_u, *first_v;               // states before the first step, for the sums
  float* grad_x;
  float *grad_u, *grad_v;                       // with respect to the states after the last step, and then before the first
  double *i_sum, *v_sum;                        // of gradient times state, added to; null where not wanted
};

// The kernels of one instruction set.
struct Kernels {
  const char* isa;
  void (*cuba_lif_float)(const CubaLIFTile&);
  void (*cuba_lif_int)(const CubaLIFTile&);
  void (*heterogeneous_cuba_lif)(const HeterogeneousTile&);
  void (*float_neuron)(const FloatTile&);
  void (*cuba_block)(const BlockTile&);
  bool (*whole_bytes)(const float* x, std::uint8_t* bytes, std::size_t count);
  void (*feedback)(const FeedbackTile&);
  bool (*whole_words)(const float* x, std::int16_t* words, std::size_t count);
  void (*training_forward)(TrainingForwardTile&);
  void (*training_backward)(const TrainingBackwardTile&);
  void (*training_weights)(const float* weight, float* whole, std::size_t count, float step);
  void (*training_weights_back)(const float* weight, const float* grad_whole, float* grad, std::size_t count, float step);
  bool fast_block;  // whether that one has vector instructions
};

}  // namespace snn
