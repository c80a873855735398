#include "isa.h"

#include <atomic>
#include <cstring>

namespace snn {
namespace {

std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> kernels{available_kernels(0)};
  return kernels;
}

}  // namespace

const Kernels& kernels() { return *chosen().load(std::memory_order_relaxed); }

const Kernels* available_kernels(int index) {
  int found = 0;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && found++ == index) return &avx512vnni_kernels;
  if (__builtin_cpu_supports("avx512f") && found++ == index) return &avx512_kernels;
  if (__builtin_cpu_supports("avx2") && found++ == index) return &avx2_kernels;
#elif defined(__aarch64__)
  if (found++ == index) return &neon_kernels;
#endif
  return found == index ? &plain_kernels : nullptr;
}

bool use_isa(const char* isa) {
  if (!isa) return false;
  for (int index = 0; const Kernels* candidate = available_kernels(index); ++index) {
    if (std::strcmp(candidate->isa, isa) == 0) {
      chosen().store(candidate, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

}  // namespace snn
