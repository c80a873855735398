// A block, synapse and CUBA neurons in one, written once for every instruction set: 16 output neurons, at places side by side, over time.
//
// The synaptic sums of several time steps are formed together, since they do not depend on the neurons' states: each weight is read
// once for all of them. Two places at a time, where there are registers for that: the states of one wait for each other from step to
// step. `Lanes` needs, beyond what neurons.h asks for, `Weights`, `load_weights`, `dot`, `Fired`,
// `store_spikes` and `store_whole`.
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

// What the neurons' arithmetic needs: IF neurons in Loihi's integers have no decay, and their current never wraps around where the
// weights are too small for that.
enum class BlockForm { decaying, integrating, integrating_small_sums };

// Asks for what the next places will read or write; as in neurons.h, that may lie behind the tensor.
template <int writes>
inline void block_prefetch(const std::uint8_t* at, std::size_t ahead) {
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(at) + ahead), writes);
}

// `count` time steps of `places` places. The loops over them have to be unrolled, or the sums do not stay in registers; and the inputs are
// addressed from one pointer for every four steps, or the offsets do not.
template <class L, int places, int count, BlockForm form, bool packed>
inline void block_steps(const BlockTile& tile, const std::uint8_t* x, std::uint8_t* s, typename L::Int* u, typename L::Int* v) {
  constexpr int vectors = block_lanes / L::width, quads = (count + 3) / 4;
  const std::size_t x_step = packed ? block_lanes : tile.x_step;
  typename L::Int sums[places * vectors * count];
#pragma GCC unroll 16
  for (int i = 0; i < places * vectors * count; ++i) sums[i] = L::set(0);
  for (std::size_t r = 0; r < tile.run_count; ++r) {
    const BlockRun& run = tile.runs[r];
    const std::int8_t* weights = tile.weights + run.first_group * 4 * block_lanes;
    const std::uint8_t* inputs[places * quads];
#pragma GCC unroll 16
    for (int i = 0; i < places * quads; ++i) {
      inputs[i] = x + run.x + i / quads * tile.x_place + i % quads * 4 * x_step;
      if constexpr (packed && places > 1) block_prefetch<0>(inputs[i], places * tile.x_place);
    }
    for (std::size_t group = 0; group < run.groups; ++group, weights += 4 * block_lanes) {
      typename L::Weights w[vectors];
#pragma GCC unroll 16
      for (int k = 0; k < vectors; ++k) w[k] = L::load_weights(weights + 4 * L::width * k);
#pragma GCC unroll 16
      for (int i = 0; i < places * count; ++i) {
        const int step = i % count;
        const std::uint32_t four = four_bytes(inputs[i / count * quads + step / 4] + step % 4 * x_step);
#pragma GCC unroll 16
        for (int k = 0; k < vectors; ++k) sums[i * vectors + k] = L::dot(sums[i * vectors + k], four, w[k]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < places * quads; ++i) inputs[i] += 4;
    }
  }
  const auto u_keep = L::set(tile.parameters.u_keep);
  const auto v_keep = L::set(tile.parameters.v_keep);
  const auto threshold = L::set(tile.parameters.threshold);
  const auto negative_limit = L::set(1 - (1 << 23));
#pragma GCC unroll 16
  for (int i = 0; i < places * vectors; ++i) {
    const int p = i / vectors, k = i % vectors;
    const auto bias = L::load(tile.bias + L::width * k);
    typename L::Fired fired[count];
#pragma GCC unroll 16
    for (int step = 0; step < count; ++step) {
      // The weights are halves, and a state's unit is 2**-6.
      const auto a = L::template shift_left<7>(sums[(p * count + step) * vectors + k]);
      if constexpr (form == BlockForm::decaying) {
        u[i] = wrap24<L>(L::add(decayed<L>(u[i], u_keep), a));
        v[i] = decayed<L>(v[i], v_keep);
      } else {
        u[i] = form == BlockForm::integrating ? wrap24<L>(a) : a;
      }
      // A potential above the upper limit is above the threshold, too, and goes back to 0: only the lower limit is left to see.
      const auto charged = L::add(v[i], L::add(u[i], bias));
      fired[step] = L::greater(charged, threshold);
      v[i] = L::zero_where(fired[step], L::max(charged, negative_limit));
    }
    if constexpr (places > 1)
      for (int quad = 0; quad < quads; ++quad) block_prefetch<1>(s + p * tile.s_place + 64 * quad, places * tile.s_place);
    L::template store_spikes<count>(s + p * tile.s_place + L::width * k, fired);
  }
}

// All time steps of `places` places.
template <class L, int places, BlockForm form, bool packed>
inline void block_places(const BlockTile& tile, std::size_t first) {
  constexpr int vectors = block_lanes / L::width;
  constexpr int together = L::width == 16 ? 8 : L::width == 8 ? 4 : 1;  // as many sums as there are registers
  typename L::Int u[places * vectors], v[places * vectors];
  std::int32_t* const us = tile.u + first * tile.state_place;
  std::int32_t* const vs = tile.v + first * tile.state_place;
  for (int p = 0; p < places; ++p) {
    for (int k = 0; k < vectors; ++k) {
      u[p * vectors + k] = L::load(us + p * tile.state_place + L::width * k);
      v[p * vectors + k] = L::load(vs + p * tile.state_place + L::width * k);
    }
  }
  const std::uint8_t* x = tile.x + first * tile.x_place;
  std::uint8_t* s = tile.s + first * tile.s_place;
  std::size_t left = tile.steps;
  for (; left >= together; left -= together, x += together * tile.x_step, s += together * block_lanes)
    block_steps<L, places, together, form, packed>(tile, x, s, u, v);
  for (; left > 0; --left, x += tile.x_step, s += block_lanes) block_steps<L, places, 1, form, packed>(tile, x, s, u, v);
  for (int p = 0; p < places; ++p) {
    for (int k = 0; k < vectors; ++k) {
      L::store(us + p * tile.state_place + L::width * k, u[p * vectors + k]);
      L::store(vs + p * tile.state_place + L::width * k, v[p * vectors + k]);
    }
  }
}

template <class L, BlockForm form, bool packed>
void block_in_twos(const BlockTile& tile) {
  constexpr int together = L::width == 16 ? 2 : 1;
  std::size_t place = 0;
  for (; place + together <= tile.places; place += together) block_places<L, together, form, packed>(tile, place);
  for (; place < tile.places; ++place) block_places<L, 1, form, packed>(tile, place);
}

template <class L, BlockForm form>
void block_tile(const BlockTile& tile) {
  tile.x_step == block_lanes ? block_in_twos<L, form, true>(tile) : block_in_twos<L, form, false>(tile);
}

template <class L>
void cuba_block(const BlockTile& tile) {
  const bool is_if = tile.parameters.u_keep == 0 && tile.parameters.v_keep == 4096;
  if (!is_if) {
    block_tile<L, BlockForm::decaying>(tile);
  } else if (!tile.small_sums) {
    block_tile<L, BlockForm::integrating>(tile);
  } else {
    block_tile<L, BlockForm::integrating_small_sums>(tile);
  }
}

// The inputs as bytes; false where one is not a whole number in 0 ... 127.
template <class L>
bool whole_bytes(const float* x, std::uint8_t* bytes, std::size_t count) {
  bool whole = true;
  std::size_t i = 0;
  for (; i + L::width <= count; i += L::width) whole &= L::store_whole(bytes + i, x + i);
  for (; i < count; ++i) whole &= PlainLanes::store_whole(bytes + i, x + i);
  return whole;
}

}  // namespace
}  // namespace snn
