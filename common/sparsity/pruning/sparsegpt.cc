#include "common/sparsity/pruning/sparsegpt.h"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>

#include "common/base/status.h"
#include "common/sparsity/pruning/parallel_rows.h"

namespace espalier::sparsity {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

absl::Status Singular() {
  return base::FailedPrecondition(
      "HESSIAN_SINGULAR",
      "expected a positive definite matrix of input products, found none; use more calibration "
      "text, a larger damping, or look for NaN in the model");
}

// Prunes one block of columns.
class Block {
 public:
  Block(std::span<float> values, int64_t rows, const InverseFactor& factor, int64_t begin,
        int64_t end)
      : values_(values),
        rows_(rows),
        columns_(static_cast<int64_t>(factor.dead.size())),
        factor_(factor),
        begin_(begin),
        end_(end) {}

  // Unstructured: the smallest share over all rows of the block together.
  void Choose(double sparsity, Mask& mask) {
    const int64_t width = end_ - begin_;
    std::vector<float> scores(rows_ * width);
    for (int64_t i = 0; i < rows_; ++i) {
      for (int64_t j = 0; j < width; ++j) scores[i * width + j] = Score(i, begin_ + j);
    }
    std::vector<uint8_t> kept(scores.size());
    std::vector<uint64_t> scratch;
    KeepLargest(scores, PrunedCount(static_cast<int64_t>(scores.size()), sparsity), kept, scratch);
    for (int64_t i = 0; i < rows_; ++i) {
      std::copy_n(kept.begin() + i * width, width, mask.row(i).begin() + begin_);
    }
  }

  // Removes the pruned weights of rows [first, last), and makes up for each in the columns after
  // it.
  void Update(int64_t first, int64_t last, const Pattern& pattern, Mask& mask) const {
    std::vector<float> errors(end_ - begin_);
    for (int64_t i = first; i < last; ++i) {
      float* row = values_.data() + i * columns_;
      for (int64_t j = begin_; j < end_; ++j) {
        if (pattern.grouped() && (j - begin_) % pattern.group == 0)
          ChooseGroup(i, j, pattern, mask);
        const float* upper = Upper(j);
        const float lost = mask.row(i)[j] == 0 ? row[j] : 0.0F;
        const float error = lost / upper[j];
        errors[j - begin_] = error;
        if (lost == 0) continue;
        for (int64_t k = j; k < end_; ++k) row[k] -= error * upper[k];
        row[j] = 0;
      }
      for (int64_t j = begin_; j < end_; ++j) {
        const float error = errors[j - begin_];
        if (error == 0) continue;
        const float* upper = Upper(j);
        for (int64_t k = end_; k < columns_; ++k) row[k] -= error * upper[k];
      }
    }
  }

 private:
  const float* Upper(int64_t j) const { return factor_.upper.data() + j * columns_; }
  float Score(int64_t i, int64_t j) const {
    return std::abs(values_[i * columns_ + j]) / Upper(j)[j];
  }
  void ChooseGroup(int64_t i, int64_t j, const Pattern& pattern, Mask& mask) const {
    std::vector<float> scores(pattern.group);
    for (int k = 0; k < pattern.group; ++k) scores[k] = Score(i, j + k);
    KeepLargestOfGroups(scores, pattern, mask.row(i).subspan(j, pattern.group));
  }

  std::span<float> values_;
  int64_t rows_;
  int64_t columns_;
  const InverseFactor& factor_;
  int64_t begin_;
  int64_t end_;
};

}  // namespace

absl::StatusOr<InverseFactor> FactorInverse(std::span<const double> gram, int64_t columns,
                                            double damping) {
  InverseFactor factor;
  factor.dead.resize(columns);
  Matrix hessian = 2.0 * Eigen::Map<const Matrix>(gram.data(), columns, columns);
  for (int64_t j = 0; j < columns; ++j) {
    if (hessian(j, j) != 0) continue;
    factor.dead[j] = 1;
    hessian(j, j) = 1;
  }
  const double shift = damping * hessian.diagonal().mean();
  hessian.diagonal().array() += shift;
  const Eigen::LLT<Eigen::Ref<Matrix>> cholesky(hessian);  // in place
  if (cholesky.info() != Eigen::Success) return Singular();
  Matrix inverse = cholesky.solve(Matrix::Identity(columns, columns));
  const Eigen::LLT<Eigen::Ref<Matrix>, Eigen::Upper> upper(inverse);
  if (upper.info() != Eigen::Success) return Singular();
  factor.upper.resize(columns * columns);
  for (int64_t i = 0; i < columns; ++i) {
    for (int64_t j = i; j < columns; ++j) {
      factor.upper[i * columns + j] = static_cast<float>(inverse(i, j));
    }
    if (!(factor.upper[i * columns + i] > 0)) return Singular();
  }
  return factor;
}

std::vector<float> SparseGptFactors(const InverseFactor& factor) {
  const auto columns = static_cast<int64_t>(factor.dead.size());
  std::vector<float> factors;
  factors.reserve(factor.dead.size());
  for (int64_t j = 0; j < columns; ++j) factors.push_back(1 / factor.upper[j * columns + j]);
  return factors;
}

absl::StatusOr<Mask> SparseGptPrune(std::span<float> values, int64_t rows,
                                    const InverseFactor& factor, const Pattern& pattern,
                                    int64_t block, int threads) {
  const auto columns = static_cast<int64_t>(factor.dead.size());
  ESPALIER_RETURN_IF_ERROR(CheckPattern(pattern, columns));
  // Groups lie within a block.
  if (pattern.grouped()) block = std::max<int64_t>(1, block / pattern.group) * pattern.group;
  Mask mask(rows, columns);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      if (factor.dead[j] != 0) values[i * columns + j] = 0;
    }
  }
  for (int64_t begin = 0; begin < columns; begin += block) {
    Block work(values, rows, factor, begin, std::min(columns, begin + block));
    if (!pattern.grouped()) work.Choose(pattern.sparsity, mask);
    ParallelRows(rows, threads,
                 [&](int64_t first, int64_t last) { work.Update(first, last, pattern, mask); });
  }
  return mask;
}

}  // namespace espalier::sparsity
