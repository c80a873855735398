// What comes back to a recurrent layer: the rows of the neurons that fired, added up; written once for every instruction set.
//
// `Lanes` needs, beyond what neurons.h asks for, `load_words`: as many 16-bit numbers with sign as it has lanes.
#pragma once

#include "lanes_plain.h"
#include "neurons.h"
#include "tile.h"

namespace snn {
namespace {

template <class L>
inline typename L::Int whole(const std::int16_t* x) {
  return L::load_words(x);
}

// The sums of `vectors` vectors of neurons stay in registers while the rows pass by.
template <class L, int vectors, class X, class Weight>
inline void feedback_columns(const FeedbackTile& tile, std::size_t at) {
  const X* x = static_cast<const X*>(tile.x) + at;
  const Weight* rows = static_cast<const Weight*>(tile.rows) + at;
  typename L::Int sums[vectors];
#pragma GCC unroll 16
  for (int i = 0; i < vectors; ++i) sums[i] = whole<L>(x + L::width * i);
  for (std::size_t k = 0; k < tile.fired_count; ++k) {
    const Weight* row = rows + tile.fired[k] * tile.row_step;
#pragma GCC unroll 16
    for (int i = 0; i < vectors; ++i) sums[i] = L::add(sums[i], whole<L>(row + L::width * i));
  }
#pragma GCC unroll 16
  for (int i = 0; i < vectors; ++i) L::store(tile.sums + at + L::width * i, sums[i]);
}

template <class L, class X, class Weight>
void feedback_of(const FeedbackTile& tile) {
  constexpr int together = feedback_width / L::width;
  std::size_t at = 0;
  for (; at + together * L::width <= tile.count; at += together * L::width) feedback_columns<L, together, X, Weight>(tile, at);
  for (; at + L::width <= tile.count; at += L::width) feedback_columns<L, 1, X, Weight>(tile, at);
  for (; at < tile.count; ++at) feedback_columns<PlainLanes, 1, X, Weight>(tile, at);
}

template <class L>
void feedback(const FeedbackTile& tile) {
  if (tile.x_is_float) {
    tile.rows_are_float ? feedback_of<L, float, float>(tile) : feedback_of<L, float, std::int16_t>(tile);
  } else {
    tile.rows_are_float ? feedback_of<L, std::int32_t, float>(tile) : feedback_of<L, std::int32_t, std::int16_t>(tile);
  }
}

// Rounded to 16 bits; false where one does not fit. (A plain loop: compilers make vector instructions of it.)
inline bool whole_words(const float* from, std::int16_t* to, std::size_t count) {
  std::uint32_t beyond = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t value = PlainLanes::round(from[i]);
    to[i] = static_cast<std::int16_t>(value);
    beyond |= (static_cast<std::uint32_t>(value) + 0x8000u) & 0xffff0000u;
  }
  return beyond == 0;
}

}  // namespace
}  // namespace snn
