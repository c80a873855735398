// Part of every 64-bit ARM processor.
#include <arm_neon.h>

#include "all.h"
#include "isa.h"

namespace snn {
namespace {

struct NeonLanes {
  static constexpr std::size_t width = 4;
  static constexpr int vectors_together = 4;
  static constexpr bool has_float_states = false;
  using Int = int32x4_t;
  using Float = float32x4_t;
  using Mask = uint32x4_t;

  static Int set(std::int32_t value) { return vdupq_n_s32(value); }
  static Float set(float value) { return vdupq_n_f32(value); }
  static Int load(const std::int32_t* from) { return vld1q_s32(from); }
  static Float load(const float* from) { return vld1q_f32(from); }
  static Int load_words(const std::int16_t* from) { return vmovl_s16(vld1_s16(from)); }
  static void store(std::int32_t* to, Int value) { vst1q_s32(to, value); }
  static void store(float* to, Float value) { vst1q_f32(to, value); }
  // The instruction saturates and turns NaN into 0; the other instruction sets give the smallest integer for both.
  static Int round(Float x) {
    const Mask fits = vandq_u32(vcgeq_f32(x, vdupq_n_f32(-2147483648.0f)), vcltq_f32(x, vdupq_n_f32(2147483648.0f)));
    return vbslq_s32(fits, vcvtnq_s32_f32(x), vdupq_n_s32(INT32_MIN));
  }

  static Int add(Int a, Int b) { return vaddq_s32(a, b); }
  static Int mul(Int a, Int b) { return vmulq_s32(a, b); }
  static Int absolute(Int a) { return vabsq_s32(a); }
  static Int bit_and(Int a, Int b) { return vandq_s32(a, b); }
  template <int bits>
  static Int shift_left(Int a) { return vshlq_n_s32(a, bits); }
  template <int bits>
  static Int shift_right(Int a) { return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), bits)); }
  static Int fraction(Int magnitude, Int keep) { return split_fraction<NeonLanes>(magnitude, keep); }
  static Int negate_where_negative(Int a, Int sign) { return vbslq_s32(vcltzq_s32(sign), vnegq_s32(a), a); }
  static Int min(Int a, Int b) { return vminq_s32(a, b); }
  static Int max(Int a, Int b) { return vmaxq_s32(a, b); }

  static Mask greater(Int a, Int b) { return vcgtq_s32(a, b); }
  static Int add_where(Mask mask, Int a, Int b) { return vaddq_s32(a, vandq_s32(vreinterpretq_s32_u32(mask), b)); }
  static Int sub_where(Mask mask, Int a, Int b) { return vsubq_s32(a, vandq_s32(vreinterpretq_s32_u32(mask), b)); }
  static Int zero_where(Mask mask, Int a) { return vbicq_s32(a, vreinterpretq_s32_u32(mask)); }
  static Float one_where(Mask mask) {
    return vreinterpretq_f32_u32(vandq_u32(mask, vreinterpretq_u32_f32(vdupq_n_f32(1.0f))));
  }

  static Float add(Float a, Float b) { return vaddq_f32(a, b); }
  static Float sub(Float a, Float b) { return vsubq_f32(a, b); }
  static Float mul(Float a, Float b) { return vmulq_f32(a, b); }
  static Float div(Float a, Float b) { return vdivq_f32(a, b); }
  static Mask greater_equal(Float a, Float b) { return vcgeq_f32(a, b); }
};

}  // namespace

const Kernels neon_kernels = kernels_of<NeonLanes, PlainLanes>("neon");

}  // namespace snn
