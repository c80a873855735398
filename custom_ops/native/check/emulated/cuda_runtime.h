// CUDA's kernel language and the part of its runtime that we use, for a C++ compiler: the kernels' own source runs on a CPU.
//
// Stands in for NVIDIA's header of this name. Stricter than a GPU where a GPU would hide a mistake: accesses that are not aligned abort,
// memory has no byte more than was asked for and starts as garbage, what is put onto a stream runs when somebody waits for the stream,
// and threads reach barriers in an order that changes. A block's threads run one after the other; where they meet at barriers, each has a
// stack of its own.
//
// The environment says what machine this is (read at every call):
//   EMULATED_DEVICES       how many GPUs (1)
//   EMULATED_PROCESSORS    of each: 0 makes every layer large enough for the four-wide kernels, 1000000 none
//   EMULATED_DRIVER        the newest CUDA that the driver knows, such as 12040 (as new as needed); 0 is no driver
//   EMULATED_CAPABILITY    of each GPU, such as 61 (90)
//   EMULATED_MEMORY        bytes that a GPU has (no limit)
//   EMULATED_BOUNDS        1: accesses through CUDA's load and store functions have to stay within one allocation (where kernels work
//                          in memory that is not the GPU's, they do not)
#pragma once

#include <ucontext.h>

#include <chrono>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <type_traits>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static thread_local  // blocks of one launch run one after the other
#define CUDART_VERSION 13000

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// Status codes, with CUDA's numbers.
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorUnsupportedPtxVersion = 222,
};

inline const char* cudaGetErrorString(cudaError_t status) {
  switch (status) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorNoKernelImageForDevice: return "no kernel image is available for execution on the device";
    default: return "invalid argument";
  }
}

using cudaStream_t = struct CUstream_st*;
inline cudaStream_t const cudaStreamPerThread = reinterpret_cast<cudaStream_t>(2);

namespace emulated {

[[noreturn]] inline void die(const char* what) {
  std::fprintf(stderr, "emulated GPU: %s (block %u, thread %u)\n", what, blockIdx.x, threadIdx.x);
  std::abort();
}

inline long setting(const char* name, long otherwise) {
  const char* given = std::getenv(name);
  return given ? std::atol(given) : otherwise;
}

// Which of the faults in kernels with faults is wanted (tests/custom_ops/mutants.py).
inline const long mutant = setting("EMULATED_MUTANT", 0);

inline thread_local bool bounds = false;
inline thread_local int device = 0;
inline thread_local cudaError_t last_error = cudaSuccess;

inline cudaError_t machine() {
  if (setting("EMULATED_DRIVER", CUDART_VERSION) < CUDART_VERSION) return cudaErrorInsufficientDriver;
  return setting("EMULATED_DEVICES", 1) ? cudaSuccess : cudaErrorNoDevice;
}

// The GPU's memory: what was allocated and not freed.
class Memory {
 public:
  static Memory& all() {
    static Memory* memory = new Memory;  // outlives everything
    return *memory;
  }

  cudaError_t allocate(void** place, std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const long limit = setting("EMULATED_MEMORY", -1);
    *place = nullptr;
    if (limit >= 0 && used_ + bytes > static_cast<std::size_t>(limit)) return last_error = cudaErrorMemoryAllocation;
    if (posix_memalign(place, 256, bytes)) return last_error = cudaErrorMemoryAllocation;
    std::memset(*place, 0xA5, bytes);
    sizes_[static_cast<char*>(*place)] = bytes, used_ += bytes;
    return cudaSuccess;
  }

  cudaError_t release(void* place) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = sizes_.find(static_cast<char*>(place));
    if (found == sizes_.end()) die("freed what is not its memory");
    used_ -= found->second;
    sizes_.erase(found);
    std::free(place);
    return cudaSuccess;
  }

  bool holds(const void* place, std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto* at = static_cast<const char*>(place);
    auto next = sizes_.upper_bound(const_cast<char*>(at));
    if (next == sizes_.begin()) return false;
    --next;
    return at + bytes <= next->first + next->second;
  }

 private:
  std::mutex mutex_;
  std::map<char*, std::size_t> sizes_;
  std::size_t used_ = 0;
};

// What a thread has put onto its own stream; it runs when the thread waits. The default stream runs at once.
inline thread_local std::vector<std::function<void()>> waiting;

inline void put(cudaStream_t stream, std::function<void()> work) {
  stream == cudaStreamPerThread ? waiting.push_back(std::move(work)) : work();
}

// A thread of the GPU with a stack of its own.
struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  enum State { ready, at_barrier, done } state = ready;
};

// A block of threads.
class Block {
 public:
  template <class Body>
  void run(unsigned threads, Body body) {
    body_ = body, threads_ = threads, barriers_ = false;
    current() = this;
    fibers_.resize(1);
    start(0);
    if (barriers_) {
      fibers_.resize(threads);
      for (unsigned index = 1; index < threads; ++index) start(index);
      for (bool backwards = true; meet(); backwards = !backwards)
        for (unsigned index = 0; index < threads; ++index) enter(backwards ? threads - 1 - index : index);
    }
    current() = nullptr;
  }

