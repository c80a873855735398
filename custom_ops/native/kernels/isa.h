// The instruction sets that this library was built for, and the choice among them at run time.
#pragma once

#include "tile.h"

namespace snn {

extern const Kernels plain_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
extern const Kernels avx512vnni_kernels;
#elif defined(__aarch64__)
extern const Kernels neon_kernels;
#endif

// The kernels in use: the best that this processor has, unless use_isa chose others.
const Kernels& kernels();

// Kernels number `index` of those that this processor has, best first; null behind the last.
const Kernels* available_kernels(int index);

// Use the kernels of the instruction set `isa` from now on, in every session; false where this processor does not have them.
bool use_isa(const char* isa);

}  // namespace snn
