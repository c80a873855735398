// Compiled with -mavx512vnni -mavx512bw; called only where the processor has both.
#include "isa.h"
#include "lanes_avx512.h"

namespace snn {

const Kernels avx512vnni_kernels = kernels_of<Avx512Lanes>("avx512vnni");

}  // namespace snn
