// One neuron at a time in standard C++: the instruction set that every processor has, and the rest of a tile that no vector fills.
//
// 32-bit sums wrap around, as in the reference; they are formed as unsigned numbers, where C++ allows that.
#pragma once

#include <cstddef>
#include <cstdint>

namespace snn {
namespace {

// magnitude * keep / 4096 without a 64-bit product: with magnitude = upper * 4096 + lower, the result is
// upper * keep + (lower * keep >> 12), and both products fit in 32 bits.
template <class L>
inline typename L::Int split_fraction(typename L::Int magnitude, typename L::Int keep) {
  const auto upper = L::mul(L::template shift_right<12>(magnitude), keep);
  const auto lower = L::template shift_right<12>(L::mul(L::bit_and(magnitude, L::set(0xfff)), keep));
  return L::add(upper, lower);
}

struct PlainLanes {
  static constexpr std::size_t width = 1;
  static constexpr int vectors_together = 1;
  static constexpr bool has_float_states = false;
  using Int = std::int32_t;
  using Float = float;
  using Mask = std::int32_t;  // all bits or none: a branch on a spike would be mispredicted too often

  static Int set(std::int32_t value) { return value; }
  static Float set(float value) { return value; }
  static Int load(const std::int32_t* from) { return *from; }
  static Float load(const float* from) { return *from; }
  static Int load_words(const std::int16_t* from) { return *from; }
  static void store(std::int32_t* to, Int value) { *to = value; }
  static void store(float* to, Float value) { *to = value; }

  // To the nearest whole number, ties to even (the default rounding); the smallest integer where there is none (NaN, too large).
  static Int round(Float x) {
#if __has_builtin(__builtin_irintf)  // GCC turns a loop of it into vector instructions
    const Int nearest = __builtin_irintf(x);
#else
    const Int nearest = static_cast<Int>(__builtin_lrintf(x));
#endif
    return x >= -2147483648.0f && x < 2147483648.0f ? nearest : INT32_MIN;
  }

  static Int add(Int a, Int b) { return static_cast<Int>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b)); }
  static Int sub(Int a, Int b) { return static_cast<Int>(static_cast<std::uint32_t>(a) - static_cast<std::uint32_t>(b)); }
  static Int mul(Int a, Int b) { return static_cast<Int>(static_cast<std::uint32_t>(a) * static_cast<std::uint32_t>(b)); }
  static Int absolute(Int a) { return negate_where_negative(a, a); }
  static Int bit_and(Int a, Int b) { return a & b; }
  template <int bits>
  static Int shift_left(Int a) { return static_cast<Int>(static_cast<std::uint32_t>(a) << bits); }
  template <int bits>  // logical: the upper bits become 0
  static Int shift_right(Int a) { return static_cast<Int>(static_cast<std::uint32_t>(a) >> bits); }
  static Int fraction(Int magnitude, Int keep) { return split_fraction<PlainLanes>(magnitude, keep); }
  static Int negate_where_negative(Int a, Int sign) { return sub(a ^ (sign >> 31), sign >> 31); }
  static Int min(Int a, Int b) { return a < b ? a : b; }
  static Int max(Int a, Int b) { return a > b ? a : b; }

  static Mask greater(Int a, Int b) { return -static_cast<Mask>(a > b); }
  static Int add_where(Mask mask, Int a, Int b) { return add(a, b & mask); }
  static Int sub_where(Mask mask, Int a, Int b) { return sub(a, b & mask); }
  static Int zero_where(Mask mask, Int a) { return a & ~mask; }
  static Float one_where(Mask mask) { return static_cast<Float>(-mask); }

  static Float add(Float a, Float b) { return a + b; }
  static Float sub(Float a, Float b) { return a - b; }
  static Float mul(Float a, Float b) { return a * b; }
  static Float div(Float a, Float b) { return a / b; }
  static Mask greater_equal(Float a, Float b) { return -static_cast<Mask>(a >= b); }

  // Four inputs of 0 ... 127, one in each byte, times the four weights of each neuron.
  using Weights = const std::int8_t*;
  static Weights load_weights(const std::int8_t* from) { return from; }
  static Int dot(Int sum, std::uint32_t inputs, Weights weights) {
    for (int i = 0; i < 4; ++i) sum = add(sum, static_cast<Int>(inputs >> (8 * i) & 0xff) * weights[i]);
    return sum;
  }
  // The next inputs as bytes; false where one is not a whole number in 0 ... 127.
  static bool store_whole(std::uint8_t* to, const float* from) {
    const Int whole = *from >= 0.0f && *from <= 127.0f ? static_cast<Int>(*from) : 128;
    *to = static_cast<std::uint8_t>(whole);
    return static_cast<Float>(whole) == *from && whole < 128;
  }
  // The spikes of neighbouring steps, 16 bytes apart.
  using Fired = Mask;
  template <int steps>
  static void store_spikes(std::uint8_t* to, const Fired* fired) {
    for (int step = 0; step < steps; ++step) to[16 * step] = static_cast<std::uint8_t>(fired[step] & 1);
  }
};

}  // namespace
}  // namespace snn
