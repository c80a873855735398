#include "block.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/isa.h"

namespace snn {
namespace {

constexpr std::size_t steps_at_once = 32;       // time steps of which a task holds the input
constexpr std::size_t scratch_bytes = 96 << 10; // and how much of it: some of a core's second-level cache
constexpr std::size_t slack = 64;               // behind the last input, where a group of four may end

std::size_t up_to_multiple(std::size_t value, std::size_t of) { return (value + of - 1) / of * of; }

std::int32_t shifted(std::int32_t mantissa) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(mantissa) << 6); }

}  // namespace

std::size_t BlockLayer::run_bytes() const { return window.dilation[1] == 1 ? window.kernel[1] * channels : channels; }

std::size_t BlockLayer::groups() const {
  const std::size_t runs = window.kernel[0] * (window.dilation[1] == 1 ? 1 : window.kernel[1]);
  return runs * up_to_multiple(run_bytes(), 4) / 4;
}

// Whether the kernels can read the input tensor itself: spikes, nothing around them, and no group of four that ends beyond its run.
bool BlockLayer::reads_in_place() const {
  return spikes_x && !window.padding[0] && !window.padding[1] && run_bytes() % 4 == 0;
}

std::size_t BlockLayer::rows_in_task() const {
  const std::size_t row = (width + 2 * window.padding[1]) * channels * std::min(steps, steps_at_once);
  const std::size_t halo = (window.kernel[0] - 1) * window.dilation[0] + 1;
  const std::size_t fit = scratch_bytes / std::max<std::size_t>(row, 1);
  const std::size_t rows = fit > halo ? (fit - halo) / window.stride[0] + 1 : 1;
  return std::min({rows, out_height, std::max<std::size_t>(1, out_height * samples / 8)});
}

std::size_t BlockLayer::tasks() const {
  if (!steps || !samples || !out_height || !out_width) return 0;
  return samples * ((out_height + rows_in_task() - 1) / rows_in_task());
}

// The rows of one sample and time step that a task sees, with zeros around the image; channels last.
bool BlockLayer::fill(std::uint8_t* scratch, std::size_t sample, std::size_t t, std::size_t first_row, std::size_t rows) const {
  const std::size_t left = window.padding[1] * channels, row_bytes = (width + 2 * window.padding[1]) * channels;
  const std::size_t frame = (t * samples + sample) * height * width * channels;
  float bad = 0;
  for (std::size_t row = 0; row < rows; ++row, scratch += row_bytes) {
    const std::size_t y = first_row + row - window.padding[0];  // wraps around above the image
    if (y >= height) {
      std::memset(scratch, 0, row_bytes);
      continue;
    }
    std::memset(scratch, 0, left);
    std::memset(scratch + row_bytes - left, 0, left);
    std::uint8_t* to = scratch + left;
    if (spikes_x) {
      std::memcpy(to, spikes_x + frame + y * width * channels, width * channels);
      continue;
    }
    for (std::size_t c = 0; c < channels; ++c) {
      const float* from = real_x + frame + (c * height + y) * width;
      for (std::size_t x = 0; x < width; ++x) {
        const float value = from[x];
        const auto byte = static_cast<std::uint8_t>(static_cast<std::int32_t>(value >= 0.0f && value <= 127.0f ? value : 128.0f));
        bad += static_cast<float>(byte) != value;
        to[x * channels + c] = byte;
      }
    }
  }
  return bad == 0;
}

bool BlockLayer::run(std::size_t task) const {
  const std::size_t rows_each = rows_in_task(), bands = (out_height + rows_each - 1) / rows_each;
  const std::size_t sample = task / bands, first_row = task % bands * rows_each;
  const std::size_t rows = std::min(rows_each, out_height - first_row);
  const std::size_t lane_blocks = (outputs + block_lanes - 1) / block_lanes, places = rows * out_width;
  const bool in_place = reads_in_place();

  const std::size_t row_bytes = (width + 2 * window.padding[1]) * channels;
  const std::size_t in_rows = (rows - 1) * window.stride[0] + (window.kernel[0] - 1) * window.dilation[0] + 1;
  const std::size_t scratch_step = in_rows * row_bytes, input_step = samples * height * width * channels;
  std::vector<std::uint8_t> scratch(in_place ? 0 : std::min(steps, steps_at_once) * scratch_step + slack);

  std::vector<std::int32_t> offsets;
  for (std::size_t ky = 0; ky < window.kernel[0]; ++ky) {
    const std::size_t runs = window.dilation[1] == 1 ? 1 : window.kernel[1];
    for (std::size_t run = 0; run < runs; ++run)
      for (std::size_t byte = 0; byte < run_bytes(); byte += 4)
        offsets.push_back(static_cast<std::int32_t>(ky * window.dilation[0] * row_bytes + run * window.dilation[1] * channels + byte));
  }

  std::vector<std::int32_t> bias_lanes(lane_blocks * block_lanes);
  for (std::size_t o = 0; bias && o < outputs; ++o) bias_lanes[o] = shifted(bias[o]);
  std::vector<std::int32_t> u(places * lane_blocks * block_lanes), v(u.size());
  std::uint8_t spare[steps_at_once * block_lanes];
  const auto kernel = kernels().cuba_block;
  const std::size_t out_step = samples * out_height * out_width * outputs;

  for (std::size_t t = 0; t < steps; t += steps_at_once) {
    const std::size_t count = std::min(steps_at_once, steps - t);
    const std::uint8_t* frames = spikes_x + ((t * samples + sample) * height + first_row * window.stride[0]) * width * channels;
    if (!in_place) {
      for (std::size_t k = 0; k < count; ++k)
        if (!fill(scratch.data() + k * scratch_step, sample, t + k, first_row * window.stride[0], in_rows)) return false;
      frames = scratch.data();
    }
    for (std::size_t place = 0; place < places; ++place) {
      const std::size_t row = place / out_width, column = place % out_width;
      const std::uint8_t* x = frames + row * window.stride[0] * row_bytes + column * window.stride[1] * channels;
      std::uint8_t* out = spikes + (((t * samples + sample) * out_height + first_row + row) * out_width + column) * outputs;
      for (std::size_t block = 0; block < lane_blocks; ++block) {
        const std::size_t lanes = std::min(block_lanes, outputs - block * block_lanes), state = (place * lane_blocks + block) * block_lanes;
        const bool whole = lanes == block_lanes;
        std::uint8_t* to = out + block * block_lanes;
        kernel({parameters, x, in_place ? input_step : scratch_step, offsets.data(), offsets.size(),
                weights + block * offsets.size() * 4 * block_lanes, count, bias_lanes.data() + block * block_lanes, u.data() + state,
                v.data() + state, whole ? to : spare, whole ? out_step : block_lanes});
        for (std::size_t k = 0; !whole && k < count; ++k) std::memcpy(to + k * out_step, spare + k * block_lanes, lanes);
      }
    }
    write_real(sample, t, count, first_row, rows);
  }
  return true;
}

