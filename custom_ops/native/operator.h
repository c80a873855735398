// What our operators have in common: onnxruntime's functions, tensors and errors in C++, and the callbacks of an operator.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
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

// A mistake in the model or in what it is fed with: the message names the operator and the node.
struct ModelError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

using Shape = std::vector<std::int64_t>;

std::string to_string(const Shape& shape);
std::int64_t element_count(const Shape& shape);

struct Tensor {
  int type = ort::undefined_type;
  Shape shape;
  void* data = nullptr;
};

// The inputs and outputs of one run of a node.
class Context {
 public:
  Context(const Api& api, OrtKernelContext* context);

  // An input; without a type and data where the node leaves it out.
  Tensor input(std::size_t index) const;
  // Memory for an output; null where nobody asks for it.
  void* output(std::size_t index, const Shape& shape) const;
  // Calls task(0) ... task(count - 1) on the session's own threads (a single one on this thread), and returns when all are done.
  void parallel(std::size_t count, const std::function<void(std::size_t)>& task) const;
  void* gpu_stream() const;

 private:
  const Api& api_;
  OrtKernelContext* context_;
  std::size_t inputs_, outputs_;
};

// A node while its kernel is made: its attributes, checked.
class Node {
 public:
  Node(const Api& api, const OrtKernelInfo* info, const char* op_type);

  std::int64_t integer(const char* name, std::int64_t low, std::int64_t high) const;
  bool flag(const char* name, bool otherwise) const;
  // A finite float; false where the node does not carry it.
  bool real(const char* name, float& value) const;
  float real(const char* name, float otherwise, float low, float high) const;

  // What the file says of an input that every node has: -1 for a dimension that it leaves open, no dimension where it says nothing.
  Shape input_shape(std::size_t index) const;
  // Refuses a first input that is known to have fewer than two dimensions.
  void check_rank() const;
  [[noreturn]] void fail(const std::string& reason) const;
  const std::string& name() const { return name_; }

 private:
  const Api& api_;
  const OrtKernelInfo* info_;
  std::string name_;  // "snn.CubaLIF node 'conv_fc.0/CubaLIF'"
};

// A node that is ready to run.
class Kernel {
 public:
  explicit Kernel(const Node& node) : name_(node.name()) {}
  virtual ~Kernel() = default;
  virtual void run(const Context& context) const = 0;

 protected:
  [[noreturn]] void fail(const std::string& reason) const { throw ModelError(name_ + ": " + reason); }
  // The first input, checked to have time and batch axes.
  Tensor sequence(const Context& context) const;
  // A state or null, checked to have the shape of the neurons.
  const void* state(const Context& context, std::size_t index, const char* name, const Shape& neurons) const;

 private:
  std::string name_;
};

struct Port {
  int type;
  bool optional;
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

// Adds the operators to the domain "snn" of a session's options; does nothing if that was done before. The operators must live as
// long as the process.
OrtStatus* register_operators(OrtSessionOptions* options, const Api& api, const std::vector<const Operator*>& operators);

}  // namespace snn
