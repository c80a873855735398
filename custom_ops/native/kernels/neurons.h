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

// Time steps that a few vectors of neurons take together, their states in registers. Rows of that many steps are read side by side, which
// the processor's prefetcher follows; many more it would not.
constexpr std::size_t steps_together = 4;

// One time step of a vector of neurons. IF neurons in Loihi's integers (i_decay = 4096, v_decay = 0) are the common case, and need no
// product.
template <class L, bool is_if>
inline typename L::Float cuba_lif_step(const CubaLIFParameters& parameters, typename L::Int x, typename L::Int bias, typename L::Int& u,
                                       typename L::Int& v) {
  const auto a = L::template shift_left<6>(x);
  u = wrap24<L>(is_if ? a : L::add(decayed<L>(u, L::set(parameters.u_keep)), a));
  const auto kept = is_if ? v : decayed<L>(v, L::set(parameters.v_keep));
  const auto charged = L::add(L::add(kept, u), bias);
  // A potential above the upper limit is above any threshold, too, and goes back to 0: only the lower limit is left to see.
  const auto fired = L::greater(charged, L::set(parameters.threshold));
  v = L::zero_where(fired, L::max(charged, L::set(1 - (1 << 23))));
  return L::one_where(fired);
}

// Some time steps of `vectors` vectors of neurons, from neuron `at` of the tile on.
template <class L, int vectors, bool is_if, class X>
inline void cuba_lif_steps(const CubaLIFTile& tile, const X* x, float* s, std::size_t at, std::size_t steps) {
  typename L::Int u[vectors], v[vectors], bias[vectors];
#pragma GCC unroll 16
  for (int i = 0; i < vectors; ++i) {
    u[i] = L::load(tile.u + at + L::width * i), v[i] = L::load(tile.v + at + L::width * i);
    bias[i] = L::load(tile.bias + at + L::width * i);
  }
  x += at, s += at;
  for (std::size_t t = 0; t < steps; ++t, x += tile.stride, s += tile.stride) {
#pragma GCC unroll 16
    for (int i = 0; i < vectors; ++i)
      L::store(s + L::width * i, cuba_lif_step<L, is_if>(tile.parameters, whole<L>(x + L::width * i), bias[i], u[i], v[i]));
  }
#pragma GCC unroll 16
  for (int i = 0; i < vectors; ++i) L::store(tile.u + at + L::width * i, u[i]), L::store(tile.v + at + L::width * i, v[i]);
}

// The same with the states as floats, which takes half the instructions: a float holds every whole number below 2**24, the state times
// keep / 4096 rounded toward zero never reaches the next whole number, and a current that stays below 2**23 does not wrap around. False,
// and no state changed, where one does not: then the steps are for whole numbers. Before the potential is compared it may come to 2**24 and
// more, where it is rounded: far beyond any threshold and limit.
template <class L, int vectors, bool is_if, class X>
inline bool cuba_lif_float_steps(const CubaLIFTile& tile, const X* x, float* s, std::size_t at, std::size_t steps) {
  const auto u_keep = L::set(static_cast<float>(tile.parameters.u_keep) / 4096.0f);
  const auto v_keep = L::set(static_cast<float>(tile.parameters.v_keep) / 4096.0f);
  const auto threshold = L::set(static_cast<float>(tile.parameters.threshold));
  typename L::Float u[vectors], v[vectors], bias[vectors];
#pragma GCC unroll 16
  for (int i = 0; i < vectors; ++i) {
    u[i] = L::to_float(L::load(tile.u + at + L::width * i)), v[i] = L::to_float(L::load(tile.v + at + L::width * i));
    bias[i] = L::to_float(L::load(tile.bias + at + L::width * i));
  }
  x += at, s += at;
  typename L::Mask beyond{};
  for (std::size_t t = 0; t < steps; ++t, x += tile.stride, s += tile.stride) {
#pragma GCC unroll 16
    for (int i = 0; i < vectors; ++i) {
      const auto nearest = L::nearest(x + L::width * i);
      u[i] = is_if ? L::mul(nearest, L::set(64.0f)) : L::multiply_add(nearest, L::set(64.0f), L::truncated_product(u[i], u_keep));
      beyond |= L::beyond(u[i], 8388608.0f);
      const auto kept = is_if ? v[i] : L::truncated_product(v[i], v_keep);
      const auto charged = L::add(L::add(kept, u[i]), bias[i]);
      const auto silent = L::less_equal(charged, threshold);
      L::store(s + L::width * i, L::zero_where(silent, L::set(1.0f)));
      v[i] = L::max_where(silent, charged, L::set(-8388607.0f));
    }
  }
  if (beyond) return false;
#pragma GCC unroll 16
  for (int i = 0; i < vectors; ++i)
    L::store(tile.u + at + L::width * i, L::to_int(u[i])), L::store(tile.v + at + L::width * i, L::to_int(v[i]));
  return true;
}