  static void barrier() {
    if (!current()) die("a barrier outside of a kernel");
    current()->wait();
  }

 private:
  static constexpr std::size_t stack_bytes = 64 << 10;

  static Block*& current() {
    static thread_local Block* block = nullptr;
    return block;
  }

  // Whether all threads wait at a barrier; false where all have ended. CUDA leaves open what happens otherwise.
  bool meet() {
    for (const auto& fiber : fibers_)
      if (fiber->state != fibers_[0]->state) die("not every thread of the block reached the barrier");
    return fibers_[0]->state == Fiber::at_barrier;
  }

  void start(unsigned index) {
    fibers_[index] = std::make_unique<Fiber>();
    Fiber& fiber = *fibers_[index];
    fiber.stack.reset(new char[stack_bytes]);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get(), fiber.context.uc_stack.ss_size = stack_bytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, &Block::begin, 0);
    enter(index);
  }

  void enter(unsigned index) {
    running_ = index;
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, fibers_[index]->stack.get(), stack_bytes);
    swapcontext(&scheduler_, &fibers_[index]->context);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    swapcontext(&scheduler_, &fibers_[index]->context);
#endif
  }

  void leave(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(fiber.state == Fiber::done ? nullptr : &fake, scheduler_stack_, scheduler_bytes_);
    swapcontext(&fiber.context, &scheduler_);
    __sanitizer_finish_switch_fiber(fake, &scheduler_stack_, &scheduler_bytes_);
#else
    swapcontext(&fiber.context, &scheduler_);
#endif
  }

  // The first fiber goes through all threads, as long as none of them comes to a barrier.
  static void begin() {
    Block& block = *current();
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack_, &block.scheduler_bytes_);
#endif
    const unsigned mine = block.running_;
    for (unsigned index = mine; index == mine || (mine == 0 && !block.barriers_ && index < block.threads_); ++index) {
      threadIdx = dim3(index);
      block.body_();
    }
    block.fibers_[mine]->state = Fiber::done;
    block.leave(*block.fibers_[mine]);
  }

  void wait() {
    const unsigned mine = threadIdx.x;
    if (!barriers_ && mine != 0) die("not every thread of the block reached the barrier");
    barriers_ = true;
    fibers_[mine]->state = Fiber::at_barrier;
    leave(*fibers_[mine]);
    threadIdx = dim3(mine);
    fibers_[mine]->state = Fiber::ready;
  }

  std::function<void()> body_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  unsigned threads_ = 0, running_ = 0;
  bool barriers_ = false;
  ucontext_t scheduler_;
  const void* scheduler_stack_ = nullptr;
  std::size_t scheduler_bytes_ = 0;
};

// What stands for kernel<<<grid, block, shared, stream>>>(arguments...): on(grid, block, shared, stream)(kernel, arguments...).
struct Launch {
  dim3 grid, block;
  cudaStream_t stream;

  template <class... Parameters, class... Arguments>
  void operator()(void (*kernel)(Parameters...), Arguments&&... arguments) const {
    const bool fits = grid.x && grid.x <= INT_MAX && grid.y == 1 && grid.z == 1 && block.x && block.x <= 1024 && block.y == 1 && block.z == 1;
    if (const cudaError_t status = machine()) {
      last_error = status;
    } else if (!fits) {
      last_error = cudaErrorInvalidConfiguration;
    } else {
      const std::tuple<std::decay_t<Parameters>...> values(arguments...);
      put(stream, [grid = grid, block = block, kernel, values] {
        Block threads;
        gridDim = grid, blockDim = block;
        bounds = setting("EMULATED_BOUNDS", 0) != 0;
        for (unsigned index = 0; index < grid.x; ++index) {
          blockIdx = dim3(index);
          threads.run(block.x, [&] { std::apply(kernel, values); });
        }
      });
    }
  }
};

inline Launch on(dim3 grid, dim3 block, std::size_t = 0, cudaStream_t stream = nullptr) { return {grid, block, stream}; }

// A GPU stops at an access that is not aligned.
template <class T>
T* aligned(T* at) {
  if (reinterpret_cast<std::uintptr_t>(at) % sizeof(T)) die("an access that is not aligned");
  return at;
}

// ... of its own memory.
template <class T>
T* in_memory(T* at) {
  if (bounds && !Memory::all().holds(at, sizeof(T))) die("an access outside of what was allocated");
  return aligned(at);
}

}  // namespace emulated

