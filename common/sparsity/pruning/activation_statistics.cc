#include "common/sparsity/pruning/activation_statistics.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "common/base/status.h"

namespace espalier::sparsity {
namespace {

static_assert(std::endian::native == std::endian::little, "sums are written as they lie in memory");

// Rows of the triangle whose sums are in work at once: their doubles stay in the L2 cache.
constexpr int64_t kGramRows = 32;

int64_t Triangle(int64_t columns) { return columns * (columns + 1) / 2; }

absl::Status OutOfRange(std::string_view what, int64_t column) {
  return base::InvalidArgument(
      "VALUE_OUT_OF_RANGE",
      fmt::format("expected activations whose sums stay below 2^62, found a larger or non-finite "
                  "{} at input {}; check the model's weights",
                  what, column));
}

absl::Status AddDouble(double value, std::string_view what, int64_t column, ExactSum& sum) {
  ExactSum term = 0;
  if (!ToExact(value, term) || !AddExact(sum, term)) return OutOfRange(what, column);
  return absl::OkStatus();
}

bool AddAll(std::span<const ExactSum> from, std::span<ExactSum> to) {
  for (size_t i = 0; i < to.size(); ++i) {
    if (!AddExact(to[i], from[i])) return false;
  }
  return true;
}

struct RowSums {
  double sum = 0;
  double squares = 0;
};

// In a fixed order of eight partial sums, which the compiler can keep in vector registers.
RowSums SumRow(const float* x, int64_t count) {
  constexpr int64_t kLanes = 8;
  double sums[kLanes] = {};
  double squares[kLanes] = {};
  int64_t t = 0;
  for (; t + kLanes <= count; t += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double value = x[t + lane];
      sums[lane] += value;
      squares[lane] += value * value;
    }
  }
  RowSums total;
  for (; t < count; ++t) {
    total.sum += x[t];
    total.squares += double{x[t]} * x[t];
  }
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    total.sum += sums[lane];
    total.squares += squares[lane];
  }
  return total;
}

void Append(std::span<const ExactSum> sums, std::string& bytes) {
  bytes.append(reinterpret_cast<const char*>(sums.data()), sums.size_bytes());
}

void Take(std::string_view& bytes, std::span<ExactSum> sums) {
  if (sums.empty()) return;  // no memory to copy to
  std::memcpy(sums.data(), bytes.data(), sums.size_bytes());
  bytes.remove_prefix(sums.size_bytes());
}

}  // namespace

ActivationStatistics::ActivationStatistics(int64_t columns, bool with_gram)
    : columns_(columns),
      sum_(columns),
      sum_squares_(columns),
      deviations_(columns),
      gram_(with_gram ? Triangle(columns) : 0) {}

absl::Status ActivationStatistics::AddSequence(const float* inputs, int64_t stride,
                                               int64_t tokens) {
  if (tokens <= 0 || stride < tokens) {
    return base::InvalidArgument(
        "SHAPE_MISMATCH",
        fmt::format("expected between 1 and {} tokens, found {}", stride, tokens));
  }
  const auto count = static_cast<double>(tokens);
  for (int64_t j = 0; j < columns_; ++j) {
    const RowSums row = SumRow(inputs + j * stride, tokens);
    // float32 inputs leave a double 29 bits to lose: cancellation does not reach the result.
    const double deviation = std::max(0.0, row.squares - row.sum * row.sum / count);
    ESPALIER_RETURN_IF_ERROR(AddDouble(row.sum, "sum", j, sum_[j]));
    ESPALIER_RETURN_IF_ERROR(AddDouble(row.squares, "sum of squares", j, sum_squares_[j]));
    ESPALIER_RETURN_IF_ERROR(AddDouble(deviation, "variance", j, deviations_[j]));
  }
  if (with_gram()) ESPALIER_RETURN_IF_ERROR(AddGram(inputs, stride, tokens));
  ++sequences_;
  tokens_ += tokens;
  return absl::OkStatus();
}

