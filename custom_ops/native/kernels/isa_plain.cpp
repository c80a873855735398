#include "isa.h"
#include "neurons.h"

namespace snn {

const Kernels plain_kernels = kernels_of<PlainLanes>("plain");

}  // namespace snn
