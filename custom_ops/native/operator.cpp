#include "operator.h"

#include <cmath>
#include <map>
#include <mutex>
#include <utility>

namespace snn {

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < shape.size(); ++axis) text += (axis ? ", " : "") + std::to_string(shape[axis]);
  return text + "]";
}

std::int64_t element_count(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return count;
}

Context::Context(const Api& api, OrtKernelContext* context) : api_(api), context_(context) {
  api.check(api.KernelContext_GetInputCount(context, &inputs_));
  api.check(api.KernelContext_GetOutputCount(context, &outputs_));
}

Tensor Context::input(std::size_t index) const {
  Tensor tensor;
  const OrtValue* value = nullptr;
  if (index < inputs_) api_.check(api_.KernelContext_GetInput(context_, index, &value));
  if (!value) return tensor;
  OrtTensorTypeAndShapeInfo* info = nullptr;
  api_.check(api_.GetTensorTypeAndShape(value, &info));
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, decltype(api_.ReleaseTensorTypeAndShapeInfo)> owner(
      info, api_.ReleaseTensorTypeAndShapeInfo);
  std::size_t rank = 0;
  api_.check(api_.GetTensorElementType(info, &tensor.type));
  api_.check(api_.GetDimensionsCount(info, &rank));
  tensor.shape.resize(rank);
  api_.check(api_.GetDimensions(info, tensor.shape.data(), rank));
  api_.check(api_.GetTensorMutableData(const_cast<OrtValue*>(value), &tensor.data));
  return tensor;
}

void* Context::output(std::size_t index, const Shape& shape) const {
  OrtValue* value = nullptr;
  void* data = nullptr;
  if (index < outputs_) api_.check(api_.KernelContext_GetOutput(context_, index, shape.data(), shape.size(), &value));
  if (value) api_.check(api_.GetTensorMutableData(value, &data));
  return data;
}

void Context::parallel(std::size_t count, const std::function<void(std::size_t)>& task) const {
  if (count == 0) return;
  if (count == 1) return task(0);
  const auto call = [](void* task, std::size_t index) { (*static_cast<const std::function<void(std::size_t)>*>(task))(index); };
  api_.check(api_.KernelContext_ParallelFor(context_, call, count, 0, const_cast<std::function<void(std::size_t)>*>(&task)));
}

void* Context::gpu_stream() const {
  void* stream = nullptr;
  api_.check(api_.KernelContext_GetGPUComputeStream(context_, &stream));
  return stream;
}

Node::Node(const Api& api, const OrtKernelInfo* info, const char* op_type) : api_(api), info_(info) {
  std::size_t size = 0;
  api.check(api.KernelInfo_GetNodeName(info, nullptr, &size));
  std::string name(size, '\0');
  api.check(api.KernelInfo_GetNodeName(info, name.data(), &size));
  name_ = std::string("snn.") + op_type + " node '" + name.c_str() + "'";
}

std::int64_t Node::integer(const char* name, std::int64_t low, std::int64_t high) const {
  std::int64_t value = 0;
  if (OrtStatus* status = api_.KernelInfoGetAttribute_int64(info_, name, &value)) {
    api_.ReleaseStatus(status);
    fail(std::string("it needs the integer attribute ") + name);
  }
  if (value < low || value > high)
    fail(std::string(name) + " is " + std::to_string(value) + ", outside " + std::to_string(low) + " ... " + std::to_string(high));
  return value;
}

bool Node::flag(const char* name, bool otherwise) const {
  std::int64_t value = otherwise;
  if (OrtStatus* status = api_.KernelInfoGetAttribute_int64(info_, name, &value)) {
    api_.ReleaseStatus(status);
    float wrong_type = 0;
    if (real(name, wrong_type)) fail(std::string(name) + " must be an integer, 0 or 1");
    return otherwise;
  }
  return integer(name, 0, 1) != 0;
}

bool Node::real(const char* name, float& value) const {
  if (OrtStatus* status = api_.KernelInfoGetAttribute_float(info_, name, &value)) {
    api_.ReleaseStatus(status);
    std::int64_t wrong_type = 0;
    if (OrtStatus* other = api_.KernelInfoGetAttribute_int64(info_, name, &wrong_type)) {
      api_.ReleaseStatus(other);
      return false;
    }
    fail(std::string(name) + " must be a float, not an integer");
  }
  if (!std::isfinite(value)) fail(std::string(name) + " is not finite");
  return true;
}

float Node::real(const char* name, float otherwise, float low, float high) const {
  float value = otherwise;
  real(name, value);
  if (!(value >= low && value <= high))
    fail(std::string(name) + " is " + std::to_string(value) + ", outside " + std::to_string(low) + " ... " + std::to_string(high));
  return value;
}

Shape Node::input_shape(std::size_t index) const {
  OrtTypeInfo* type = nullptr;
  api_.check(api_.KernelInfo_GetInputTypeInfo(info_, index, &type));
  const std::unique_ptr<OrtTypeInfo, decltype(api_.ReleaseTypeInfo)> owner(type, api_.ReleaseTypeInfo);
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;
  std::size_t rank = 0;
  api_.check(api_.CastTypeInfoToTensorInfo(type, &tensor));
  if (tensor) api_.check(api_.GetDimensionsCount(tensor, &rank));
  Shape shape(rank);
  if (rank) api_.check(api_.GetDimensions(tensor, shape.data(), rank));
  return shape;
}

