// A layer of blocks, synapse and CUBA neurons in one: whole tensors on one side, places for the kernels on the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/tile.h"

namespace snn {

// How the synapse reads its input, along height and width. A dense synapse is a kernel of one place over one place of many channels.
struct Window {
  std::size_t kernel[2], stride[2], padding[2], dilation[2];
};

struct BlockLayer {
  CubaLIFParameters parameters;
  bool small_sums;              // no sum of products reaches 2**17
  Window window;
  std::size_t steps, samples;
  std::size_t height, width, channels;          // of the input
  std::size_t out_height, out_width, outputs;   // of the neurons
  bool packed;                  // whether the input comes from another block
  const float* real_x;          // where it does not: [T, N, C, H, W]
  const std::uint8_t* spikes_x; // where it does: 0 and 1, [N, H, W, ceil(C / 16), T, 16]
  const std::int8_t* weights;   // halves, [ceil(outputs / 16), groups(), 16, 4]
  const std::int32_t* bias;     // mantissas, [outputs], or null
  std::uint8_t* spikes;         // [N, H', W', ceil(O / 16), T, 16]: what 16 neurons do in all time steps lies side by side
  float* s;                     // [T, N, O, H', W'], or null

  // Groups of four inputs that each neuron reads. Inputs that lie side by side, the channels of one place (or all of a row of the kernel,
  // where they come as floats and the kernel is not dilated), are filled up with zero weights to a multiple of four.
  std::size_t groups() const;

  // Those that lie side by side are a run: how many bytes and groups it has, and how many runs a row of the kernel has.
  bool joins_row() const { return !packed && window.dilation[1] == 1; }
  std::size_t run_bytes() const { return joins_row() ? window.kernel[1] * channels : channels; }
  std::size_t run_groups() const { return (run_bytes() + 3) / 4; }
  std::size_t row_runs() const { return joins_row() ? 1 : window.kernel[1]; }

  // Sixteens of outputs.
  std::size_t lane_blocks() const { return (outputs + block_lanes - 1) / block_lanes; }

  // What one task needs for its part of an input that is not packed, at least: one row of neurons, some time steps.
  std::size_t scratch_bytes() const;

  // The layer falls into tasks that may run at the same time.
  std::size_t tasks() const;
  // False where an input is not a whole number in 0 ... 127; then all tasks have to be done by run_real.
  bool run(std::size_t task) const;

  // The same for any input, one sample a task, in float64: slow, and hardly ever needed.
  void run_real(std::size_t sample) const;

 private:
  // Where a place's spikes begin.
  std::uint8_t* spikes_at(std::size_t sample, std::size_t row, std::size_t column, std::size_t block) const {
    return spikes + (((sample * out_height + row) * out_width + column) * lane_blocks() + block) * steps * block_lanes;
  }
  std::size_t rows_in_task() const;
  bool fill(std::uint8_t* scratch, std::size_t sample, std::size_t t, std::size_t first_row, std::size_t rows) const;
  std::vector<BlockRun> runs_in(std::size_t row, std::size_t column) const;
  void write_real(std::size_t sample, std::size_t t, std::size_t count, std::size_t first_row, std::size_t rows) const;
};

}  // namespace snn
