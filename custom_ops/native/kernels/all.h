// The kernels of an instruction set, all in one table.
#pragma once

#include "block.h"
#include "feedback.h"
#include "neurons.h"

namespace snn {
namespace {

// `BlockL` does the blocks where they have lanes of their own.
template <class L, class BlockL = L>
constexpr Kernels kernels_of(const char* isa) {
  return {isa,         cuba_lif<L, float>, cuba_lif<L, std::int32_t>, float_neuron<L>, cuba_block<BlockL>, whole_bytes<BlockL>,
          feedback<L>, whole_words,        (BlockL::width > 1)};
}

}  // namespace
}  // namespace snn
