// What our operators have in common: onnxruntime's functions, tensors and errors in C++, and the callbacks of an operator.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "ort_abi.h"

namespace snn {

// onnxruntime's table of functions, each with its type. A call that fails throws.
class Api {
 public:
  explicit Api(const OrtApi* table) {
    const auto* functions = reinterpret_cast<void* const*>(table);
#define SNN_LOOK_UP(name, position, ...) name = reinterpret_cast<std::add_pointer_t<__VA_ARGS__>>(functions[position]);
    SNN_ORT_FUNCTIONS(SNN_LOOK_UP)
#undef SNN_LOOK_UP
  }

#define SNN_DECLARE(name, position, ...) std::add_pointer_t<__VA_ARGS__> name;
  SNN_ORT_FUNCTIONS(SNN_DECLARE)
#undef SNN_DECLARE

  void check(OrtStatus* status) const {
    if (!status) return;
    const std::string message = GetErrorMessage(status);
    ReleaseStatus(status);
    throw std::runtime_error(message);
  }
};

// A mistake in the model or in what it is fed with. The callbacks put the operator and the node before it and a full stop behind it.
struct ModelError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

using Shape = std::vector<std::int64_t>;
// What is known of an input's shape: -1 for a dimension that is open; nothing where the input is left out, or nothing is said of it.
using Known = std::optional<Shape>;

std::string to_string(const Shape& shape);

struct Port {
  int type;
  bool optional;
};

struct Tensor {
  int type = ort::undefined_type;
  Shape shape;
  void* data = nullptr;

  // Whether the node has this input; one without elements has no data.
  bool given() const { return type != ort::undefined_type; }
  Known known() const { return given() ? Known(shape) : Known(); }
};

// The inputs and outputs of one run of a node.
class Context {
 public:
  // Throws ModelError where an input is not there that has to be, or has another type than its port.
  Context(const Api& api, OrtKernelContext* context, const std::vector<Port>& inputs, const std::vector<Port>& outputs);

  const Tensor& input(std::size_t index) const { return inputs_[index]; }
  // Memory for an output; null where nobody asks for it, which ModelError says of one that has to be there.
  void* output(std::size_t index, const Shape& shape) const;
  // Calls task(0) ... task(count - 1) on the session's own threads (a single one on this thread), and returns when all are done. What
  // a task throws is thrown here; the tasks that have not begun by then are left out.
  void parallel(std::size_t count, const std::function<void(std::size_t)>& task) const;
  void* gpu_stream() const;

 private:
  Tensor read(std::size_t index) const;

  const Api& api_;
  OrtKernelContext* context_;
  const std::vector<Port>& output_ports_;
  std::size_t outputs_ = 0;
  std::vector<Tensor> inputs_;
};

// A node while its kernel is made.
class Node {
 public:
  Node(const Api& api, const OrtKernelInfo* info, const char* op_type);

  std::int64_t integer(const char* name, std::int64_t low, std::int64_t high) const;
  bool flag(const char* name, bool otherwise) const;
  // A finite float; false where the node does not carry it.
  bool real(const char* name, float& value) const;
  float real(const char* name, float otherwise, float low, float high) const;

  // What the file says of an input. (onnxruntime does not tell a scalar from a shape of which nothing is known.)
  Known shape(std::size_t index) const;
  const std::string& name() const { return name_; }

 private:
  // Whether the node carries an attribute of that name, of which onnxruntime gave `status` instead of a value of some type.
  bool carries(const char* name, OrtStatus* status) const;

  const Api& api_;
  const OrtKernelInfo* info_;
  std::string name_;  // "snn.CubaLIF node 'conv_fc.0/CubaLIF'"
};

// A node that is ready to run.
class Kernel {
 public:
  virtual ~Kernel() = default;
  // Throws ModelError where inputs of these shapes, one for each port, cannot be; see contract.h. It is asked when the session is made,
  // with what the file says, and before each run, with what is there.
  virtual void check(const std::vector<Known>& shapes) const = 0;
  virtual void run(const Context& context) const = 0;
};

struct Operator : ort::CustomOp {
  using Make = std::unique_ptr<Kernel> (*)(const Node&);

  // `provider` is null for onnxruntime's CPU provider.
  Operator(const char* name, const char* provider, std::vector<Port> inputs, std::vector<Port> outputs, Make make);

  const char* name;
  const char* provider;
  std::vector<Port> inputs, outputs;
  Make make;
};

// Adds the operators to the domain "snn" of a session's options, and the name of their kind; does nothing if these were added before, and
// fails if others were. The operators must live as long as the process.
OrtStatus* register_operators(OrtSessionOptions* options, const Api& api, const std::vector<const Operator*>& operators, const char* kind);

// What a session's options say for this key; empty where they say nothing.
std::string config_entry(const Api& api, const OrtSessionOptions* options, const char* key);

}  // namespace snn
