#include "block.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/isa.h"

namespace snn {
namespace {

constexpr std::size_t steps_at_once = 32;       // time steps of which a task holds the input
constexpr std::size_t tasks_wanted = 32;        // enough for an even share among threads
constexpr std::size_t scratch_wanted = 96 << 10; // and how much of it: some of a core's second-level cache
constexpr std::size_t slack = 64;               // behind the last input, where a group of four may end

std::size_t saturated(std::size_t a, std::size_t b) {
  std::size_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? SIZE_MAX : product;
}

std::int32_t shifted(std::int32_t mantissa) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(mantissa) << 6); }

}  // namespace

std::size_t BlockLayer::groups() const { return window.kernel[0] * row_runs() * run_groups(); }

std::size_t BlockLayer::scratch_bytes() const {
  const std::size_t row = (width + 2 * window.padding[1]) * channels, halo = (window.kernel[0] - 1) * window.dilation[0] + 1;
  return saturated(saturated(row, halo), std::min(steps, steps_at_once));
}

std::size_t BlockLayer::rows_in_task() const {
  const std::size_t rows = std::min(out_height, std::max<std::size_t>(1, out_height * samples / tasks_wanted));
  if (packed) return rows;
  const std::size_t row = (width + 2 * window.padding[1]) * channels * std::min(steps, steps_at_once);
  const std::size_t halo = (window.kernel[0] - 1) * window.dilation[0] + 1;
  const std::size_t fit = scratch_wanted / std::max<std::size_t>(row, 1);
  return std::min(rows, fit > halo ? (fit - halo) / window.stride[0] + 1 : 1);
}

std::size_t BlockLayer::tasks() const {
  if (!steps || !samples || !out_height || !out_width) return 0;
  return samples * ((out_height + rows_in_task() - 1) / rows_in_task());
}

// The rows of one sample and time step that a task sees, with zeros around the image; channels last.
bool BlockLayer::fill(std::uint8_t* scratch, std::size_t sample, std::size_t t, std::size_t first_row, std::size_t rows) const {
  const std::size_t left = window.padding[1] * channels, row_bytes = (width + 2 * window.padding[1]) * channels;
  const float* frame = real_x + (t * samples + sample) * height * width * channels;
  // A row of the image may be the padding, above it or below it.
  const std::size_t above = std::min(rows, window.padding[0] - std::min(first_row, window.padding[0]));
  const std::size_t first = first_row + above - window.padding[0];
  const std::size_t inside = std::min(rows - above, height - std::min(height, first));
  std::memset(scratch, 0, above * row_bytes);
  std::memset(scratch + (above + inside) * row_bytes, 0, (rows - above - inside) * row_bytes);
  if (!inside) return true;
  scratch += above * row_bytes;
  if (width == 1 && left == 0 && (channels == 1 || height == 1)) return kernels().whole_bytes(frame + first, scratch, inside * channels);
  std::vector<std::uint8_t> plane(inside * width);
  bool whole = true;
  for (std::size_t c = 0; c < channels; ++c) {
    whole &= kernels().whole_bytes(frame + (c * height + first) * width, plane.data(), plane.size());
    for (std::size_t row = 0; row < inside; ++row) {
      std::uint8_t* to = scratch + row * row_bytes + left + c;
      const std::uint8_t* from = plane.data() + row * width;
      if (channels == 1) {
        std::memcpy(to, from, width);
      } else {
        for (std::size_t x = 0; x < width; ++x) to[x * channels] = from[x];
      }
    }
  }
  for (std::size_t row = 0; row < inside && left; ++row, scratch += row_bytes) {
    std::memset(scratch, 0, left);
    std::memset(scratch + row_bytes - left, 0, left);
  }
  return whole;
}

// What the neurons at one place of the output read, in bytes from the start of the sample (or of the rows that `fill` made, of which
// `row` then is one). Of an input from another block they read nothing where its padding is.
std::vector<BlockRun> BlockLayer::runs_in(std::size_t row, std::size_t column) const {
  std::vector<BlockRun> runs;
  std::size_t group = 0;
  for (std::size_t ky = 0; ky < window.kernel[0]; ++ky) {
    for (std::size_t kx = 0; kx < row_runs(); ++kx, group += run_groups()) {
      std::size_t y = row * window.stride[0] + ky * window.dilation[0], x = column * window.stride[1] + kx * window.dilation[1];
      if (!packed) {
        runs.push_back({(y * (width + 2 * window.padding[1]) + x) * channels, group, run_groups()});
        continue;
      }
      y -= window.padding[0], x -= window.padding[1];  // wrap around before the image
      if (y >= height || x >= width) continue;
      const std::size_t blocks = (channels + block_lanes - 1) / block_lanes, block_groups = block_lanes / 4;
      for (std::size_t block = 0; block < blocks; ++block) {
        const std::size_t first = block * block_groups, count = std::min(block_groups, run_groups() - first);
        runs.push_back({((y * width + x) * blocks + block) * steps * block_lanes, group + first, count});
      }
    }
  }
  return runs;
}

