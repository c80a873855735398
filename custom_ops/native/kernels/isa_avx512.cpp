// Compiled with -mavx512f; called only where the processor has it.
#include "isa.h"
#include "lanes_avx512.h"

namespace snn {

const Kernels avx512_kernels = kernels_of<Avx512Lanes>("avx512");

}  // namespace snn
