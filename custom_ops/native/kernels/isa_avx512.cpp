// Compiled with -mavx512f; called only where the processor has it.
#include <immintrin.h>

#include "isa.h"
#include "neurons.h"

namespace snn {
namespace {

struct Avx512Lanes {
  static constexpr std::size_t width = 16;
  using Int = __m512i;
  using Float = __m512;
  using Mask = __mmask16;

  static Int set(std::int32_t value) { return _mm512_set1_epi32(value); }
  static Float set(float value) { return _mm512_set1_ps(value); }
  static Int load(const std::int32_t* from) { return _mm512_loadu_si512(from); }
  static Float load(const float* from) { return _mm512_loadu_ps(from); }
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
  static Int negate_where_negative(Int a, Int sign) {
    const Int zero = _mm512_setzero_si512();
    return _mm512_mask_sub_epi32(a, _mm512_cmpgt_epi32_mask(zero, sign), zero, a);
  }
  static Int min(Int a, Int b) { return _mm512_min_epi32(a, b); }
  static Int max(Int a, Int b) { return _mm512_max_epi32(a, b); }

  static Mask greater(Int a, Int b) { return _mm512_cmpgt_epi32_mask(a, b); }
  static Int add_where(Mask mask, Int a, Int b) { return _mm512_mask_add_epi32(a, mask, a, b); }
  static Int sub_where(Mask mask, Int a, Int b) { return _mm512_mask_sub_epi32(a, mask, a, b); }
  static Int zero_where(Mask mask, Int a) { return _mm512_maskz_mov_epi32(static_cast<Mask>(~mask), a); }
  static Float one_where(Mask mask) { return _mm512_maskz_mov_ps(mask, _mm512_set1_ps(1.0f)); }

  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
  static Mask greater_equal(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
};

}  // namespace

const Kernels avx512_kernels = kernels_of<Avx512Lanes>("avx512");

}  // namespace snn
