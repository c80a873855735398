#include "contract.h"

#include <algorithm>
#include <cfloat>
#include <string>

namespace snn {
namespace {

constexpr std::int64_t unity = 4096;  // decays are fractions of 2**12

bool agree(std::int64_t a, std::int64_t b) { return a == b || a < 0 || b < 0; }

bool agree(const Shape& a, const Shape& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](auto x, auto y) { return agree(x, y); });
}

bool is_open(const Shape& shape) { return std::any_of(shape.begin(), shape.end(), [](std::int64_t size) { return size < 0; }); }

// No product of these dimensions, of any of them or of all, is beyond most_elements; open ones and zeros count as 1.
void check_size(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) {
    if (__builtin_mul_overflow(count, std::max<std::int64_t>(size, 1), &count) || count > most_elements)
      throw ModelError("a tensor of the shape " + to_string(shape) + " has more elements than any memory");
  }
}

Shape neurons_of(const Shape& x) { return Shape(x.begin() + 1, x.end()); }

std::size_t size_of(std::int64_t size) { return static_cast<std::size_t>(size); }
std::int64_t signed_of(std::size_t size) { return static_cast<std::int64_t>(size); }

}  // namespace

std::size_t element_count(const Shape& shape) {
  check_size(shape);
  std::size_t count = 1;
  for (const std::int64_t size : shape) count *= size_of(size);
  return count;
}

CubaLIFParameters cuba_lif_parameters(const Node& node) {
  CubaLIFParameters parameters{};
  parameters.u_keep = static_cast<std::int32_t>(unity - node.integer("i_decay", 0, unity));
  parameters.v_keep = static_cast<std::int32_t>(unity - node.integer("v_decay", 0, unity));
  parameters.threshold = static_cast<std::int32_t>(node.integer("v_threshold", 0, 131071)) << 6;
  return parameters;
}

FloatParameters if_parameters(const Node& node) {
  FloatParameters parameters{};
  parameters.charge = Charge::integrate;
  if (!node.real("v_threshold", parameters.v_threshold)) throw ModelError("it needs the float attribute v_threshold");
  parameters.soft_reset = !node.real("v_reset", parameters.v_reset);
  return parameters;
}

FloatParameters lif_parameters(const Node& node) {
  FloatParameters parameters = if_parameters(node);
  parameters.charge = node.flag("decay_input", true) ? Charge::decayed_input : Charge::plain_input;
  float tau = 0, decay = 0;
  parameters.divides = node.real("tau", tau);
  if (node.real("decay", decay) == parameters.divides) throw ModelError("it needs either the float attribute tau or decay");
  parameters.leak = parameters.divides ? node.real("tau", tau, 1.0f, FLT_MAX) : node.real("decay", decay, 0.0f, 1.0f);
  return parameters;
}

void check_sequence(const Known& x) {
  if (!x) return;
  if (x->size() < 2) throw ModelError("x has the shape " + to_string(*x) + ", but needs time and batch axes first: [T, N, *]");
  check_size(*x);
}

void check_recurrent(const Known& x, const Known& weight) {
  if (x && x->size() != 3) {
    const std::string axes = std::to_string(x->size()) + (x->size() == 1 ? " dimension" : " dimensions");
    throw ModelError("x has " + axes + ", but needs three: [T, N, F]");
  }
  check_sequence(x);
  const std::int64_t features = x ? x->back() : -1;
  if (!weight) return;
  check_size(*weight);
  const bool square = weight->size() == 2 && agree((*weight)[0], (*weight)[1]);
  if (!square || !agree(*weight, {features, features}) || std::max((*weight)[0], (*weight)[1]) > INT32_MAX) {
    const std::string size = features < 0 ? "F" : std::to_string(features);
    throw ModelError("recurrent_weight has the shape " + to_string(*weight) + ", but " + size + " neurons need [" + size + ", " +
                     size + "]");
  }
}

void check_state(const Known& state, const char* name, const Known& x) {
  if (!state || !x) return;
  const Shape neurons = neurons_of(*x);
  if (!agree(*state, neurons))
    throw ModelError(std::string(name) + " has the shape " + to_string(*state) + ", but the neurons have " + to_string(neurons));
}

void check_broadcast(const Known& values, const char* name, const Known& x) {
  if (!values || !x) return;
  const Shape neurons = neurons_of(*x);
  bool fits = values->size() <= neurons.size();
  for (std::size_t axis = 0; fits && axis < values->size(); ++axis) {
    const std::int64_t size = (*values)[axis];
    fits = size == 1 || agree(size, neurons[neurons.size() - values->size() + axis]);
  }
  if (!fits)
    throw ModelError(std::string(name) + " has the shape " + to_string(*values) + ", which does not broadcast to the neurons' " +
                     to_string(neurons));
}

void check_range(const Tensor& values, const char* name, std::int32_t low, std::int32_t high) {
  const auto* numbers = static_cast<const std::int32_t*>(values.data);
  const std::size_t count = element_count(values.shape);
  for (std::size_t i = 0; i < count; ++i)
    if (numbers[i] < low || numbers[i] > high)
      throw ModelError(std::string(name) + " holds " + std::to_string(numbers[i]) + ", outside " + std::to_string(low) + " ... " +
                       std::to_string(high));
}

void check_heterogeneous(const Tensor& i_decay, const Tensor& v_decay, const Tensor& v_threshold) {
  check_range(i_decay, "i_decay", 0, unity);
  check_range(v_decay, "v_decay", 0, unity);
  check_range(v_threshold, "v_threshold", 0, (1 << 24) - 1);
}

