// The neurons' arithmetic, written once for every instruction set.
//
// A file for an instruction set includes this one after defining `Lanes`, the operations on a vector of `Lanes::width` neurons (see
// lanes_plain.h for what each must do). Everything here has internal linkage: a function that was compiled for AVX-512 must never be
// the copy that the linker keeps for a processor without it. For the same reason nothing here calls the standard library.
#pragma once

#include "lanes_plain.h"
#include "tile.h"

namespace snn {
namespace {

// state * keep / 4096, rounded toward zero, for every 32-bit state and 0 <= keep <= 4096: the magnitude times the fraction keep / 4096.
template <class L>
inline typename L::Int decayed(typename L::Int state, typename L::Int keep) {
  return L::negate_where_negative(L::fraction(L::absolute(state), keep), state);
}

template <class L>
inline typename L::Int wrap24(typename L::Int u) {
  const auto once = L::sub_where(L::greater(u, L::set(1 << 23)), u, L::set(1 << 24));
  return L::add_where(L::greater(L::set(1 - (1 << 23)), once), once, L::set(1 << 24));
}

template <class L>
inline typename L::Int whole(const float* x) {
  return L::round(L::load(x));
}

template <class L>
inline typename L::Int whole(const std::int32_t* x) {
  return L::load(x);
}

// Asks for the rows that are needed three steps later: the processor's own prefetcher does not follow from one row to the next. (Without
// it the loop takes twice as long on 64 steps of 65,536 neurons; the output's rows matter as much as the input's.) The address may lie
// behind the tensor, where nothing is touched: so it is a number, not a pointer. (Compilers do not vectorise a plain loop with it.)
template <class X>
inline void prefetch(const X* x, const float* s, std::size_t stride) {
  const std::size_t ahead = 3 * stride * sizeof(float);
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(x) + ahead), 0);
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(s) + ahead), 1);
}

// One time step of the neurons [begin, end) of a tile; the caller keeps end - begin a multiple of the width. IF neurons in Loihi's
// integers (i_decay = 4096, v_decay = 0) are the common case, and need no product. `small` promises that every state is below 2**24 in
// magnitude, where some instruction sets decay it faster; the result says whether that holds after the step.
template <class L, bool is_if, bool small, class X>
inline bool cuba_lif_step(const CubaLIFTile& tile, const X* x, float* s, std::size_t begin, std::size_t end) {
  const auto u_keep = L::set(tile.parameters.u_keep);
  const auto v_keep = L::set(tile.parameters.v_keep);
  const auto threshold = L::set(tile.parameters.threshold);
  const auto negative_limit = L::set(1 - (1 << 23));
  const auto keeps = [](auto state, auto keep) {
    if constexpr (small) {
      return L::small_decayed(state, keep);
    } else {
      return decayed<L>(state, keep);
    }
  };
  auto bits = L::set(0);
  for (std::size_t i = begin; i < end; i += L::width) {
    if constexpr (L::width > 1) prefetch(x + i, s + i, tile.stride);
    const auto a = L::template shift_left<6>(whole<L>(x + i));
    const auto u = wrap24<L>(is_if ? a : L::add(keeps(L::load(tile.u + i), u_keep), a));
    const auto kept = is_if ? L::load(tile.v + i) : keeps(L::load(tile.v + i), v_keep);
    const auto charged = L::add(L::add(kept, u), L::load(tile.bias + i));
    // A potential above the upper limit is above any threshold, too, and goes back to 0: only the lower limit is left to see.
    const auto fired = L::greater(charged, threshold);
    const auto v = L::max(charged, negative_limit);
    if constexpr (!is_if && L::decays_small_states) bits = L::with_bits_of(bits, u);
    L::store(s + i, L::one_where(fired));
    L::store(tile.u + i, u);
    L::store(tile.v + i, L::zero_where(fired, v));
  }
  if constexpr (!is_if && L::decays_small_states) return L::below_24_bits(bits);
  return false;
}

