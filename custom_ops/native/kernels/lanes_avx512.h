// Sixteen neurons at a time with AVX-512; included once by each file that is compiled for it, with or without VNNI.
#pragma once

#include <immintrin.h>

#include "all.h"

namespace snn {
namespace {

struct Avx512Lanes {
  static constexpr std::size_t width = 16;
  static constexpr int vectors_together = 4;
  static constexpr bool has_float_states = true;
  using Int = __m512i;
  using Float = __m512;
  using Mask = __mmask16;

  static Int set(std::int32_t value) { return _mm512_set1_epi32(value); }
  static Float set(float value) { return _mm512_set1_ps(value); }
  static Int load(const std::int32_t* from) { return _mm512_loadu_si512(from); }
  static Float load(const float* from) { return _mm512_loadu_ps(from); }
  static Int load_words(const std::int16_t* from) {
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static void store(std::int32_t* to, Int value) { _mm512_storeu_si512(to, value); }
  static void store(float* to, Float value) { _mm512_storeu_ps(to, value); }
  static Int round(Float x) { return _mm512_cvtps_epi32(x); }

  static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static Int mul(Int a, Int b) { return _mm512_mullo_epi32(a, b); }
  static Int absolute(Int a) { return _mm512_abs_epi32(a); }
  static Int bit_and(Int a, Int b) { return _mm512_and_si512(a, b); }
  template <int bits>
  static Int shift_left(Int a) { return _mm512_slli_epi32(a, bits); }
  template <int bits>
  static Int shift_right(Int a) { return _mm512_srli_epi32(a, bits); }
  static Int fraction(Int magnitude, Int keep) { return split_fraction<Avx512Lanes>(magnitude, keep); }
  static Int negate_where_negative(Int a, Int sign) {
    const Int zero = _mm512_setzero_si512();
    return _mm512_mask_sub_epi32(a, _mm512_cmpgt_epi32_mask(zero, sign), zero, a);
  }
  static Float to_float(Int a) { return _mm512_cvtepi32_ps(a); }
  static Int to_int(Float a) { return _mm512_cvtps_epi32(a); }
  static Float nearest(const float* from) {
    return _mm512_roundscale_ps(load(from), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static Float nearest(const std::int32_t* from) { return to_float(load(from)); }
  static Float multiply_add(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  // a * b rounded toward zero to a float and then to a whole number: the same as at once.
  static Float truncated_product(Float a, Float b) {
    constexpr int toward_zero = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;
    return _mm512_roundscale_ps(_mm512_mul_round_ps(a, b, toward_zero), toward_zero);
  }
  // Where the magnitude is not below the limit, or there is no number.
  static Mask beyond(Float a, float limit) { return _mm512_cmp_ps_mask(_mm512_abs_ps(a), set(limit), _CMP_NLT_UQ); }
  static Mask less_equal(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
  static Float zero_where(Mask mask, Float a) { return _mm512_mask_mov_ps(a, mask, _mm512_setzero_ps()); }
  // The larger of both, and 0 elsewhere.
  static Float max_where(Mask mask, Float a, Float b) { return _mm512_maskz_max_ps(mask, a, b); }
  static Int min(Int a, Int b) { return _mm512_min_epi32(a, b); }
  static Int max(Int a, Int b) { return _mm512_max_epi32(a, b); }

  static Mask greater(Int a, Int b) { return _mm512_cmpgt_epi32_mask(a, b); }
  static Int add_where(Mask mask, Int a, Int b) { return _mm512_mask_add_epi32(a, mask, a, b); }
  static Int sub_where(Mask mask, Int a, Int b) { return _mm512_mask_sub_epi32(a, mask, a, b); }
  static Int zero_where(Mask mask, Int a) { return _mm512_mask_mov_epi32(a, mask, _mm512_setzero_si512()); }
  static Float one_where(Mask mask) { return _mm512_maskz_mov_ps(mask, _mm512_set1_ps(1.0f)); }

  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
  static Mask greater_equal(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }

  using Weights = __m512i;
  static Weights load_weights(const std::int8_t* from) { return _mm512_loadu_si512(from); }
  // Inputs of at most 127 keep the sums of two products inside 16 bits.
  static Int dot(Int sum, std::uint32_t inputs, Weights weights) {
#ifdef __AVX512VNNI__
    return _mm512_dpbusd_epi32(sum, _mm512_set1_epi32(static_cast<std::int32_t>(inputs)), weights);
#else
    const __m256i spread = _mm256_set1_epi32(static_cast<std::int32_t>(inputs)), one = _mm256_set1_epi16(1);
    const __m256i low = _mm256_madd_epi16(_mm256_maddubs_epi16(spread, _mm512_castsi512_si256(weights)), one);
    const __m256i high = _mm256_madd_epi16(_mm256_maddubs_epi16(spread, _mm512_extracti64x4_epi64(weights, 1)), one);
    return _mm512_add_epi32(sum, _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
#endif
  }
  static bool store_whole(std::uint8_t* to, const float* from) {
    const Float x = load(from);
    const Int whole = round(x);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(whole));
    const Mask equal = _mm512_cmp_ps_mask(_mm512_cvtepi32_ps(whole), x, _CMP_EQ_OQ);
    return _mm512_mask_cmple_epu32_mask(equal, whole, _mm512_set1_epi32(127)) == 0xffff;
  }
  using Fired = Mask;
  template <int steps>
  static void store_spikes(std::uint8_t* to, const Fired* fired) {
    int step = 0;
#ifdef __AVX512BW__
    for (; step + 4 <= steps; step += 4) {
      const __mmask32 low = _mm512_kunpackw(fired[step + 1], fired[step]), high = _mm512_kunpackw(fired[step + 3], fired[step + 2]);
      _mm512_storeu_si512(to + 16 * step, _mm512_maskz_mov_epi8(_mm512_kunpackd(high, low), _mm512_set1_epi8(1)));
    }
#endif
    for (; step < steps; ++step)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 16 * step), _mm512_cvtepi32_epi8(_mm512_maskz_set1_epi32(fired[step], 1)));
  }
};

}  // namespace
}  // namespace snn
