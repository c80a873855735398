// Compiled with -mavx2; called only where the processor has it.
#include <immintrin.h>

#include "all.h"
#include "isa.h"

namespace snn {
namespace {

struct Avx2Lanes {
  static constexpr std::size_t width = 8;
  static constexpr int vectors_together = 2;
  static constexpr bool has_float_states = false;
  using Int = __m256i;
  using Float = __m256;

  // A comparison of whole numbers gives a mask of the type of whole numbers, one of floats a mask of floats.
  static Int set(std::int32_t value) { return _mm256_set1_epi32(value); }
  static Float set(float value) { return _mm256_set1_ps(value); }
  static Int load(const std::int32_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
  static Float load(const float* from) { return _mm256_loadu_ps(from); }
  static Int load_words(const std::int16_t* from) {
    return _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static void store(std::int32_t* to, Int value) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value); }
  static void store(float* to, Float value) { _mm256_storeu_ps(to, value); }
  static Int round(Float x) { return _mm256_cvtps_epi32(x); }

  static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
  static Int mul(Int a, Int b) { return _mm256_mullo_epi32(a, b); }
  static Int absolute(Int a) { return _mm256_abs_epi32(a); }
  static Int bit_and(Int a, Int b) { return _mm256_and_si256(a, b); }
  template <int bits>
  static Int shift_left(Int a) { return _mm256_slli_epi32(a, bits); }
  template <int bits>
  static Int shift_right(Int a) { return _mm256_srli_epi32(a, bits); }
  static Int fraction(Int magnitude, Int keep) { return split_fraction<Avx2Lanes>(magnitude, keep); }
  // Gives 0 where sign is 0, which is right: the magnitude of 0 is 0.
  static Int negate_where_negative(Int a, Int sign) { return _mm256_sign_epi32(a, sign); }
  static Int min(Int a, Int b) { return _mm256_min_epi32(a, b); }
  static Int max(Int a, Int b) { return _mm256_max_epi32(a, b); }

  static Int greater(Int a, Int b) { return _mm256_cmpgt_epi32(a, b); }
  static Int add_where(Int mask, Int a, Int b) { return _mm256_add_epi32(a, _mm256_and_si256(mask, b)); }
  static Int sub_where(Int mask, Int a, Int b) { return _mm256_sub_epi32(a, _mm256_and_si256(mask, b)); }
  static Int zero_where(Int mask, Int a) { return _mm256_andnot_si256(mask, a); }
  static Float one_where(Int mask) { return one_where(_mm256_castsi256_ps(mask)); }

  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
  static Float greater_equal(Float a, Float b) { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
  static Float one_where(Float mask) { return _mm256_and_ps(mask, _mm256_set1_ps(1.0f)); }

  using Weights = __m256i;
  static Weights load_weights(const std::int8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
  // Inputs of at most 127 keep the sums of two products inside 16 bits.
  static Int dot(Int sum, std::uint32_t inputs, Weights weights) {
    const Int pairs = _mm256_maddubs_epi16(_mm256_set1_epi32(static_cast<std::int32_t>(inputs)), weights);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static bool store_whole(std::uint8_t* to, const float* from) {
    const Float x = load(from);
    const Int whole = round(x), beyond = _mm256_andnot_si256(_mm256_set1_epi32(127), whole);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
    const int equal = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_cvtepi32_ps(whole), x, _CMP_EQ_OQ));
    return equal == 0xff && _mm256_testz_si256(beyond, beyond);
  }
  using Fired = Int;
  template <int steps>
  static void store_spikes(std::uint8_t* to, const Fired* fired) {
    for (int step = 0; step < steps; ++step) {
      const Int ones = _mm256_srli_epi32(fired[step], 31);
      const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(ones), _mm256_extracti128_si256(ones, 1));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 16 * step), _mm_packus_epi16(words, words));
    }
  }
};

}  // namespace

const Kernels avx2_kernels = kernels_of<Avx2Lanes>("avx2");

}  // namespace snn
