// A block, synapse and CUBA neurons in one, written once for every instruction set: 16 output neurons at one place over all time steps.
//
// The synaptic sums of several time steps are formed together, since they do not depend on the neurons' states: each weight is read
// once for all of them. `Lanes` needs, beyond what neurons.h asks for, `Weights`, `load_weights`, `dot` and `store_spikes`.
#pragma once

#include "lanes_plain.h"
#include "neurons.h"
#include "tile.h"

namespace snn {
namespace {

inline std::uint32_t four_bytes(const std::uint8_t* from) {
  std::uint32_t value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

// The next `count` time steps.
template <class L, int count, bool is_if>
inline void block_steps(const BlockTile& tile, std::size_t t, typename L::Int* u, typename L::Int* v) {
  constexpr int vectors = block_lanes / L::width;
  typename L::Int sums[count][vectors];
  for (auto& step : sums)
    for (auto& sum : step) sum = L::set(0);
  const std::uint8_t* x = tile.x + t * tile.x_stride;
  const std::int8_t* weights = tile.weights;
  for (std::size_t group = 0; group < tile.groups; ++group, weights += 4 * block_lanes) {
    typename L::Weights w[vectors];
    for (int k = 0; k < vectors; ++k) w[k] = L::load_weights(weights + 4 * L::width * k);
    for (int step = 0; step < count; ++step) {
      const std::uint32_t spikes = four_bytes(x + step * tile.x_stride + tile.offsets[group]);
      for (int k = 0; k < vectors; ++k) sums[step][k] = L::dot(sums[step][k], spikes, w[k]);
    }
  }
  const auto u_keep = L::set(tile.parameters.u_keep);
  const auto v_keep = L::set(tile.parameters.v_keep);
  const auto threshold = L::set(tile.parameters.threshold);
  const auto limit = L::set((1 << 23) - 1);
  const auto negative_limit = L::set(1 - (1 << 23));
  for (int step = 0; step < count; ++step) {
    for (int k = 0; k < vectors; ++k) {
      const auto a = L::template shift_left<7>(sums[step][k]);  // the weights are halves, and a state's unit is 2**-6
      u[k] = wrap24<L>(is_if ? a : L::add(decayed<L>(u[k], u_keep), a));
      const auto kept = is_if ? v[k] : decayed<L>(v[k], v_keep);
      const auto charged = L::add(L::add(kept, u[k]), L::load(tile.bias + L::width * k));
      const auto clipped = L::min(L::max(charged, negative_limit), limit);
      const auto fired = L::greater(clipped, threshold);
      v[k] = L::zero_where(fired, clipped);
      L::store_spikes(tile.s + (t + step) * tile.s_stride + L::width * k, fired);
    }
  }
}

template <class L, bool is_if>
void block_tile(const BlockTile& tile) {
  constexpr int vectors = block_lanes / L::width;
  constexpr int together = L::width == 16 ? 8 : L::width == 8 ? 4 : 1;  // as many sums as there are registers
  typename L::Int u[vectors], v[vectors];
  for (int k = 0; k < vectors; ++k) u[k] = L::load(tile.u + L::width * k), v[k] = L::load(tile.v + L::width * k);
  std::size_t t = 0;
  for (; t + together <= tile.steps; t += together) block_steps<L, together, is_if>(tile, t, u, v);
  for (; t < tile.steps; ++t) block_steps<L, 1, is_if>(tile, t, u, v);
  for (int k = 0; k < vectors; ++k) L::store(tile.u + L::width * k, u[k]), L::store(tile.v + L::width * k, v[k]);
}

template <class L>
void cuba_block(const BlockTile& tile) {
  const bool is_if = tile.parameters.u_keep == 0 && tile.parameters.v_keep == 4096;
  is_if ? block_tile<L, true>(tile) : block_tile<L, false>(tile);
}

// All kernels of an instruction set. `BlockL` does the blocks where they have lanes of their own.
template <class L, class BlockL = L>
constexpr Kernels kernels_of(const char* isa) {
  return {isa, cuba_lif<L, float>, cuba_lif<L, std::int32_t>, float_neuron<L>, cuba_block<BlockL>, (BlockL::width > 1)};
}

}  // namespace
}  // namespace snn
