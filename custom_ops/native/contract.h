// What the operators demand of a node: the range of each attribute, the shape of each input, and that every size which is computed from
// them fits. This is the one place for it. Everything here throws ModelError; nothing behind it (layers, kernels) checks a size again.
//
// Shapes are checked twice by the same functions: when a session is made, with what the file says (a dimension may be open, -1, and a
// shape unknown), and before each run, with what is there. Types and missing inputs: Context, in operator.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "block.h"
#include "layer.h"
#include "operator.h"

namespace snn {

// Elements that a tensor may have, a dimension of 0 counted as 1: far more than fit in memory, and few enough that bytes, lanes and sums
// of a few such numbers stay inside 64 bits.
constexpr std::int64_t most_elements = std::int64_t{1} << 46;
// Sizes of a block's window, and inputs that one of its neurons reads: their products, up to 127 * 128 each, add up inside 32 bits.
constexpr std::int64_t most_window = 1 << 20, most_block_inputs = 1 << 17;
// Bytes that one of a block's tasks may take for its part of the input.
constexpr std::size_t most_scratch = std::size_t{1} << 24;

// The elements of a tensor whose dimensions are all known.
std::size_t element_count(const Shape& shape);

// The attributes of a node in the form that the kernels use.
CubaLIFParameters cuba_lif_parameters(const Node& node);
FloatParameters if_parameters(const Node& node);
FloatParameters lif_parameters(const Node& node);

// The input of a layer of neurons: [T, N, *].
void check_sequence(const Known& x);
// The input of a recurrent layer, [T, N, F], and its weights, [F, F].
void check_recurrent(const Known& x, const Known& weight);
// A state of the neurons that read `x`: one value for each.
void check_state(const Known& state, const char* name, const Known& x);
// A bias, or another number of each neuron: it is broadcast to them.
void check_broadcast(const Known& values, const char* name, const Known& x);
// Whole numbers, each in its range.
void check_range(const Tensor& values, const char* name, std::int32_t low, std::int32_t high);
// The parameters of snn.HeterogeneousCubaLIF, which are inputs.
void check_heterogeneous(const Tensor& i_decay, const Tensor& v_decay, const Tensor& v_threshold);

// Attributes of snn.CubaBlock.
struct BlockAttributes {
  CubaLIFParameters parameters;
  bool dense, small_sums;
  Window window;
  std::size_t channels, outputs;
};

BlockAttributes block_attributes(const Node& node);
// The inputs of a block: `x` [T, N, *], or [N, H, W, C / 16, T, 16] where it is packed.
void check_block(const BlockAttributes& attributes, bool packed, const Known& x, const Known& weights, const Known& bias);
// The sizes of a block with an input that has passed: everything but its pointers.
BlockLayer block_layer(const BlockAttributes& attributes, bool packed, const Shape& x);

}  // namespace snn
