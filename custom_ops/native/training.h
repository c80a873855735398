// What a training program calls, by pointer and without any of its headers: CUBA neurons forward and backward, and the rounding of weights.
//
// Sequences are [T, M], M neurons of all samples in the order in which they lie in memory, states [M]. Each function checks what it is
// given and returns null, or a sentence that says what is wrong with it; then nothing was written.
#pragma once

#include <cstdint>

namespace snn {

struct TrainingForward {
  std::int64_t bytes;  // size of this structure as the caller knows it: a program of another version is refused
  std::int64_t steps, neurons;
  std::int32_t input;  // of TrainingInput: 0 weight units, 1 real values, 2 whole numbers behind a norm
  std::int32_t i_keep, v_keep;  // 4096 minus decay
  std::int32_t threshold;       // in state units
  double s_scale;               // state units in 1.0
  const float* x;               // [T, M]
  const float *current, *voltage;  // real values before the first step
  float* spikes;
  float* charged;  // potential before the reset, in state units; null where not wanted; may be x
  float *currents, *voltages;      // of every step after it, real values; null where not wanted
  float *last_current, *last_voltage;
  std::int64_t channels, inner;  // behind a norm or with a bias: neuron i belongs to channel i / inner % channels
  const float* bias;  // in state units, [channels]: what the input holds that the register of the current does not; or null
  double unit;        // behind a norm: real value of 1 in x
  const float *means, *inverse_stds;  // behind a norm: [T, channels] and [T]
  double* potentials;  // [3], written where `charged` is: the lowest, the highest, and a step of which all differ by multiples, 0 for none
};

struct TrainingBackward {
  std::int64_t bytes;
  std::int64_t steps, neurons;
  std::int64_t grad_spikes_stride;  // from one step to the next: `neurons`, or 0 where all steps have the same gradient
  std::int32_t i_keep, v_keep;
  std::int32_t threshold;
  std::int32_t through_reset;  // 1 where the reset has a gradient, 0 where it is left out
  double s_scale;
  double gain;         // of the input
  const float* gains;  // another one for each step; or null
  const float* slopes; // derivative of the surrogate, [T, M]; null where there is a table of it
  const float* table;  // for the potential table_from + i * table_step, [table_size]
  std::int64_t table_size;
  double table_from, table_step;
  const float* grad_spikes;
  const float *charged, *currents;  // as the forward pass gave them; currents only for the gradient of i_keep
  const float *grad_currents, *grad_voltages;          // of the sequences; or null
  const float *grad_last_current, *grad_last_voltage;  // or null
  const float *current, *voltage;                      // before the first step, for the gradients of the decays; or null
  float* grad_x;
  float *grad_current, *grad_voltage;
  double *i_sum, *v_sum;  // the gradient of i_keep / 4096 and v_keep / 4096 is added to; null where not wanted
};

// What is wrong with a call, wherever it is to run; null for nothing.
const char* training_problem(const TrainingForward& call);
const char* training_problem(const TrainingBackward& call);

const char* training_forward(const TrainingForward& call, int threads);
const char* training_backward(const TrainingBackward& call, int threads);
const char* training_weights(const float* weight, const float* grad_whole, float* result, std::int64_t count, double step);

}  // namespace snn
