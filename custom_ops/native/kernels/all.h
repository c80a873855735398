// The kernels of an instruction set, all in one table.
#pragma once

#include "block.h"
#include "feedback.h"
#include "neurons.h"
#include "training.h"

namespace snn {
namespace {

// `BlockL` does the blocks where they have lanes of their own.
template <class L, class BlockL = L>
constexpr Kernels kernels_of(const char* isa) {
  return {isa,         cuba_lif<L, float>, cuba_lif<L, std::int32_t>, heterogeneous_cuba_lif<L>, float_neuron<L>,   cuba_block<BlockL>,    whole_bytes<BlockL>,
          feedback<L>, whole_words,        training_forward,          training_backward, training_weights, training_weights_back,
          (BlockL::width > 1)};
}

}  // namespace
}  // namespace snn
