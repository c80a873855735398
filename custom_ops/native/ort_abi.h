// The part of onnxruntime's C interface that a custom operator needs, declared here so that no header of onnxruntime is needed to
// build. onnxruntime never moves a function in its table, it only appends; every function below is in onnxruntime 1.20 and later.
// tests/custom_ops/test_ort_abi.py compares each number and type with the official headers where they are installed.
#pragma once

#include <cstddef>
#include <cstdint>

struct OrtApi;  // a table of pointers to functions
struct OrtCustomOpDomain;
struct OrtKernelContext;
struct OrtKernelInfo;
struct OrtSessionOptions;
struct OrtShapeInferContext;
struct OrtStatus;
struct OrtTensorTypeAndShapeInfo;
struct OrtTypeInfo;
struct OrtValue;

namespace snn::ort {

// The interface of the oldest supported onnxruntime, and the version of the operator interface that we fill in. A later onnxruntime
// takes both; an earlier one refuses the first by handing out no table.
constexpr std::uint32_t api_version = 20;
constexpr std::uint32_t custom_op_version = 17;

enum ErrorCode : int { invalid_argument = 2, runtime_exception = 6 };
enum ElementType : int { undefined_type = 0, float32 = 1, uint8 = 2, int8 = 3, int32 = 6 };
enum Characteristic : int { required = 0, optional = 1 };
enum MemoryType : int { default_memory = 0 };

struct ApiBase {
  const OrtApi* (*GetApi)(std::uint32_t version);
  const char* (*GetVersionString)();
};

// An operator: the callbacks by which onnxruntime asks for its schema, makes its kernels and runs them.
struct CustomOp {
  std::uint32_t version;
  void* (*CreateKernel)(const CustomOp*, const OrtApi*, const OrtKernelInfo*);
  const char* (*GetName)(const CustomOp*);
  const char* (*GetExecutionProviderType)(const CustomOp*);
  int (*GetInputType)(const CustomOp*, std::size_t);
  std::size_t (*GetInputTypeCount)(const CustomOp*);
  int (*GetOutputType)(const CustomOp*, std::size_t);
  std::size_t (*GetOutputTypeCount)(const CustomOp*);
  void (*KernelCompute)(void*, OrtKernelContext*);
  void (*KernelDestroy)(void*);
  int (*GetInputCharacteristic)(const CustomOp*, std::size_t);
  int (*GetOutputCharacteristic)(const CustomOp*, std::size_t);
  int (*GetInputMemoryType)(const CustomOp*, std::size_t);
  int (*GetVariadicInputMinArity)(const CustomOp*);
  int (*GetVariadicInputHomogeneity)(const CustomOp*);
  int (*GetVariadicOutputMinArity)(const CustomOp*);
  int (*GetVariadicOutputHomogeneity)(const CustomOp*);
  OrtStatus* (*CreateKernelV2)(const CustomOp*, const OrtApi*, const OrtKernelInfo*, void**);
  OrtStatus* (*KernelComputeV2)(void*, OrtKernelContext*);
  OrtStatus* (*InferOutputShapeFn)(const CustomOp*, OrtShapeInferContext*);
  int (*GetStartVersion)(const CustomOp*);
  int (*GetEndVersion)(const CustomOp*);
};

// X(name, position in the table, type)
#define SNN_ORT_FUNCTIONS(X)                                                                                                  \
  X(CreateStatus, 0, OrtStatus*(int code, const char* message))                                                               \
  X(GetErrorMessage, 2, const char*(const OrtStatus*))                                                                        \
  X(CreateCustomOpDomain, 26, OrtStatus*(const char* domain, OrtCustomOpDomain**))                                            \
  X(CustomOpDomain_Add, 27, OrtStatus*(OrtCustomOpDomain*, const snn::ort::CustomOp*))                                        \
  X(AddCustomOpDomain, 28, OrtStatus*(OrtSessionOptions*, OrtCustomOpDomain*))                                                \
  X(GetTensorMutableData, 51, OrtStatus*(OrtValue*, void**))                                                                  \
  X(CastTypeInfoToTensorInfo, 55, OrtStatus*(const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo**))                          \
  X(GetTensorElementType, 60, OrtStatus*(const OrtTensorTypeAndShapeInfo*, int*))                                             \
  X(GetDimensionsCount, 61, OrtStatus*(const OrtTensorTypeAndShapeInfo*, std::size_t*))                                       \
  X(GetDimensions, 62, OrtStatus*(const OrtTensorTypeAndShapeInfo*, std::int64_t*, std::size_t))                              \
  X(GetTensorTypeAndShape, 65, OrtStatus*(const OrtValue*, OrtTensorTypeAndShapeInfo**))                                      \
  X(KernelInfoGetAttribute_float, 85, OrtStatus*(const OrtKernelInfo*, const char* name, float*))                             \
  X(KernelInfoGetAttribute_int64, 86, OrtStatus*(const OrtKernelInfo*, const char* name, std::int64_t*))                      \
  X(KernelContext_GetInputCount, 88, OrtStatus*(const OrtKernelContext*, std::size_t*))                                       \
  X(KernelContext_GetOutputCount, 89, OrtStatus*(const OrtKernelContext*, std::size_t*))                                      \
  X(KernelContext_GetInput, 90, OrtStatus*(const OrtKernelContext*, std::size_t, const OrtValue**))                           \
  X(KernelContext_GetOutput, 91,                                                                                              \
    OrtStatus*(OrtKernelContext*, std::size_t, const std::int64_t* shape, std::size_t rank, OrtValue**))                      \
  X(ReleaseStatus, 93, void(OrtStatus*))                                                                                      \
  X(ReleaseTypeInfo, 98, void(OrtTypeInfo*))                                                                                  \
  X(ReleaseTensorTypeAndShapeInfo, 99, void(OrtTensorTypeAndShapeInfo*))                                                      \
  X(AddSessionConfigEntry, 130, OrtStatus*(OrtSessionOptions*, const char* key, const char* value))                           \
  X(KernelContext_GetGPUComputeStream, 193, OrtStatus*(const OrtKernelContext*, void**))                                      \
  X(KernelInfo_GetInputTypeInfo, 234, OrtStatus*(const OrtKernelInfo*, std::size_t, OrtTypeInfo**))                           \
  X(HasSessionConfigEntry, 237, OrtStatus*(const OrtSessionOptions*, const char* key, int*))                                  \
  X(GetSessionConfigEntry, 238, OrtStatus*(const OrtSessionOptions*, const char* key, char* value, std::size_t* size))        \
  X(KernelInfo_GetNodeName, 244, OrtStatus*(const OrtKernelInfo*, char* name, std::size_t* size))                             \
  X(KernelContext_ParallelFor, 274,                                                                                           \
    OrtStatus*(const OrtKernelContext*, void (*task)(void*, std::size_t), std::size_t tasks, std::size_t batches, void*))

}  // namespace snn::ort