// The spikes that a task has just made, as onnxruntime's other operators read them.
void BlockLayer::write_real(std::size_t sample, std::size_t t, std::size_t count, std::size_t first_row, std::size_t rows) const {
  if (!s) return;
  const std::size_t plane = out_height * out_width, first = first_row * out_width, places = rows * out_width;
  for (std::size_t k = 0; k < count; ++k) {
    const std::size_t frame = ((t + k) * samples + sample) * plane * outputs;
    for (std::size_t o = 0; o < outputs; ++o)
      for (std::size_t place = first; place < first + places; ++place)
        s[frame + o * plane + place] = static_cast<float>(spikes[frame + place * outputs + o]);
  }
}

void BlockLayer::run_real(std::size_t sample) const {
  const std::size_t group_count = groups(), plane = out_height * out_width;
  const std::size_t runs = window.dilation[1] == 1 ? 1 : window.kernel[1];
  for (std::size_t index = 0; index < plane * outputs; ++index) {
    const std::size_t o = index % outputs, row = index / outputs / out_width, column = index / outputs % out_width;
    std::int32_t u = 0, v = 0;
    for (std::size_t t = 0; t < steps; ++t) {
      const float* image = real_x + (t * samples + sample) * channels * height * width;
      double sum = 0;
      std::size_t group = 0;
      for (std::size_t ky = 0; ky < window.kernel[0]; ++ky) {
        const std::size_t y = row * window.stride[0] + ky * window.dilation[0] - window.padding[0];
        for (std::size_t run = 0; run < runs; ++run, group += up_to_multiple(run_bytes(), 4) / 4) {
          for (std::size_t byte = 0; byte < run_bytes(); ++byte) {
            const std::size_t kx = runs == 1 ? byte / channels : run, c = byte % channels;
            const std::size_t x = column * window.stride[1] + kx * window.dilation[1] - window.padding[1];
            if (y >= height || x >= width) continue;
            const std::size_t at = (((o / block_lanes) * group_count + group + byte / 4) * block_lanes + o % block_lanes) * 4 + byte % 4;
            sum += 2.0 * weights[at] * image[(c * height + y) * width + x];
          }
        }
      }
      // From here on as a CubaLIF node computes, on the sum as float32.
      const float a = std::nearbyint(static_cast<float>(sum));
      const std::int32_t whole = a >= -2147483648.0f && a < 2147483648.0f ? static_cast<std::int32_t>(a) : INT32_MIN;
      const auto kept = [](std::int32_t state, std::int32_t keep) { return static_cast<std::int32_t>(static_cast<std::int64_t>(state) * keep / 4096); };
      const auto add = [](std::int32_t x, std::int32_t y) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(x) + static_cast<std::uint32_t>(y)); };
      u = add(kept(u, parameters.u_keep), shifted(whole));
      if (u > 1 << 23) u -= 1 << 24;
      if (u <= -(1 << 23)) u += 1 << 24;
      v = add(add(kept(v, parameters.v_keep), u), bias ? shifted(bias[o]) : 0);
      v = std::min(std::max(v, 1 - (1 << 23)), (1 << 23) - 1);
      const bool fired = v > parameters.threshold;
      if (fired) v = 0;
      const std::size_t frame = (t * samples + sample) * plane * outputs;
      spikes[frame + (row * out_width + column) * outputs + o] = fired;
      if (s) s[frame + o * plane + row * out_width + column] = static_cast<float>(fired);
    }
  }
}

}  // namespace snn
