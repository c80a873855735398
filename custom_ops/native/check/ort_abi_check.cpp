// Compiles if ort_abi.h says what onnxruntime's official header says; tests/custom_ops/test_ort_abi.py compiles it where that header is.
#include <onnxruntime_c_api.h>

#include <cstddef>
#include <type_traits>

#include "../ort_abi.h"

namespace ours = snn::ort;

// What matters to a caller of a C function: enumerations are ints, and pointers to classes that only one side names are alike.
template <class T>
struct Erased {
  using type = std::conditional_t<std::is_enum_v<T>, int, T>;
};
template <class R, class... A, bool n>
struct Erased<R(A...) noexcept(n)> {
  using type = typename Erased<R>::type(typename Erased<A>::type...);
};
template <class T>
struct Erased<T*> {
  using type = std::conditional_t<std::is_same_v<std::remove_cv_t<T>, OrtCustomOp> || std::is_same_v<std::remove_cv_t<T>, ours::CustomOp>,
                                  void*, std::add_pointer_t<typename Erased<T>::type>>;
};
template <class T>
struct Erased<const T> {
  using type = const typename Erased<T>::type;
};
template <class A, class B>
constexpr bool alike = std::is_same_v<typename Erased<A>::type, typename Erased<B>::type>;

#define CHECK_FUNCTION(name, position, ...)                                                              \
  static_assert(offsetof(OrtApi, name) == position * sizeof(void*), #name " is at another position");     \
  static_assert(alike<decltype(OrtApi::name), std::add_pointer_t<__VA_ARGS__>>, #name " has another type");
SNN_ORT_FUNCTIONS(CHECK_FUNCTION)

#define CHECK_FIELD(name)                                                                                                    \
  static_assert(offsetof(OrtCustomOp, name) == offsetof(ours::CustomOp, name), "OrtCustomOp::" #name " is at another place"); \
  static_assert(alike<decltype(OrtCustomOp::name), decltype(ours::CustomOp::name)>, "OrtCustomOp::" #name " has another type");
CHECK_FIELD(version)
CHECK_FIELD(CreateKernel)
CHECK_FIELD(GetName)
CHECK_FIELD(GetExecutionProviderType)
CHECK_FIELD(GetInputType)
CHECK_FIELD(GetInputTypeCount)
CHECK_FIELD(GetOutputType)
CHECK_FIELD(GetOutputTypeCount)
CHECK_FIELD(KernelCompute)
CHECK_FIELD(KernelDestroy)
CHECK_FIELD(GetInputCharacteristic)
CHECK_FIELD(GetOutputCharacteristic)
CHECK_FIELD(GetInputMemoryType)
CHECK_FIELD(GetVariadicInputMinArity)
CHECK_FIELD(GetVariadicInputHomogeneity)
CHECK_FIELD(GetVariadicOutputMinArity)
CHECK_FIELD(GetVariadicOutputHomogeneity)
CHECK_FIELD(CreateKernelV2)
CHECK_FIELD(KernelComputeV2)
CHECK_FIELD(InferOutputShapeFn)
CHECK_FIELD(GetStartVersion)
CHECK_FIELD(GetEndVersion)
// Version 17 of the structure ends here: what follows came with version 18.
static_assert(offsetof(OrtCustomOp, GetMayInplace) == sizeof(ours::CustomOp));

static_assert(offsetof(OrtApiBase, GetApi) == offsetof(ours::ApiBase, GetApi));
static_assert(sizeof(OrtApiBase) == sizeof(ours::ApiBase));
static_assert(alike<decltype(OrtApiBase::GetApi), decltype(ours::ApiBase::GetApi)>);

static_assert(ours::invalid_argument == ORT_INVALID_ARGUMENT && ours::runtime_exception == ORT_RUNTIME_EXCEPTION);
static_assert(ours::undefined_type == ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED);
static_assert(ours::float32 == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT && ours::int32 == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32);
static_assert(ours::uint8 == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 && ours::int8 == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8);
static_assert(ours::required == INPUT_OUTPUT_REQUIRED && ours::optional == INPUT_OUTPUT_OPTIONAL);
static_assert(static_cast<int>(ours::default_memory) == static_cast<int>(OrtMemTypeDefault));

int main() {}
