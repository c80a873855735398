#include "all.h"
#include "isa.h"

namespace snn {

const Kernels plain_kernels = kernels_of<PlainLanes>("plain");

}  // namespace snn