absl::Status ActivationStatistics::AddGram(const float* inputs, int64_t stride, int64_t tokens) {
  std::vector<float> by_token(tokens * columns_);
  for (int64_t j = 0; j < columns_; ++j) {
    for (int64_t t = 0; t < tokens; ++t) by_token[t * columns_ + j] = inputs[j * stride + t];
  }
  std::vector<double> rows(kGramRows * columns_);
  for (int64_t begin = 0; begin < columns_; begin += kGramRows) {
    const int64_t end = std::min(columns_, begin + kGramRows);
    std::fill(rows.begin(), rows.end(), 0.0);
    for (int64_t t = 0; t < tokens; ++t) {
      const float* x = by_token.data() + t * columns_;
      for (int64_t i = begin; i < end; ++i) {
        const double factor = x[i];
        double* row = rows.data() + (i - begin) * columns_;
        for (int64_t j = begin; j < columns_; ++j) row[j] += factor * x[j];
      }
    }
    for (int64_t i = begin; i < end; ++i) {
      ExactSum* out = gram_.data() + Triangle(columns_) - Triangle(columns_ - i);
      for (int64_t j = i; j < columns_; ++j) {
        ESPALIER_RETURN_IF_ERROR(
            AddDouble(rows[(i - begin) * columns_ + j], "product", j, out[j - i]));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ActivationStatistics::Merge(const ActivationStatistics& other) {
  if (other.columns_ != columns_ || other.gram_.size() != gram_.size()) {
    return base::InvalidArgument(
        "SHAPE_MISMATCH",
        fmt::format("expected statistics of {} columns, found {}", columns_, other.columns_));
  }
  const bool fits = AddAll(other.sum_, sum_) && AddAll(other.sum_squares_, sum_squares_) &&
                    AddAll(other.deviations_, deviations_) && AddAll(other.gram_, gram_);
  if (!fits) return OutOfRange("sum", 0);
  sequences_ += other.sequences_;
  tokens_ += other.tokens_;
  return absl::OkStatus();
}

ColumnMoments ActivationStatistics::Moments() const {
  ColumnMoments moments;
  const auto sequences = static_cast<double>(std::max<int64_t>(1, sequences_));
  const auto tokens = static_cast<double>(std::max<int64_t>(1, tokens_));
  for (int64_t j = 0; j < columns_; ++j) {
    const double sum = FromExact(sum_[j]);
    const double squares = FromExact(sum_squares_[j]);
    moments.sum.push_back(sum / sequences);
    moments.sum_squares.push_back(squares / sequences);
    moments.variance.push_back(FromExact(deviations_[j]) / tokens);
    moments.mean.push_back(sum / tokens);
    // The same number that merging (count, mean, M2) in pairs gives, from sums that are exact.
    moments.pooled_variance.push_back(std::max(0.0, (squares - sum * sum / tokens) / tokens));
  }
  return moments;
}

std::vector<double> ActivationStatistics::Gram() const {
  std::vector<double> gram(gram_.empty() ? 0 : columns_ * columns_);
  const auto sequences = static_cast<double>(std::max<int64_t>(1, sequences_));
  const ExactSum* next = gram_.data();
  if (gram.empty()) return gram;
  for (int64_t i = 0; i < columns_; ++i) {
    for (int64_t j = i; j < columns_; ++j) {
      gram[i * columns_ + j] = gram[j * columns_ + i] = FromExact(*next++) / sequences;
    }
  }
  return gram;
}

uint64_t ActivationStatistics::EncodedBytes(int64_t columns, bool with_gram) {
  const int64_t sums = 3 * columns + (with_gram ? Triangle(columns) : 0);
  return 2 * sizeof(int64_t) + static_cast<uint64_t>(sums) * sizeof(ExactSum);
}

void ActivationStatistics::AppendTo(std::string& bytes) const {
  bytes.append(reinterpret_cast<const char*>(&sequences_), sizeof(sequences_));
  bytes.append(reinterpret_cast<const char*>(&tokens_), sizeof(tokens_));
  for (const auto* sums : {&sum_, &sum_squares_, &deviations_, &gram_}) Append(*sums, bytes);
}

absl::StatusOr<ActivationStatistics> ActivationStatistics::Decode(std::string_view bytes,
                                                                  int64_t columns, bool with_gram) {
  if (bytes.size() != EncodedBytes(columns, with_gram)) {
    return base::InvalidArgument("STATISTICS_INVALID",
                                 fmt::format("expected {} bytes of statistics, found {}",
                                             EncodedBytes(columns, with_gram), bytes.size()));
  }
  ActivationStatistics result(columns, with_gram);
  std::memcpy(&result.sequences_, bytes.data(), sizeof(int64_t));
  std::memcpy(&result.tokens_, bytes.data() + sizeof(int64_t), sizeof(int64_t));
  bytes.remove_prefix(2 * sizeof(int64_t));
  for (auto* sums : {&result.sum_, &result.sum_squares_, &result.deviations_, &result.gram_}) {
    Take(bytes, *sums);
  }
  const auto negative = [](ExactSum sum) { return sum < 0; };
  constexpr int64_t kMost = int64_t{1} << 50;
  if (result.sequences_ < 0 || result.tokens_ < result.sequences_ || result.tokens_ > kMost ||
      std::any_of(result.sum_squares_.begin(), result.sum_squares_.end(), negative) ||
      std::any_of(result.deviations_.begin(), result.deviations_.end(), negative)) {
    return base::InvalidArgument("STATISTICS_INVALID",
                                 "expected counts and sums of squares that are not negative, found "
                                 "others");
  }
  return result;
}

}  // namespace espalier::sparsity
