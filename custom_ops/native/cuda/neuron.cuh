// The arithmetic of a neuron on the GPU, as few instructions as we know: a step of CubaLIF is about two dozen.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/tile.h"

namespace snn::cuda {

// Sums wrap around in 32 bits, as on the CPU; unsigned numbers do so by rule.
__device__ inline std::int32_t sum(std::int32_t a, std::int32_t b) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
}

template <int bits>
__device__ inline std::int32_t shifted(std::int32_t a) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) << bits);
}

// To the nearest whole number, ties to even; the smallest one where there is none (NaN, too large).
__device__ inline std::int32_t whole(float x) { return fabsf(x) < 2147483648.0f ? __float2int_rn(x) : INT32_MIN; }
__device__ inline std::int32_t whole(std::int32_t x) { return x; }

// A bias as it is given: whole, or cut to a whole number.
__device__ inline std::int32_t mantissa(float x) { return fabsf(x) < 2147483648.0f ? __float2int_rz(x) : INT32_MIN; }
__device__ inline std::int32_t mantissa(std::int32_t x) { return x; }

// state * keep / 4096, rounded toward zero, with keep in 0 ... 4096: the upper half of a product with keep * 2**20, which for 4096 itself
// does not fit into 32 bits.
__device__ inline std::int32_t decayed(std::int32_t state, std::int32_t keep) {
  const auto bits = static_cast<std::uint32_t>(state), keeps = static_cast<std::uint32_t>(keep);
  const std::uint32_t magnitude = state < 0 ? 0u - bits : bits;
  const std::uint32_t kept = __umulhi(magnitude, keeps << 20) + magnitude * (keeps >> 12);
  return static_cast<std::int32_t>(state < 0 ? 0u - kept : kept);
}

__device__ inline std::int32_t wrap24(std::int32_t u) {
  if (u > 1 << 23) return u - (1 << 24);
  return u <= -(1 << 23) ? u + (1 << 24) : u;
}

// A CUBA neuron.
struct Cuba {
  std::int32_t u, v;

  // One time step with the sum of its synapses and its bias, both in units of the states; whether it fires. An IF neuron needs no
  // multiplication: its current is gone after its step, its voltage stays.
  template <bool is_if>
  __device__ bool step(const CubaLIFParameters& parameters, std::int32_t sums, std::int32_t bias) {
    u = wrap24(is_if ? sums : sum(decayed(u, parameters.u_keep), sums));
    const std::int32_t charged = sum(sum(is_if ? v : decayed(v, parameters.v_keep), u), bias);
    // Above the upper limit of 24 bits it is above the threshold, too, and goes back to 0: only the lower limit is left to see.
    const bool fired = charged > parameters.threshold;
    v = fired ? 0 : max(charged, 1 - (1 << 23));
    return fired;
  }
};

inline bool is_if(const CubaLIFParameters& parameters) { return parameters.u_keep == 0 && parameters.v_keep == 4096; }

}  // namespace snn::cuda
