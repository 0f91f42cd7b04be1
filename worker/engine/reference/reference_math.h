// Naive products, templated on the number type: what the fast backends are compared with.
// Sums run in plain order in type T; nothing here is tuned.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/tensor/topology.h"
#include "worker/engine/conv_shape.h"

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

// Calls body(k, to, from) for every stored weight k of a convolution and every pair of an output
// position `to` and an input position `from` that it joins; positions count from channel 0.
template <typename Body>
void ForEachTerm(const tensor::Topology& w, const ConvShape& s, const Body& body) {
  for (int64_t row = 0; row < w.rows(); ++row) {
    for (int32_t k = w.row_offsets()[row]; k < w.row_offsets()[row + 1]; ++k) {
      const int64_t channel = w.columns()[k] / (s.kernel * s.kernel);
      const int64_t kernel_row = w.columns()[k] / s.kernel % s.kernel;
      const int64_t kernel_col = w.columns()[k] % s.kernel;
      for (int64_t i = 0; i < s.out_height(); ++i) {
        for (int64_t j = 0; j < s.out_width(); ++j) {
          const int64_t y = i * s.stride + kernel_row - s.padding;
          const int64_t x = j * s.stride + kernel_col - s.padding;
          if (y < 0 || y >= s.in_height || x < 0 || x >= s.in_width) continue;
          body(k, (row * s.out_height() + i) * s.out_width() + j,
               (channel * s.in_height + y) * s.in_width + x);
        }
      }
    }
  }
}

// Y [out_channels][out_height][out_width][stride] = W ∗ X over the first `width` columns.
template <typename T>
void Convolve(const tensor::Topology& w, const ConvShape& s, const T* values, const T* x,
              int64_t stride, int64_t width, T* y) {
  for (int64_t f = 0; f < s.out_features(); ++f) std::fill_n(y + f * stride, width, T{0});
  ForEachTerm(w, s, [&](int32_t k, int64_t to, int64_t from) {
    for (int64_t b = 0; b < width; ++b) y[to * stride + b] += values[k] * x[from * stride + b];
  });
}

// dX of Convolve() given dY.
template <typename T>
void ConvolveTransposed(const tensor::Topology& w, const ConvShape& s, const T* values, const T* dy,
                        int64_t stride, int64_t width, T* dx) {
  for (int64_t f = 0; f < s.in_features(); ++f) std::fill_n(dx + f * stride, width, T{0});
  ForEachTerm(w, s, [&](int32_t k, int64_t to, int64_t from) {
    for (int64_t b = 0; b < width; ++b) dx[from * stride + b] += values[k] * dy[to * stride + b];
  });
}

// Gradient of Convolve() with respect to the stored values.
template <typename T>
void SampledConvolution(const tensor::Topology& w, const ConvShape& s, const T* dy, const T* x,
                        int64_t stride, int64_t width, T* gradient) {
  std::fill_n(gradient, w.nnz(), T{0});
  ForEachTerm(w, s, [&](int32_t k, int64_t to, int64_t from) {
    for (int64_t b = 0; b < width; ++b) gradient[k] += dy[to * stride + b] * x[from * stride + b];
  });
}

}  // namespace espalier::worker::engine::reference
