// What libsnn_ops_cuda exports: the operators for onnxruntime, and the same kernels for callers with device pointers.
#include <string>

#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda/neurons_cuda.h"
#include "neurons_cpu.h"

#define SNN_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// null, or what went wrong; the text holds until this thread's next call.
template <class Layer, class... Place>
const char* launched(const Layer& layer, Place... place) {
  static thread_local std::string message;
  try {
    snn::cuda::launch(layer, place...);
    return nullptr;
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
}

#ifdef SNN_EMULATED
// The emulated GPU's memory is the CPU's, and so is its provider.
const std::vector<const snn::Operator*>& with_provider() {
  static const std::vector<const snn::Operator*> operators = snn::cuda_operators(nullptr);
  return operators;
}
#else
const std::vector<const snn::Operator*>& with_provider() {
  static const std::vector<const snn::Operator*> operators = [] {
    std::vector<const snn::Operator*> all = snn::cuda_operators("CUDAExecutionProvider");
    for (const snn::Operator* op : snn::cpu_operators()) all.push_back(op);  // for nodes that the CUDA provider leaves to the CPU
    return all;
  }();
  return operators;
}
#endif

const std::vector<const snn::Operator*>& without_provider() {
  static const std::vector<const snn::Operator*> operators = snn::copying_operators();
  return operators;
}

}  // namespace

// Called by onnxruntime when the library is registered with a session's options.
SNN_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const snn::ort::ApiBase* base) {
  const OrtApi* table = base->GetApi(snn::ort::api_version);
  if (!table) return nullptr;  // an onnxruntime before 1.20: nothing is registered, and the function bodies serve
  const snn::Api api(table);
  try {
    // Whether the session is one without a CUDA provider, whose operators have to copy: custom_ops.session says so.
    const bool copies = snn::config_entry(api, options, "snn.cuda_copies") == "1";
    return snn::register_operators(options, api, copies ? without_provider() : with_provider(), copies ? "copies" : "cuda");
  } catch (const std::exception& error) {
    return api.CreateStatus(snn::ort::runtime_exception, error.what());
  }
}

// null where the kernels can run on GPU number `device`; else why they cannot, in words that go behind "because". The text holds until this
// thread's next call.
SNN_EXPORT const char* snn_cuda_problem(int device) {
  static thread_local std::string problem;
  problem = snn::cuda::problem(device);
  return problem.empty() ? nullptr : problem.c_str();
}

// How many kernels this library has put onto a GPU since the process started.
SNN_EXPORT unsigned long long snn_cuda_launches() { return snn::cuda::launches(); }

// snn.CubaLIF on device pointers: x, s [steps, neurons]; bias (mantissas), states [neurons], each of them may be null. Returns null, or
// what went wrong.
SNN_EXPORT const char* snn_cuda_cuba_lif(const float* x, const std::int32_t* bias, const std::int32_t* initial_u,
                                         const std::int32_t* initial_v, float* s, std::int32_t* final_u, std::int32_t* final_v,
                                         std::size_t steps, std::size_t neurons, std::int32_t i_decay, std::int32_t v_decay,
                                         std::int32_t v_threshold, void* stream) {
  snn::CubaLIFLayer layer{};
  layer.parameters = {4096 - i_decay, 4096 - v_decay, v_threshold << 6};
  layer.steps = steps, layer.neurons = neurons;
  layer.x = x, layer.x_is_float = true, layer.bias = bias, layer.bias_is_float = false;
  const auto count = static_cast<std::int64_t>(neurons);
  layer.bias_over_neurons = snn::Broadcast({count}, {count});
  layer.initial_u = initial_u, layer.initial_v = initial_v, layer.s = s, layer.final_u = final_u, layer.final_v = final_v;
  return launched(layer, stream);
}

// snn.LIF likewise, with tau and a hard reset; for snn.IF give tau = 0.
SNN_EXPORT const char* snn_cuda_lif(const float* x, const float* initial_v, float* s, float* final_v, std::size_t steps,
                                    std::size_t neurons, float tau, int decay_input, float v_threshold, float v_reset, void* stream) {
  snn::FloatLayer layer{};
  layer.parameters.charge = tau == 0     ? snn::Charge::integrate
                            : decay_input ? snn::Charge::decayed_input
                                          : snn::Charge::plain_input;
  layer.parameters.divides = true, layer.parameters.leak = tau;
  layer.parameters.v_threshold = v_threshold, layer.parameters.v_reset = v_reset;
  layer.steps = steps, layer.neurons = neurons, layer.x = x, layer.initial_v = initial_v, layer.s = s, layer.final_v = final_v;
  return launched(layer, stream);
}

// For training: the call of training.h with pointers to the memory of GPU number `device`, on one of its streams. What is not the same:
// `potentials` and `table` are null, and `i_sum` and `v_sum` have a place for each neuron, [M], which is written. Returns null, or what is
// wrong or went wrong.
SNN_EXPORT const char* snn_cuda_training_forward(const snn::TrainingForward* call, int device, void* stream) {
  if (!call) return "The call is missing.";
  if (const char* what = snn::training_problem(*call)) return what;
  if (call->potentials) return "The GPU does not look for the potentials that occur.";
  return launched(*call, device, stream);
}

SNN_EXPORT const char* snn_cuda_training_backward(const snn::TrainingBackward* call, int device, void* stream) {
  if (!call) return "The call is missing.";
  if (const char* what = snn::training_problem(*call)) return what;
  if (call->table) return "On the GPU the surrogate's slopes come one by one.";
  return launched(*call, device, stream);
}
