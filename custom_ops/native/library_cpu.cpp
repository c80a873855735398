// What libsnn_ops exports.
#include "kernels/isa.h"
#include "neurons_cpu.h"
#include "training.h"

#define SNN_EXPORT extern "C" __attribute__((visibility("default")))

// Called by onnxruntime when the library is registered with a session's options.
SNN_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const snn::ort::ApiBase* base) {
  const OrtApi* table = base->GetApi(snn::ort::api_version);
  if (!table) return nullptr;  // an onnxruntime before 1.20: nothing is registered, and the function bodies serve
  return snn::register_operators(options, snn::Api(table), snn::cpu_operators(), "cpu");
}

// The name of instruction set number `index` of those that this processor has, best first; null behind the last.
SNN_EXPORT const char* snn_ops_isa(int index) {
  const snn::Kernels* kernels = snn::available_kernels(index);
  return kernels ? kernels->isa : nullptr;
}

// Use that instruction set from now on, in every session; 0 where this processor does not have it.
SNN_EXPORT int snn_ops_use_isa(const char* isa) { return snn::use_isa(isa); }

// 1 where the kernels in use make a block faster than onnxruntime's own convolution and a CubaLIF node behind it: the plain ones do not.
SNN_EXPORT int snn_ops_fast_blocks() { return snn::kernels().fast_block; }

// For training; see training.h. Null, or what is wrong with the call.
SNN_EXPORT const char* snn_training_forward(const snn::TrainingForward* call, int threads) {
  return call ? snn::training_forward(*call, threads) : "The call is missing.";
}

SNN_EXPORT const char* snn_training_backward(const snn::TrainingBackward* call, int threads) {
  return call ? snn::training_backward(*call, threads) : "The call is missing.";
}

// Weights in weight units, even and in -256 ... 254, of weights in real values, of which `step` are two units; or, where the gradient of
// the former is given, that of the latter.
SNN_EXPORT const char* snn_training_weights(const float* weight, const float* grad_whole, float* result, std::int64_t count, double step) {
  return snn::training_weights(weight, grad_whole, result, count, step);
}