void Node::check_rank() const {
  // A true 0 is found when the node runs.
  if (input_shape(0).size() == 1) fail("x has 1 dimension, but needs time and batch axes first: [T, N, *]");
}

void Node::fail(const std::string& reason) const { throw ModelError(name_ + ": " + reason + "."); }

Tensor Kernel::sequence(const Context& context) const {
  Tensor x = context.input(0);
  if (x.shape.size() < 2)
    fail("x has the shape " + to_string(x.shape) + ", but needs time and batch axes first: [T, N, *].");
  return x;
}

const void* Kernel::state(const Context& context, std::size_t index, const char* name, const Shape& neurons) const {
  const Tensor tensor = context.input(index);
  if (tensor.type != ort::undefined_type && tensor.shape != neurons)
    fail(std::string(name) + " has the shape " + to_string(tensor.shape) + ", but the neurons have " + to_string(neurons) + ".");
  return tensor.data;
}

namespace {

const Operator& self(const ort::CustomOp* op) { return *static_cast<const Operator*>(op); }

// A kernel with the table of functions of the onnxruntime that made it.
struct Made {
  Api api;
  std::unique_ptr<Kernel> kernel;
};

// Exceptions must not cross into onnxruntime: they become its statuses.
template <class Action>
OrtStatus* guarded(const Api& api, Action action) {
  try {
    action();
    return nullptr;
  } catch (const ModelError& error) {
    return api.CreateStatus(ort::invalid_argument, error.what());
  } catch (const std::exception& error) {
    return api.CreateStatus(ort::runtime_exception, error.what());
  }
}

OrtStatus* create(const ort::CustomOp* op, const OrtApi* table, const OrtKernelInfo* info, void** kernel) {
  const Api api(table);
  return guarded(api, [&] {
    const Node node(api, info, self(op).name);
    node.check_rank();
    *kernel = new Made{api, self(op).make(node)};
  });
}

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  const Made& made = *static_cast<Made*>(kernel);
  return guarded(made.api, [&] { made.kernel->run(Context(made.api, context)); });
}

}  // namespace

Operator::Operator(const char* name, const char* provider, std::vector<Port> inputs, std::vector<Port> outputs, Make make)
    : ort::CustomOp{}, name(name), provider(provider), inputs(std::move(inputs)), outputs(std::move(outputs)), make(make) {
  version = ort::custom_op_version;
  GetName = [](const CustomOp* op) { return self(op).name; };
  GetExecutionProviderType = [](const CustomOp* op) { return self(op).provider; };
  GetInputTypeCount = [](const CustomOp* op) { return self(op).inputs.size(); };
  GetInputType = [](const CustomOp* op, std::size_t index) { return self(op).inputs[index].type; };
  GetInputCharacteristic = [](const CustomOp* op, std::size_t index) {
    return static_cast<int>(self(op).inputs[index].optional ? ort::optional : ort::required);
  };
  GetInputMemoryType = [](const CustomOp*, std::size_t) { return static_cast<int>(ort::default_memory); };
  GetOutputTypeCount = [](const CustomOp* op) { return self(op).outputs.size(); };
  GetOutputType = [](const CustomOp* op, std::size_t index) { return self(op).outputs[index].type; };
  GetOutputCharacteristic = [](const CustomOp* op, std::size_t index) {
    return static_cast<int>(self(op).outputs[index].optional ? ort::optional : ort::required);
  };
  CreateKernelV2 = create;
  KernelComputeV2 = compute;
  KernelDestroy = [](void* kernel) { delete static_cast<Made*>(kernel); };
  GetStartVersion = [](const CustomOp*) { return 1; };
  GetEndVersion = [](const CustomOp*) { return 1; };
  // No InferOutputShapeFn: onnxruntime's own code around it follows a null pointer where a node leaves out an input in the middle.
}

namespace {

// onnxruntime wants a domain to outlive every session that uses it, and does not say when the last one ends: so there is one for the
// process, never released. (One for each onnxruntime in the process, strictly, since a domain belongs to the library that made it; and
// one for each choice of operators.)
OrtCustomOpDomain* domain_of(const Api& api, const std::vector<const Operator*>& operators) {
  static std::mutex mutex;
  static std::map<std::pair<decltype(api.CreateCustomOpDomain), const Operator*>, OrtCustomOpDomain*> domains;
  const std::lock_guard<std::mutex> lock(mutex);
  OrtCustomOpDomain*& domain = domains[{api.CreateCustomOpDomain, operators.front()}];
  if (!domain) {
    OrtCustomOpDomain* made = nullptr;
    api.check(api.CreateCustomOpDomain("snn", &made));
    for (const Operator* op : operators) api.check(api.CustomOpDomain_Add(made, op));
    domain = made;
  }
  return domain;
}

}  // namespace

OrtStatus* register_operators(OrtSessionOptions* options, const Api& api, const std::vector<const Operator*>& operators) {
  constexpr const char* mark = "snn.registered";
  return guarded(api, [&] {
    int registered = 0;
    api.check(api.HasSessionConfigEntry(options, mark, &registered));
    if (registered) return;  // a second schema of the same name would be an error
    api.check(api.AddCustomOpDomain(options, domain_of(api, operators)));
    api.check(api.AddSessionConfigEntry(options, mark, "1"));
  });
}

}  // namespace snn
