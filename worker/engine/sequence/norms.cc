#include "worker/engine/sequence/norms.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "worker/engine/multiversion.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::engine {
namespace {

// Columns that are worked on together: their sums stay in the first-level cache.
constexpr int64_t kColumns = 64;
using Sums = std::array<double, kColumns>;

// Calls body(first column, columns) for blocks of at most kColumns.
template <typename Body>
void ForEachBlock(const ColumnShape& shape, int threads, const Body& body) {
  const int64_t blocks = (shape.width + kColumns - 1) / kColumns;
  ParallelRows(threads, blocks, [&](RowRange range) {
    for (int64_t block = range.begin; block < range.end; ++block) {
      body(block * kColumns, std::min(kColumns, shape.width - block * kColumns));
    }
  });
}

// sums[c] = Σ_r x[r][c] · y[r][c]
ESPALIER_MULTIVERSION void SumProducts(const ColumnShape& shape, const float* x, const float* y,
                                       int64_t columns, double* sums) {
  std::fill_n(sums, columns, 0.0);
  for (int64_t r = 0; r < shape.features; ++r) {
    const float* a = x + r * shape.stride;
    const float* b = y + r * shape.stride;
    for (int64_t c = 0; c < columns; ++c) sums[c] += static_cast<double>(a[c]) * b[c];
  }
}

ESPALIER_MULTIVERSION void SumColumns(const ColumnShape& shape, const float* x, int64_t columns,
                                      double* sums) {
  std::fill_n(sums, columns, 0.0);
  for (int64_t r = 0; r < shape.features; ++r) {
    const float* a = x + r * shape.stride;
    for (int64_t c = 0; c < columns; ++c) sums[c] += a[c];
  }
}

// sums[c] = Σ_r (x[r][c] − mean[c])²
ESPALIER_MULTIVERSION void SumDeviations(const ColumnShape& shape, const float* x,
                                         const double* mean, int64_t columns, double* sums) {
  std::fill_n(sums, columns, 0.0);
  for (int64_t r = 0; r < shape.features; ++r) {
    const float* a = x + r * shape.stride;
    for (int64_t c = 0; c < columns; ++c) {
      const double deviation = a[c] - mean[c];
      sums[c] += deviation * deviation;
    }
  }
}

// y = (x − mean) · scale · weight[r] + bias[r]; mean and bias may be null.
ESPALIER_MULTIVERSION void Scale(const ColumnShape& shape, const float* x, const float* mean,
                                 const float* scale, const float* weight, const float* bias,
                                 int64_t columns, float* y) {
  for (int64_t r = 0; r < shape.features; ++r) {
    const float* a = x + r * shape.stride;
    float* out = y + r * shape.stride;
    const float w = weight[r];
    const float b = bias == nullptr ? 0.0f : bias[r];
    if (mean == nullptr) {
      for (int64_t c = 0; c < columns; ++c) out[c] = a[c] * scale[c] * w + b;
    } else {
      for (int64_t c = 0; c < columns; ++c) out[c] = (a[c] - mean[c]) * scale[c] * w + b;
    }
  }
}

// dx = scale · weight[r] · dy − x · factor
ESPALIER_MULTIVERSION void InputGradient(const ColumnShape& shape, const float* x,
                                         const float* scale, const float* factor,
                                         const float* weight, const float* dy, int64_t columns,
                                         float* dx) {
  for (int64_t r = 0; r < shape.features; ++r) {
    const int64_t row = r * shape.stride;
    const float w = weight[r];
    for (int64_t c = 0; c < columns; ++c) {
      dx[row + c] = dy[row + c] * scale[c] * w - x[row + c] * factor[c];
    }
  }
}

// sums[c] = Σ_r x[r][c] · weight[r] · dy[r][c]
ESPALIER_MULTIVERSION void SumWeighted(const ColumnShape& shape, const float* x,
                                       const float* weight, const float* dy, int64_t columns,
                                       double* sums) {
  std::fill_n(sums, columns, 0.0);
  for (int64_t r = 0; r < shape.features; ++r) {
    const int64_t row = r * shape.stride;
    const double w = weight[r];
    for (int64_t c = 0; c < columns; ++c) {
      sums[c] += w * static_cast<double>(x[row + c]) * dy[row + c];
    }
  }
}

// dx = scale · (weight[r] · dy − mean − dx · slope), where dx holds the normalised values.
ESPALIER_MULTIVERSION void CenteredGradient(const ColumnShape& shape, const float* scale,
                                            const float* mean, const float* slope,
                                            const float* weight, const float* dy, int64_t columns,
                                            float* dx) {
  for (int64_t r = 0; r < shape.features; ++r) {
    const int64_t row = r * shape.stride;
    const float w = weight[r];
    for (int64_t c = 0; c < columns; ++c) {
      dx[row + c] = scale[c] * (w * dy[row + c] - mean[c] - dx[row + c] * slope[c]);
    }
  }
}

// sums[c] = Σ_r weight[r] · dy[r][c]
ESPALIER_MULTIVERSION void SumWeightedDeltas(const ColumnShape& shape, const float* weight,
                                             const float* dy, int64_t columns, double* sums) {
  std::fill_n(sums, columns, 0.0);
  for (int64_t r = 0; r < shape.features; ++r) {
    const float* row = dy + r * shape.stride;
    const double w = weight[r];
    for (int64_t c = 0; c < columns; ++c) sums[c] += w * row[c];
  }
}

// Means of each of `columns` columns, and 1 / √(variance + epsilon).
void Moments(const ColumnShape& shape, const float* x, double epsilon, int64_t columns,
             double* means, double* inverse) {
  const auto count = static_cast<double>(shape.features);
  SumColumns(shape, x, columns, means);
  for (int64_t c = 0; c < columns; ++c) means[c] /= count;
  SumDeviations(shape, x, means, columns, inverse);
  for (int64_t c = 0; c < columns; ++c) inverse[c] = 1.0 / std::sqrt(inverse[c] / count + epsilon);
}

// 1 / √(mean square + epsilon) of each of `columns` columns.
void InverseRoots(const ColumnShape& shape, const float* x, double epsilon, int64_t columns,
                  double* inverse) {
  SumProducts(shape, x, x, columns, inverse);
  for (int64_t c = 0; c < columns; ++c) {
    inverse[c] = 1.0 / std::sqrt(inverse[c] / static_cast<double>(shape.features) + epsilon);
  }
}

// weight_gradient[r] = Σ_c normalized[r][c] · dy[r][c]
void WeightGradient(const ColumnShape& shape, const float* normalized, const float* dy,
                    float* weight_gradient, int threads) {
  ParallelRows(threads, shape.features, [&](RowRange rows) {
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      double sum = 0;
      const int64_t row = r * shape.stride;
      for (int64_t c = 0; c < shape.width; ++c) {
        sum += static_cast<double>(normalized[row + c]) * dy[row + c];
      }
      weight_gradient[r] = static_cast<float>(sum);
    }
  });
}

}  // namespace

