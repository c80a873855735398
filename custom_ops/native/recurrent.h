// A layer of CUBA neurons whose spikes come back through a matrix: whole tensors on one side, tiles for the kernels on the other.
#pragma once

#include "layer.h"

namespace snn {

// The weights from one neuron to feedback_width neighbouring ones.
struct alignas(64) WordRow {
  std::int16_t weights[feedback_width];
};

struct RecurrentLayer {
  CubaLIFLayer cuba;       // all samples' neurons, [N, F]
  std::size_t samples, features;
  const float* weight;     // [F, F], from and to
  const float* initial_s;  // [N, F], or null for silence
  float* final_s;          // [N, F], or null
  // The weights in 16 bits, [word_columns(), F]; null to read them from `weight`, which costs a run of few steps less.
  const WordRow* words;

  std::size_t word_columns() const { return (features + feedback_width - 1) / feedback_width; }
  // Whether there are steps and samples enough to make words of the weights first.
  bool wants_words() const;
  // Makes the words of one band of rows, of word_bands(); false where a weight needs more than 16 bits. Bands may be made at the same
  // time.
  bool make_words(std::size_t band, WordRow* all) const;
  std::size_t word_bands() const;

  // All time steps of the samples [begin, end), which go through them side by side. Ranges that do not overlap may run at the same
  // time.
  void run(std::size_t begin, std::size_t end) const;
  // How many samples are worth a task.
  std::size_t samples_in_task() const;
};

}  // namespace snn
