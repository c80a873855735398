#include "operator.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <new>
#include <utility>

namespace snn {

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < shape.size(); ++axis) text += (axis ? ", " : "") + (shape[axis] < 0 ? "?" : std::to_string(shape[axis]));
  return text + "]";
}

Context::Context(const Api& api, OrtKernelContext* context, const std::vector<Port>& inputs, const std::vector<Port>& outputs)
    : api_(api), context_(context), output_ports_(outputs), inputs_(inputs.size()) {
  std::size_t count = 0;
  api.check(api.KernelContext_GetInputCount(context, &count));
  api.check(api.KernelContext_GetOutputCount(context, &outputs_));
  for (std::size_t index = 0; index < inputs.size(); ++index) {
    if (index < count) inputs_[index] = read(index);
    if (inputs_[index].type != inputs[index].type && (inputs_[index].given() || !inputs[index].optional))
      throw ModelError("input number " + std::to_string(index) + " is left out, or has another type than the operator takes");
  }
}

Tensor Context::read(std::size_t index) const {
  Tensor tensor;
  const OrtValue* value = nullptr;
  api_.check(api_.KernelContext_GetInput(context_, index, &value));
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
  if (value) {
    api_.check(api_.GetTensorMutableData(value, &data));
  } else if (!output_ports_.at(index).optional) {
    throw ModelError("its output number " + std::to_string(index) + " has no name, but cannot be left out");
  }
  return data;
}

void Context::parallel(std::size_t count, const std::function<void(std::size_t)>& task) const {
  if (count == 0) return;
  if (count == 1) return task(0);
  // An exception must not reach onnxruntime's threads: they would end the process.
  struct Shared {
    const std::function<void(std::size_t)>& task;
    std::atomic<bool> failed{false};
    std::exception_ptr error;  // written by whoever sets `failed`
  } shared{task};
  const auto call = [](void* data, std::size_t index) {
    Shared& all = *static_cast<Shared*>(data);
    if (all.failed.load(std::memory_order_relaxed)) return;
    try {
      all.task(index);
    } catch (...) {
      if (!all.failed.exchange(true)) all.error = std::current_exception();
    }
  };
  api_.check(api_.KernelContext_ParallelFor(context_, call, count, 0, &shared));
  if (shared.error) std::rethrow_exception(shared.error);
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
    throw ModelError(std::string("it needs the integer attribute ") + name);
  }
  if (value < low || value > high)
    throw ModelError(std::string(name) + " is " + std::to_string(value) + ", outside " + std::to_string(low) + " ... " + std::to_string(high));
  return value;
}

// onnxruntime has no function that says whether there is an attribute; of one that there is, it complains in other words than of a name
// that no node carries.
bool Node::carries(const char* name, OrtStatus* status) const {
  constexpr const char* nobody = "snn_no_such_attribute";
  const auto taken = [this](OrtStatus* of) {
    const std::string message = of ? api_.GetErrorMessage(of) : "";
    if (of) api_.ReleaseStatus(of);
    return message;
  };
  float value = 0;
  std::string said = taken(status), absent = taken(api_.KernelInfoGetAttribute_float(info_, nobody, &value));
  if (const std::size_t at = absent.find(nobody); at != std::string::npos) absent.replace(at, std::strlen(nobody), name);
  return said != absent;
}

bool Node::flag(const char* name, bool otherwise) const {
  std::int64_t value = otherwise;
  if (OrtStatus* status = api_.KernelInfoGetAttribute_int64(info_, name, &value)) {
    if (carries(name, status)) throw ModelError(std::string(name) + " must be an integer, 0 or 1");
    return otherwise;
  }
  return integer(name, 0, 1) != 0;
}

bool Node::real(const char* name, float& value) const {
  if (OrtStatus* status = api_.KernelInfoGetAttribute_float(info_, name, &value)) {
    if (carries(name, status)) throw ModelError(std::string(name) + " must be a float");
    return false;
  }
  if (!std::isfinite(value)) throw ModelError(std::string(name) + " is not finite");
  return true;
}

float Node::real(const char* name, float otherwise, float low, float high) const {
  float value = otherwise;
  real(name, value);
  if (!(value >= low && value <= high))
    throw ModelError(std::string(name) + " is " + std::to_string(value) + ", outside " + std::to_string(low) + " ... " + std::to_string(high));
  return value;
}

