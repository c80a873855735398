// Whether there is a GPU on which the library's kernels can run.
#pragma once

#include <string>

namespace snn::cuda {

// Why GPU number `device` cannot be used, in words that go behind "because"; empty where it can.
std::string problem(int device);

}  // namespace snn::cuda