template <class L, bool is_if, class X>
void cuba_lif_steps(const CubaLIFTile& tile) {
  const std::size_t vectors = tile.count - tile.count % L::width;
  const X* x = static_cast<const X*>(tile.x);
  float* s = tile.s;
  bool small = false;  // the states that come in may be anything
  for (std::size_t t = 0; t < tile.steps; ++t, x += tile.stride, s += tile.stride) {
    if constexpr (L::decays_small_states) {
      small = small ? cuba_lif_step<L, is_if, true>(tile, x, s, 0, vectors) : cuba_lif_step<L, is_if, false>(tile, x, s, 0, vectors);
    } else {
      cuba_lif_step<L, is_if, false>(tile, x, s, 0, vectors);
    }
    cuba_lif_step<PlainLanes, is_if, false>(tile, x, s, vectors, tile.count);
  }
}

template <class L, class X>
void cuba_lif(const CubaLIFTile& tile) {
  const bool is_if = tile.parameters.u_keep == 0 && tile.parameters.v_keep == 4096;
  is_if ? cuba_lif_steps<L, true, X>(tile) : cuba_lif_steps<L, false, X>(tile);
}

template <class L, Charge charge, bool divides>
inline typename L::Float charged(typename L::Float v, typename L::Float x, typename L::Float leak, typename L::Float v_reset) {
  if constexpr (charge == Charge::integrate) {
    return L::add(v, x);
  } else if constexpr (charge == Charge::decayed_input) {
    const auto drive = L::sub(x, L::sub(v, v_reset));
    return L::add(v, divides ? L::div(drive, leak) : L::mul(drive, leak));
  } else {
    const auto gap = L::sub(v, v_reset);
    return L::add(L::sub(v, divides ? L::div(gap, leak) : L::mul(gap, leak)), x);
  }
}

template <class L, Charge charge, bool divides, bool soft_reset>
inline void float_step(const FloatTile& tile, const float* x, float* s, std::size_t begin, std::size_t end) {
  const auto leak = L::set(tile.parameters.leak);
  const auto v_threshold = L::set(tile.parameters.v_threshold);
  const auto v_reset = L::set(tile.parameters.v_reset);
  const auto one = L::set(1.0f);
  for (std::size_t i = begin; i < end; i += L::width) {
    if constexpr (L::width > 1) prefetch(x + i, s + i, tile.stride);
    const auto h = charged<L, charge, divides>(L::load(tile.v + i), L::load(x + i), leak, v_reset);
    const auto spike = L::one_where(L::greater_equal(h, v_threshold));
    L::store(s + i, spike);
    // SpikingJelly's own formulas, not a selection: an infinite h must leave the same NaN behind.
    L::store(tile.v + i, soft_reset ? L::sub(h, L::mul(spike, v_threshold))
                                    : L::add(L::mul(spike, v_reset), L::mul(L::sub(one, spike), h)));
  }
}

template <class L, Charge charge, bool divides, bool soft_reset>
void float_steps(const FloatTile& tile) {
  const std::size_t vectors = tile.count - tile.count % L::width;
  const float* x = tile.x;
  float* s = tile.s;
  for (std::size_t t = 0; t < tile.steps; ++t, x += tile.stride, s += tile.stride) {
    float_step<L, charge, divides, soft_reset>(tile, x, s, 0, vectors);
    float_step<PlainLanes, charge, divides, soft_reset>(tile, x, s, vectors, tile.count);
  }
}

template <class L, Charge charge, bool divides>
void float_reset(const FloatTile& tile) {
  tile.parameters.soft_reset ? float_steps<L, charge, divides, true>(tile) : float_steps<L, charge, divides, false>(tile);
}

template <class L, Charge charge>
void float_leak(const FloatTile& tile) {
  tile.parameters.divides ? float_reset<L, charge, true>(tile) : float_reset<L, charge, false>(tile);
}

template <class L>
void float_neuron(const FloatTile& tile) {
  switch (tile.parameters.charge) {
    case Charge::integrate:
      return float_reset<L, Charge::integrate, false>(tile);
    case Charge::decayed_input:
      return float_leak<L, Charge::decayed_input>(tile);
    case Charge::plain_input:
      return float_leak<L, Charge::plain_input>(tile);
  }
}

}  // namespace
}  // namespace snn