bool BlockLayer::run(std::size_t task) const {
  const std::size_t rows_each = rows_in_task(), bands = (out_height + rows_each - 1) / rows_each;
  const std::size_t sample = task / bands, first_row = task % bands * rows_each;
  const std::size_t rows = std::min(rows_each, out_height - first_row), places = rows * out_width;

  const std::size_t row_bytes = (width + 2 * window.padding[1]) * channels;
  const std::size_t in_rows = (rows - 1) * window.stride[0] + (window.kernel[0] - 1) * window.dilation[0] + 1;
  const std::size_t scratch_step = in_rows * row_bytes;
  std::vector<std::uint8_t> scratch(packed ? 0 : std::min(steps, steps_at_once) * scratch_step + slack);
  const std::size_t in_place_bytes = (channels + block_lanes - 1) / block_lanes * steps * block_lanes;

  // The columns whose whole window is inside the image see it in the same way.
  std::size_t inside_begin = 0, inside_end = out_width;
  if (packed) {
    const std::size_t reach = (window.kernel[1] - 1) * window.dilation[1] + 1, stride = window.stride[1], pad = window.padding[1];
    inside_begin = std::min((pad + stride - 1) / stride, out_width);
    inside_end = width + pad < reach ? inside_begin : std::max(inside_begin, std::min(out_width, (width + pad - reach) / stride + 1));
  }

  std::vector<std::int32_t> bias_lanes(lane_blocks() * block_lanes);
  for (std::size_t o = 0; bias && o < outputs; ++o) bias_lanes[o] = shifted(bias[o]);
  std::vector<std::int32_t> u(places * lane_blocks() * block_lanes), v(u.size());
  const auto kernel = kernels().cuba_block;

  for (std::size_t t = 0; t < steps; t += steps_at_once) {
    const std::size_t count = std::min(steps_at_once, steps - t);
    for (std::size_t k = 0; k < count && !packed; ++k)
      if (!fill(scratch.data() + k * scratch_step, sample, t + k, first_row * window.stride[0], in_rows)) return false;
    for (std::size_t row = 0; row < rows; ++row) {
      for (std::size_t column = 0, end; column < out_width; column = end) {
        end = column == inside_begin && inside_begin < inside_end ? inside_end : column + 1;
        const std::vector<BlockRun> runs = runs_in(packed ? first_row + row : row, column);
        BlockTile tile{parameters, small_sums};
        tile.x = packed ? spikes_x + sample * height * width * in_place_bytes + t * block_lanes : scratch.data();
        tile.x_step = packed ? block_lanes : scratch_step;
        tile.x_place = window.stride[1] * (packed ? in_place_bytes : channels);
        tile.runs = runs.data(), tile.run_count = runs.size();
        tile.steps = count, tile.places = end - column;
        tile.state_place = lane_blocks() * block_lanes, tile.s_place = tile.state_place * steps;
        for (std::size_t block = 0; block < lane_blocks(); ++block) {
          const std::size_t state = (row * out_width + column) * tile.state_place + block * block_lanes;
          tile.weights = weights + block * groups() * 4 * block_lanes;
          tile.bias = bias_lanes.data() + block * block_lanes;
          tile.u = u.data() + state, tile.v = v.data() + state;
          tile.s = spikes_at(sample, first_row + row, column, block) + t * block_lanes;
          kernel(tile);
        }
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
  const std::size_t place_bytes = lane_blocks() * steps * block_lanes;
  for (std::size_t o = 0; o < outputs; ++o) {
    const std::uint8_t* from = spikes_at(sample, first_row, 0, o / block_lanes) + o % block_lanes;
    for (std::size_t k = t; k < t + count; ++k) {
      float* to = s + ((k * samples + sample) * outputs + o) * plane + first;
      for (std::size_t place = 0; place < places; ++place) to[place] = static_cast<float>(from[place * place_bytes + k * block_lanes]);
    }
  }
}

void BlockLayer::run_real(std::size_t sample) const {
  const std::size_t group_count = groups(), plane = out_height * out_width;
  const std::size_t runs = row_runs();
  std::memset(spikes_at(sample, 0, 0, 0), 0, plane * lane_blocks() * steps * block_lanes);  // where a sixteen has fewer outputs
  for (std::size_t index = 0; index < plane * outputs; ++index) {
    const std::size_t o = index % outputs, row = index / outputs / out_width, column = index / outputs % out_width;
    std::int32_t u = 0, v = 0;
    for (std::size_t t = 0; t < steps; ++t) {
      const float* image = real_x + (t * samples + sample) * channels * height * width;
      double sum = 0;
      std::size_t group = 0;
      for (std::size_t ky = 0; ky < window.kernel[0]; ++ky) {
        const std::size_t y = row * window.stride[0] + ky * window.dilation[0] - window.padding[0];
        for (std::size_t run = 0; run < runs; ++run, group += run_groups()) {
          for (std::size_t byte = 0; byte < run_bytes(); ++byte) {
            const std::size_t kx = joins_row() ? byte / channels : run, c = byte % channels;
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
      spikes_at(sample, row, column, o / block_lanes)[t * block_lanes + o % block_lanes] = fired;
      if (s) s[((t * samples + sample) * outputs + o) * plane + row * out_width + column] = static_cast<float>(fired);
    }
  }
}

}  // namespace snn