// Whether the states of the neurons [begin, end) are small enough for floats, and their biases so small that a sum with one is never
// rounded across a threshold.
template <class L>
inline bool floats_hold(const CubaLIFTile& tile, std::size_t begin, std::size_t end) {
  typename L::Mask beyond{};
  for (std::size_t i = begin; i < end; i += L::width) {
    beyond |= L::beyond(L::to_float(L::load(tile.u + i)), 16777216.0f) | L::beyond(L::to_float(L::load(tile.v + i)), 16777216.0f);
    beyond |= L::beyond(L::to_float(L::load(tile.bias + i)), 4194304.0f);
  }
  return !beyond;
}

template <int number>
struct Count {
  constexpr int operator()() const { return number; }
};

template <class L, bool is_if, class X>
void cuba_lif_vectors(const CubaLIFTile& tile, std::size_t end) {
  const X* x = static_cast<const X*>(tile.x);
  float* s = tile.s;
  bool hold = false;
  if constexpr (L::has_float_states) hold = floats_hold<L>(tile, 0, end);
  for (std::size_t left = tile.steps; left > 0; x += steps_together * tile.stride, s += steps_together * tile.stride) {
    const std::size_t steps = left < steps_together ? left : steps_together;
    left -= steps;
    std::size_t at = 0;
    const auto advance = [&](auto vectors) {
      constexpr std::size_t neurons = vectors() * L::width;
      for (; at + neurons <= end; at += neurons) {
        if constexpr (L::has_float_states) {
          if ((hold || floats_hold<L>(tile, at, at + neurons)) &&
              cuba_lif_float_steps<L, vectors(), is_if>(tile, x, s, at, steps))
            continue;
          hold = false;  // these have states that may be anything
        }
        cuba_lif_steps<L, vectors(), is_if>(tile, x, s, at, steps);
      }
    };
    advance(Count<L::vectors_together>{});
    advance(Count<1>{});
    if (left == 0) break;
  }
}

// Neurons one by one, row by row: compilers make vector instructions of the loop over a row.
template <bool is_if, class X>
void cuba_lif_rest(const CubaLIFTile& tile, std::size_t begin) {
  const X* x = static_cast<const X*>(tile.x);
  float* s = tile.s;
  for (std::size_t t = 0; t < tile.steps; ++t, x += tile.stride, s += tile.stride)
    for (std::size_t i = begin; i < tile.count; ++i)
      s[i] = cuba_lif_step<PlainLanes, is_if>(tile.parameters, whole<PlainLanes>(x + i), tile.bias[i], tile.u[i], tile.v[i]);
}

template <class L, bool is_if, class X>
void cuba_lif_tile(const CubaLIFTile& tile) {
  std::size_t vectors = 0;
  if constexpr (L::width > 1) {
    vectors = tile.count - tile.count % L::width;
    cuba_lif_vectors<L, is_if, X>(tile, vectors);
  }
  cuba_lif_rest<is_if, X>(tile, vectors);
}

template <class L, class X>
void cuba_lif(const CubaLIFTile& tile) {
  const bool is_if = tile.parameters.u_keep == 0 && tile.parameters.v_keep == 4096;
  is_if ? cuba_lif_tile<L, true, X>(tile) : cuba_lif_tile<L, false, X>(tile);
}