// Kernel language.
inline void __syncthreads() { emulated::Block::barrier(); }
template <class T>
T __ldcs(const T* from) { return *emulated::in_memory(from); }
template <class T>
T __ldg(const T* from) { return *emulated::in_memory(from); }
template <class T>
void __stcs(T* to, T value) { *emulated::in_memory(to) = value; }
template <class T>
T atomicAdd(T* at, T value) {
  const T before = *emulated::aligned(at);
  *at = before + value;
  return before;
}
// Saturate; what is no number is 0.
inline int __float2int_rn(float x) {
  return x != x ? 0 : x >= 2147483648.0f ? INT_MAX : x < -2147483648.0f ? INT_MIN : static_cast<int>(std::nearbyint(x));
}
inline int __float2int_rz(float x) {
  return x != x ? 0 : x >= 2147483648.0f ? INT_MAX : x < -2147483648.0f ? INT_MIN : static_cast<int>(x);
}
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(static_cast<std::uint64_t>(a) * b >> 32); }
// Four products of bytes with sign, added to c.
inline int __dp4a(int a, int b, int c) {
  std::int8_t as[4], bs[4];
  std::memcpy(as, &a, 4), std::memcpy(bs, &b, 4);
  auto sum = static_cast<unsigned>(c);
  for (int k = 0; k < 4; ++k) sum += static_cast<unsigned>(as[k] * bs[k]);
  return static_cast<int>(sum);
}
// The lower word of the two, shifted right.
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<std::uint64_t>(high) << 32 | low) >> (shift & 31));
}
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }

// Runtime.
enum cudaMemcpyKind { cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMemoryPoolsSupported = 115,
};

inline cudaError_t cudaGetLastError() {
  const cudaError_t status = emulated::last_error;
  emulated::last_error = cudaSuccess;
  return status;
}
inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = static_cast<int>(emulated::setting("EMULATED_DRIVER", CUDART_VERSION));
  return cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* devices) {
  *devices = static_cast<int>(emulated::setting("EMULATED_DEVICES", 1));
  return emulated::machine();
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = emulated::device;
  return emulated::machine();
}
inline cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= emulated::setting("EMULATED_DEVICES", 1)) return cudaErrorInvalidDevice;
  emulated::device = device;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const long capability = emulated::setting("EMULATED_CAPABILITY", 90);
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = static_cast<int>(emulated::setting("EMULATED_PROCESSORS", 132)); break;
    case cudaDevAttrComputeCapabilityMajor: *value = static_cast<int>(capability / 10); break;
    case cudaDevAttrComputeCapabilityMinor: *value = static_cast<int>(capability % 10); break;
    case cudaDevAttrMemoryPoolsSupported: *value = 1; break;
  }
  return cudaSuccess;
}
struct cudaDeviceProp {
  char name[256];
};
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "an emulated GPU");
  return cudaSuccess;
}
struct cudaFuncAttributes {
  int numRegs;
};
// There is machine code for 7.5 and later.
template <class Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, Kernel*) {
  if (emulated::machine()) return emulated::machine();
  return emulated::setting("EMULATED_CAPABILITY", 90) < 75 ? cudaErrorNoKernelImageForDevice : cudaSuccess;
}

inline cudaError_t cudaMalloc(void** place, std::size_t bytes) { return emulated::Memory::all().allocate(place, bytes); }
inline cudaError_t cudaFree(void* place) { return place ? emulated::Memory::all().release(place) : cudaSuccess; }

using cudaMemPool_t = struct CUmemPool_st*;
enum cudaMemPoolAttr { cudaMemPoolAttrReleaseThreshold = 4 };
inline cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  *pool = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
inline cudaError_t cudaMallocAsync(void** place, std::size_t bytes, cudaStream_t) { return cudaMalloc(place, bytes); }
inline cudaError_t cudaFreeAsync(void* place, cudaStream_t stream) {
  emulated::put(stream, [place] { cudaFree(place); });
  return cudaSuccess;
}

inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream = nullptr) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  emulated::put(stream, [=] {
    if (bytes && to_device && !emulated::Memory::all().holds(to, bytes)) emulated::die("a copy to what is not the GPU's memory");
    if (bytes && from_device && !emulated::Memory::all().holds(from, bytes)) emulated::die("a copy from what is not the GPU's memory");
    if (bytes) std::memcpy(to, from, bytes);
  });
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind);
}
inline cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream = nullptr) {
  emulated::put(stream, [=] {
    if (bytes && !emulated::Memory::all().holds(to, bytes)) emulated::die("a fill of what is not the GPU's memory");
    std::memset(to, value, bytes);
  });
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
  std::vector<std::function<void()>> work;
  work.swap(emulated::waiting);
  for (const auto& each : work) each();
  return cudaSuccess;
}

// Times that mean nothing, for programs that print some.
using cudaEvent_t = std::chrono::steady_clock::time_point*;
inline cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new std::chrono::steady_clock::time_point;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t = nullptr) {
  *event = std::chrono::steady_clock::now();
  return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t stop) {
  *milliseconds = std::chrono::duration<float, std::milli>(*stop - *start).count();
  return cudaSuccess;
}