BlockAttributes block_attributes(const Node& node) {
  BlockAttributes attributes{};
  attributes.parameters = cuba_lif_parameters(node);
  attributes.dense = node.flag("dense", false), attributes.small_sums = node.flag("small_sums", false);
  attributes.channels = size_of(node.integer("channels", 1, most_block_inputs));
  attributes.outputs = size_of(node.integer("outputs", 1, INT32_MAX));
  Window& window = attributes.window;
  for (int axis = 0; axis < 2; ++axis) {
    const std::string side = axis ? "_width" : "_height";
    const auto size = [&](const char* name, std::int64_t least, std::int64_t most) {
      return size_of(node.integer((name + side).c_str(), least, most));
    };
    window.kernel[axis] = size("kernel", 1, most_block_inputs);
    window.stride[axis] = size("stride", 1, most_window);
    window.dilation[axis] = size("dilation", 1, most_window);
    // What lies behind the kernel's reach is padding alone, of which no layer needs any.
    window.padding[axis] = size("padding", 0, signed_of((window.kernel[axis] - 1) * window.dilation[axis]));
    if (attributes.dense && (window.stride[axis] != 1 || window.dilation[axis] != 1 || window.padding[axis] != 0))
      throw ModelError("it is dense, but has a stride, a dilation or a padding");
  }
  if (element_count({signed_of(window.kernel[0]), signed_of(window.kernel[1]), signed_of(attributes.channels)}) > most_block_inputs)
    throw ModelError("its neurons read more than " + std::to_string(most_block_inputs) + " inputs each");
  return attributes;
}

namespace {

std::int64_t lane_blocks(std::size_t channels) { return signed_of((channels + block_lanes - 1) / block_lanes); }

// Places along an axis of the output.
std::size_t places(const Window& window, std::size_t size, int axis) {
  const std::size_t padded = size + 2 * window.padding[axis], reach = (window.kernel[axis] - 1) * window.dilation[axis] + 1;
  if (padded < reach) throw ModelError("the kernel is larger than its padded input");
  return (padded - reach) / window.stride[axis] + 1;
}

// [N, H, W, C / 16, T, 16]
void check_packed(const BlockAttributes& attributes, const Shape& x) {
  const std::int64_t blocks = lane_blocks(attributes.channels), lanes = block_lanes;
  if (!agree(x, {-1, -1, -1, blocks, -1, lanes}))
    throw ModelError("the packed spikes have the shape " + to_string(x) + ", not [N, H, W, " + std::to_string(blocks) + ", T, 16]");
}

// [T, N, C, H, W], or [T, N, *] for a dense synapse, which has all of * as its channels.
void check_unpacked(const BlockAttributes& attributes, const Shape& x) {
  const std::int64_t channels = signed_of(attributes.channels);
  const Shape dims(x.begin() + 2, x.end());
  const bool fits = !attributes.dense ? dims.size() == 3 && agree(dims[0], channels)
                                      : is_open(dims) || signed_of(element_count(dims)) == channels;
  if (!fits) {
    const std::string needed = std::to_string(channels) + (attributes.dense ? "]" : ", H, W]");
    throw ModelError("x has the shape " + to_string(x) + ", but this synapse needs [T, N, " + needed);
  }
  if (attributes.dense && attributes.window.kernel[0] * attributes.window.kernel[1] != 1)
    throw ModelError("it is dense, but has a kernel of more than one place");
}

}  // namespace

void check_block(const BlockAttributes& attributes, bool packed, const Known& x, const Known& weights, const Known& bias) {
  BlockLayer layer{};
  layer.packed = packed, layer.window = attributes.window, layer.channels = attributes.channels;
  const Shape packed_weights{lane_blocks(attributes.outputs), signed_of(layer.groups()), signed_of(block_lanes), 4};
  if (weights && !agree(*weights, packed_weights))
    throw ModelError("the packed weights have the shape " + to_string(*weights) + ", but this input needs " + to_string(packed_weights));
  if (bias && !agree(*bias, {signed_of(attributes.outputs)}))
    throw ModelError("bias has the shape " + to_string(*bias) + ", not one value for each output");
  check_sequence(x);
  if (!x) return;
  packed ? check_packed(attributes, *x) : check_unpacked(attributes, *x);
  if (is_open(*x)) return;
  layer = block_layer(attributes, packed, *x);
  if (!layer.height || !layer.width) throw ModelError("x has the shape " + to_string(*x) + ", an image without places");
  if (attributes.dense && layer.out_height * layer.out_width != 1)
    throw ModelError("it is dense, but its kernel is not as large as the image of " + to_string(*x));
  const std::int64_t samples = signed_of(layer.samples), steps = signed_of(layer.steps);
  const std::int64_t height = signed_of(layer.out_height), width = signed_of(layer.out_width);
  check_size({samples, height, width, lane_blocks(attributes.outputs), steps, signed_of(block_lanes)});
  check_size({steps, samples, signed_of(layer.outputs), height, width});
  if (!packed && layer.scratch_bytes() > most_scratch)
    throw ModelError("a row of its neurons reads more than " + std::to_string(most_scratch) + " bytes of input at a time");
}

BlockLayer block_layer(const BlockAttributes& attributes, bool packed, const Shape& x) {
  BlockLayer layer{};
  layer.parameters = attributes.parameters, layer.small_sums = attributes.small_sums;
  layer.window = attributes.window, layer.outputs = attributes.outputs, layer.channels = attributes.channels;
  layer.packed = packed;
  layer.samples = size_of(x[packed ? 0 : 1]), layer.steps = size_of(x[packed ? 4 : 0]);
  const bool flat = attributes.dense && !packed;
  layer.height = flat ? 1 : size_of(x[packed ? 1 : 3]), layer.width = flat ? 1 : size_of(x[packed ? 2 : 4]);
  layer.out_height = places(layer.window, layer.height, 0), layer.out_width = places(layer.window, layer.width, 1);
  return layer;
}

}  // namespace snn