// Some time steps of the neurons [at, ...) of a tile of which each has parameters of its own, as many at a time as a vector has; gives the
// first neuron that filled none.
template <class L>
std::size_t heterogeneous_steps(const HeterogeneousTile& tile, const float* rows, float* spikes, std::size_t at, std::size_t steps) {
  const auto lowest = L::set(1 - (1 << 23)), highest = L::set((1 << 23) - 1);
  for (; at + L::width <= tile.count; at += L::width) {
    const auto u_keep = L::load(tile.u_keep + at), v_keep = L::load(tile.v_keep + at);
    const auto bias = L::load(tile.bias + at), threshold = L::load(tile.threshold + at);
    auto u = L::load(tile.u + at), v = L::load(tile.v + at);
    const float* x = rows + at;
    float* s = spikes + at;
    for (std::size_t t = 0; t < steps; ++t, x += tile.stride, s += tile.stride) {
      u = wrap24<L>(L::add(decayed<L>(u, u_keep), L::template shift_left<6>(whole<L>(x))));
      // A threshold may be above the upper limit, and its neuron never fires.
      const auto charged = L::min(L::max(L::add(L::add(decayed<L>(v, v_keep), u), bias), lowest), highest);
      const auto fired = L::greater(charged, threshold);
      v = L::zero_where(fired, charged);
      L::store(s, L::one_where(fired));
    }
    L::store(tile.u + at, u), L::store(tile.v + at, v);
  }
  return at;
}

template <class L>
void heterogeneous_cuba_lif(const HeterogeneousTile& tile) {
  const float* x = tile.x;
  float* s = tile.s;
  for (std::size_t left = tile.steps; left > 0; x += steps_together * tile.stride, s += steps_together * tile.stride) {
    const std::size_t steps = left < steps_together ? left : steps_together;
    left -= steps;
    heterogeneous_steps<PlainLanes>(tile, x, s, heterogeneous_steps<L>(tile, x, s, 0, steps), steps);
    if (left == 0) break;
  }
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
inline typename L::Float float_step(const FloatParameters& parameters, typename L::Float x, typename L::Float& v) {
  const auto v_threshold = L::set(parameters.v_threshold);
  const auto h = charged<L, charge, divides>(v, x, L::set(parameters.leak), L::set(parameters.v_reset));
  const auto spike = L::one_where(L::greater_equal(h, v_threshold));
  // SpikingJelly's own formulas, not a selection: an infinite h must leave the same NaN behind.
  v = soft_reset ? L::sub(h, L::mul(spike, v_threshold))
                 : L::add(L::mul(spike, L::set(parameters.v_reset)), L::mul(L::sub(L::set(1.0f), spike), h));
  return spike;
}

template <class L, int vectors, Charge charge, bool divides, bool soft_reset>
inline void float_steps(const FloatTile& tile, const float* x, float* s, std::size_t at, std::size_t steps) {
  typename L::Float v[vectors];
#pragma GCC unroll 16
  for (int i = 0; i < vectors; ++i) v[i] = L::load(tile.v + at + L::width * i);
  x += at, s += at;
  for (std::size_t t = 0; t < steps; ++t, x += tile.stride, s += tile.stride) {
#pragma GCC unroll 16
    for (int i = 0; i < vectors; ++i)
      L::store(s + L::width * i, float_step<L, charge, divides, soft_reset>(tile.parameters, L::load(x + L::width * i), v[i]));
  }
#pragma GCC unroll 16
  for (int i = 0; i < vectors; ++i) L::store(tile.v + at + L::width * i, v[i]);
}

template <class L, Charge charge, bool divides, bool soft_reset>
void float_tile(const FloatTile& tile) {
  const float* x = tile.x;
  float* s = tile.s;
  std::size_t at = 0;
  for (std::size_t left = L::width > 1 ? tile.steps : 0; left > 0; x += steps_together * tile.stride, s += steps_together * tile.stride) {
    const std::size_t steps = left < steps_together ? left : steps_together;
    left -= steps, at = 0;
    constexpr int together = L::vectors_together;
    for (; at + together * L::width <= tile.count; at += together * L::width)
      float_steps<L, together, charge, divides, soft_reset>(tile, x, s, at, steps);
    for (; at + L::width <= tile.count; at += L::width) float_steps<L, 1, charge, divides, soft_reset>(tile, x, s, at, steps);
    if (left == 0) break;
  }
  x = tile.x, s = tile.s;
  for (std::size_t t = 0; t < tile.steps; ++t, x += tile.stride, s += tile.stride)
    for (std::size_t i = at; i < tile.count; ++i) s[i] = float_step<PlainLanes, charge, divides, soft_reset>(tile.parameters, x[i], tile.v[i]);
}

template <class L, Charge charge, bool divides>
void float_reset(const FloatTile& tile) {
  tile.parameters.soft_reset ? float_tile<L, charge, divides, true>(tile) : float_tile<L, charge, divides, false>(tile);
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
