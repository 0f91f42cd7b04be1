// Naive products, templated on the number type: what the fast backends are compared with.
// Sums run in plain order in type T; nothing here is tuned.
#pragma once

#include <cstdint>

#include "common/tensor/topology.h"

namespace espalier::worker::engine::reference {

// Y [rows][stride] = W · X [cols][stride] over the first `width` columns.
template <typename T>
void Multiply(const tensor::Topology& w, const T* values, const T* x, int64_t stride, int64_t width,
              T* y) {
  for (int64_t row = 0; row < w.rows(); ++row) {
    for (int64_t b = 0; b < width; ++b) {
      T sum = 0;
      for (int32_t k = w.row_offsets()[row]; k < w.row_offsets()[row + 1]; ++k) {
        sum += values[k] * x[w.columns()[k] * stride + b];
      }
      y[row * stride + b] = sum;
    }
  }
}

// dX [cols][stride] = Wᵀ · dY [rows][stride] over the first `width` columns.
template <typename T>
void MultiplyTransposed(const tensor::Topology& w, const T* values, const T* dy, int64_t stride,
                        int64_t width, T* dx) {
  for (int64_t column = 0; column < w.cols(); ++column) {
    for (int64_t b = 0; b < width; ++b) dx[column * stride + b] = 0;
  }
  for (int64_t row = 0; row < w.rows(); ++row) {
    for (int32_t k = w.row_offsets()[row]; k < w.row_offsets()[row + 1]; ++k) {
      for (int64_t b = 0; b < width; ++b) {
        dx[w.columns()[k] * stride + b] += values[k] * dy[row * stride + b];
      }
    }
  }
}

// gradient[k] = Σ_b dY[row of k][b] · X[column of k][b].
template <typename T>
void SampledProduct(const tensor::Topology& w, const T* dy, const T* x, int64_t stride,
                    int64_t width, T* gradient) {
  for (int64_t row = 0; row < w.rows(); ++row) {
    for (int32_t k = w.row_offsets()[row]; k < w.row_offsets()[row + 1]; ++k) {
      T sum = 0;
      for (int64_t b = 0; b < width; ++b) {
        sum += dy[row * stride + b] * x[w.columns()[k] * stride + b];
      }
      gradient[k] = sum;
    }
  }
}

}  // namespace espalier::worker::engine::reference
