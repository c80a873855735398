// What there is to know of the GPUs, and the count of kernels that ran on them.
#include <cuda_runtime.h>

#include <atomic>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>

#include "cuda/device.h"
#include "cuda/memory.h"

namespace snn::cuda {
namespace {

std::atomic<std::uint64_t> launch_count{0};

// Is compiled for the same architectures as every other kernel.
__global__ void nothing() {}

// 13000 is CUDA 13.0.
std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

}  // namespace

void check(int status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // CUDA would give it once more, to whoever asks after the next launch
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(static_cast<cudaError_t>(status)));
}

void launched(const char* what) {
  check(cudaGetLastError(), what);
  ++launch_count;
}

std::uint64_t launches() { return launch_count; }

void keep_memory() {
  static std::mutex mutex;
  static std::set<int> done;
  int device = 0, has_pools = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return;
  const std::lock_guard<std::mutex> lock(mutex);
  if (!done.insert(device).second) return;
  cudaMemPool_t pool = nullptr;
  std::uint64_t everything = UINT64_MAX;
  if (cudaDeviceGetAttribute(&has_pools, cudaDevAttrMemoryPoolsSupported, device) == cudaSuccess && has_pools &&
      cudaDeviceGetDefaultMemPool(&pool, device) == cudaSuccess)
    cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &everything);
}

std::string problem(int device) {
  int driver = 0, runtime = 0, devices = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (driver == 0) return "there is no NVIDIA driver on this machine";
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status == cudaErrorInsufficientDriver)
    return "the NVIDIA driver knows CUDA " + version(driver) + " at most, but the library was built with CUDA " + version(runtime) +
           ": a newer driver is needed, or an older toolkit";
  if (status == cudaErrorNoDevice || (status == cudaSuccess && devices == 0))
    return "no CUDA GPU was found on this machine (CUDA_VISIBLE_DEVICES can hide one)";
  if (status != cudaSuccess) return std::string("CUDA says: ") + cudaGetErrorString(status);
  if (device >= devices)
    return "there is no GPU number " + std::to_string(device) + ", but " + std::to_string(devices) + ", counted from 0";

  int before = 0;
  cudaGetDevice(&before);
  cudaFuncAttributes attributes;
  cudaError_t runs = cudaSetDevice(device);
  if (runs == cudaSuccess) runs = cudaFuncGetAttributes(&attributes, nothing);
  cudaGetLastError();  // or it would be found by whoever asks next
  cudaSetDevice(before);
  if (runs == cudaErrorNoKernelImageForDevice || runs == cudaErrorUnsupportedPtxVersion) {
    int major = 0, minor = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
    return "the GPU has the compute capability " + std::to_string(major) + "." + std::to_string(minor) +
           ", for which the library has no code (it was built for " SNN_CUDA_ARCHITECTURES ")";
  }
  return runs == cudaSuccess ? "" : std::string("CUDA says: ") + cudaGetErrorString(runs);
}

}  // namespace snn::cuda
