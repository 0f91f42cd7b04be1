// Schedules of densities and adjust fractions.
//
// Units:       `t` and the ends are steps or rounds, in whatever unit the caller counts; fractions
//              and densities are in [0, 1].
// Determinism: cosine and power come from the C library and may differ in the last bit between
//              machines; only the coordinator evaluates schedules, workers receive counts.
// Source:      Evci et al., ICML 2020 (cosine); Zhu and Gupta, arXiv 1710.01878 (cubic).
#pragma once

#include <cstdint>

namespace espalier::sparsity {

// RigL's share of weights to replace: (α/2)(1 + cos(π t / t_end)) before t_end, 0 from then on.
double CosineAdjustFraction(double alpha, double t, double t_end);

// Gradual pruning: `initial` up to t_begin, `final` from t_end on, between them
// final + (initial − final)(1 − (t − t_begin)/(t_end − t_begin))³. Sparsities.
double CubicSparsity(double initial, double final, double t, double t_begin, double t_end);

// SynFlow: density^((iteration + 1) / iterations) after the iteration with this index (from 0).
double ExponentialDensity(double density, int64_t iteration, int64_t iterations);

// ITOP and DSL: floor + (initial − floor)(1 + cos(π t / t_end)) / 2, `floor` from t_end on.
double CosineWithFloor(double initial, double floor, double t, double t_end);

// ⌊fraction · count⌋ of the decimal fraction that was meant: 0.29 of 100 is 29, although the double
// nearest to 0.29 is a little less.
int64_t FractionOf(double fraction, int64_t count);

}  // namespace espalier::sparsity