void RmsNorm(const ColumnShape& shape, const float* x, const float* weight, double epsilon,
             float* y, int threads) {
  ForEachBlock(shape, threads, [&](int64_t first, int64_t columns) {
    Sums sums;
    std::array<float, kColumns> scale;
    InverseRoots(shape, x + first, epsilon, columns, sums.data());
    for (int64_t c = 0; c < columns; ++c) scale[c] = static_cast<float>(sums[c]);
    Scale(shape, x + first, nullptr, scale.data(), weight, nullptr, columns, y + first);
  });
}

void LayerNorm(const ColumnShape& shape, const float* x, const float* weight, const float* bias,
               double epsilon, float* y, int threads) {
  ForEachBlock(shape, threads, [&](int64_t first, int64_t columns) {
    Sums means;
    Sums inverse;
    std::array<float, kColumns> mean;
    std::array<float, kColumns> scale;
    Moments(shape, x + first, epsilon, columns, means.data(), inverse.data());
    for (int64_t c = 0; c < columns; ++c) {
      mean[c] = static_cast<float>(means[c]);
      scale[c] = static_cast<float>(inverse[c]);
    }
    Scale(shape, x + first, mean.data(), scale.data(), weight, bias, columns, y + first);
  });
}

void RmsNormGradient(const ColumnShape& shape, const float* x, const float* weight, double epsilon,
                     const float* dy, float* dx, float* weight_gradient, int threads) {
  const auto count = static_cast<double>(shape.features);
  // dx first holds x / rms, from which each row's weight gradient follows.
  std::fill_n(weight_gradient, shape.features, 1.0f);
  RmsNorm(shape, x, weight_gradient, epsilon, dx, threads);
  WeightGradient(shape, dx, dy, weight_gradient, threads);
  ForEachBlock(shape, threads, [&](int64_t first, int64_t columns) {
    Sums inverse;
    Sums sums;
    std::array<float, kColumns> scale;
    std::array<float, kColumns> factor;
    InverseRoots(shape, x + first, epsilon, columns, inverse.data());
    SumWeighted(shape, x + first, weight, dy + first, columns, sums.data());
    for (int64_t c = 0; c < columns; ++c) {
      scale[c] = static_cast<float>(inverse[c]);
      factor[c] = static_cast<float>(sums[c] * inverse[c] * inverse[c] * inverse[c] / count);
    }
    InputGradient(shape, x + first, scale.data(), factor.data(), weight, dy + first, columns,
                  dx + first);
  });
}

void LayerNormGradient(const ColumnShape& shape, const float* x, const float* weight,
                       double epsilon, const float* dy, float* dx, float* weight_gradient,
                       float* bias_gradient, int threads) {
  const auto count = static_cast<double>(shape.features);
  // dx first holds the normalised values, from which each row's weight gradient follows.
  std::fill_n(weight_gradient, shape.features, 1.0f);
  std::fill_n(bias_gradient, shape.features, 0.0f);
  LayerNorm(shape, x, weight_gradient, bias_gradient, epsilon, dx, threads);
  WeightGradient(shape, dx, dy, weight_gradient, threads);
  ParallelRows(threads, shape.features, [&](RowRange rows) {
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const float* row = dy + r * shape.stride;
      double sum = 0;
      for (int64_t c = 0; c < shape.width; ++c) sum += row[c];
      bias_gradient[r] = static_cast<float>(sum);
    }
  });
  ForEachBlock(shape, threads, [&](int64_t first, int64_t columns) {
    Sums means;
    Sums inverse;
    Sums deltas;
    Sums products;
    std::array<float, kColumns> scale;
    std::array<float, kColumns> mean;
    std::array<float, kColumns> slope;
    Moments(shape, x + first, epsilon, columns, means.data(), inverse.data());
    SumWeightedDeltas(shape, weight, dy + first, columns, deltas.data());
    SumWeighted(shape, dx + first, weight, dy + first, columns, products.data());
    for (int64_t c = 0; c < columns; ++c) {
      scale[c] = static_cast<float>(inverse[c]);
      mean[c] = static_cast<float>(deltas[c] / count);
      slope[c] = static_cast<float>(products[c] / count);
    }
    CenteredGradient(shape, scale.data(), mean.data(), slope.data(), weight, dy + first, columns,
                     dx + first);
  });
}

}  // namespace espalier::worker::engine
