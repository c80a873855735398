// CUDA's runtime without its kernel language; see cuda_runtime.h.
#pragma once

#include "cuda_runtime.h"