Known Node::shape(std::size_t index) const {
  OrtTypeInfo* type = nullptr;
  if (OrtStatus* status = api_.KernelInfo_GetInputTypeInfo(info_, index, &type)) {  // there is no such input
    api_.ReleaseStatus(status);
    return {};
  }
  const std::unique_ptr<OrtTypeInfo, decltype(api_.ReleaseTypeInfo)> owner(type, api_.ReleaseTypeInfo);
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;
  std::size_t rank = 0;
  api_.check(api_.CastTypeInfoToTensorInfo(type, &tensor));
  if (tensor) api_.check(api_.GetDimensionsCount(tensor, &rank));
  if (rank == 0) return {};
  Shape shape(rank);
  api_.check(api_.GetDimensions(tensor, shape.data(), rank));
  return shape;
}

namespace {

const Operator& self(const ort::CustomOp* op) { return *static_cast<const Operator*>(op); }

// A kernel with its node's name, its operator, and the table of functions of the onnxruntime that made it.
struct Made {
  Api api;
  const Operator& op;
  std::string name;
  std::unique_ptr<Kernel> kernel;
};

// Exceptions must not cross into onnxruntime: they become its statuses.
template <class Action>
OrtStatus* guarded(const Api& api, const std::string& name, Action action) {
  try {
    try {
      action();
      return nullptr;
    } catch (const ModelError& error) {
      return api.CreateStatus(ort::invalid_argument, (name + ": " + error.what() + ".").c_str());
    } catch (const std::bad_alloc&) {
      return api.CreateStatus(ort::runtime_exception, (name + ": there is not enough memory for it.").c_str());
    } catch (const std::exception& error) {
      return api.CreateStatus(ort::runtime_exception, (name + ": " + error.what()).c_str());
    }
  } catch (...) {
    return api.CreateStatus(ort::runtime_exception, "snn: there is not enough memory even to say what is wrong.");
  }
}

OrtStatus* create(const ort::CustomOp* op, const OrtApi* table, const OrtKernelInfo* info, void** kernel) {
  const Api api(table);
  std::string name = std::string("snn.") + self(op).name;
  return guarded(api, name, [&] {
    const Node node(api, info, self(op).name);
    name = node.name();
    std::unique_ptr<Kernel> made = self(op).make(node);
    std::vector<Known> shapes;
    for (std::size_t index = 0; index < self(op).inputs.size(); ++index) shapes.push_back(node.shape(index));
    made->check(shapes);
    *kernel = new Made{api, self(op), name, std::move(made)};
  });
}

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  const Made& made = *static_cast<Made*>(kernel);
  return guarded(made.api, made.name, [&] {
    const Context inputs(made.api, context, made.op.inputs, made.op.outputs);
    std::vector<Known> shapes;
    for (std::size_t index = 0; index < made.op.inputs.size(); ++index) shapes.push_back(inputs.input(index).known());
    made.kernel->check(shapes);
    made.kernel->run(inputs);
  });
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

OrtStatus* register_operators(OrtSessionOptions* options, const Api& api, const std::vector<const Operator*>& operators, const char* kind) {
  constexpr const char* mark = "snn.registered";
  return guarded(api, "The operators of the domain snn cannot be registered", [&] {
    const std::string registered = config_entry(api, options, mark);
    if (registered == kind) return;  // a second schema of the same name would be an error
    if (!registered.empty()) throw ModelError("these session options have operators for another device already (" + registered + ")");
    api.check(api.AddCustomOpDomain(options, domain_of(api, operators)));
    api.check(api.AddSessionConfigEntry(options, mark, kind));
  });
}

std::string config_entry(const Api& api, const OrtSessionOptions* options, const char* key) {
  int given = 0;
  std::size_t size = 0;
  api.check(api.HasSessionConfigEntry(options, key, &given));
  if (!given) return "";
  api.check(api.GetSessionConfigEntry(options, key, nullptr, &size));
  std::string value(size, '\0');
  api.check(api.GetSessionConfigEntry(options, key, value.data(), &size));
  return value.c_str();  // onnxruntime counts the zero at the end
}

}  // namespace snn
