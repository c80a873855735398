// A layer of blocks, synapse and CUBA neurons in one: whole tensors on one side, places for the kernels on the other.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/tile.h"

namespace snn {

// How the synapse reads its input, along height and width. A dense synapse is a kernel of one place over one place of many channels.
struct Window {
  std::size_t kernel[2], stride[2], padding[2], dilation[2];
};

struct BlockLayer {
  CubaLIFParameters parameters;
  Window window;
  std::size_t steps, samples;
  std::size_t height, width, channels;          // of the input
  std::size_t out_height, out_width, outputs;   // of the neurons
  const float* real_x;                          // [T, N, C, H, W], or null
  const std::uint8_t* spikes_x;                 // [T, N, H, W, C] of 0 and 1, where real_x is null
  const std::int8_t* weights;                   // halves, [ceil(outputs / 16), groups(), 16, 4]
  const std::int32_t* bias;                     // mantissas, [outputs], or null
  std::uint8_t* spikes;                         // [T, N, H', W', O]
  float* s;                                     // [T, N, O, H', W'], or null

  // Groups of four inputs that each neuron reads. Inputs that lie side by side, those of a row of the kernel (or of one place, where the
  // kernel is dilated), are filled up with zero weights to a multiple of four.
  std::size_t groups() const;

  // The layer falls into tasks that may run at the same time.
  std::size_t tasks() const;
  // False where an input is not a whole number in 0 ... 127; then all tasks have to be done by run_real.
  bool run(std::size_t task) const;

  // The same for any input, one sample a task, in float64: slow, and hardly ever needed.
  void run_real(std::size_t sample) const;

 private:
  std::size_t run_bytes() const;
  std::size_t rows_in_task() const;
  bool reads_in_place() const;
  bool fill(std::uint8_t* scratch, std::size_t sample, std::size_t t, std::size_t first_row, std::size_t rows) const;
  void write_real(std::size_t sample, std::size_t t, std::size_t count, std::size_t first_row, std::size_t rows) const;
};

}  // namespace snn
