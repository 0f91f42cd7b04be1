#include "common/sparsity/pruning/dsnot.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "common/sparsity/pruning/parallel_rows.h"

namespace espalier::sparsity {
namespace {

struct Candidate {
  double key;
  int32_t column;
  bool fixed;  // its input does not vary: last in either direction
};

bool Before(const Candidate& a, const Candidate& b) {
  if (a.fixed != b.fixed) return b.fixed;
  return a.key != b.key ? a.key < b.key : a.column < b.column;
}

bool LargestBefore(const Candidate& a, const Candidate& b) {
  if (a.fixed != b.fixed) return b.fixed;
  return a.key != b.key ? a.key > b.key : a.column < b.column;
}

// The candidates of one row from which no more than `most` are taken, best first.
class Queue {
 public:
  template <typename Order>
  void Fill(const std::vector<Candidate>& candidates, size_t most, Order order) {
    items_ = candidates;
    next_ = 0;
    if (items_.size() > most) {
      std::nth_element(items_.begin(), items_.begin() + static_cast<int64_t>(most), items_.end(),
                       order);
      items_.resize(most);
    }
    std::sort(items_.begin(), items_.end(), order);
  }
  // −1 when there is none left. Skips columns that were used.
  int32_t Take(const std::vector<uint8_t>& used) {
    while (next_ < items_.size()) {
      const int32_t column = items_[next_++].column;
      if (used[column] == 0) return column;
    }
    return -1;
  }

 private:
  std::vector<Candidate> items_;
  size_t next_ = 0;
};

int Sign(double x) { return static_cast<int>(x > 0) - static_cast<int>(x < 0); }

struct RowOutcome {
  double before = 0;
  double after = 0;
  int64_t exchanges = 0;
};

// What all rows share, by column.
struct Columns {
  std::vector<float> wanda_factors;
  std::vector<double> key_divisors;  // variance^power; 0: the input does not vary
  std::span<const double> sums;
  std::span<const float> initial_factors;
};

// One row at a time; keeps its buffers between rows.
class RowRefiner {
 public:
  RowRefiner(const Columns& columns, const Pattern& pattern, const DsnotOptions& options)
      : columns_(columns),
        pattern_(pattern),
        options_(options),
        contribution_(columns.sums.size()),
        used_(columns.sums.size()) {}

  RowOutcome Refine(std::span<const float> weights, std::span<uint8_t> kept) {
    RowOutcome outcome;
    outcome.before = outcome.after = Expect(weights, kept);
    if (std::abs(outcome.before) <= options_.threshold) return outcome;
    Collect(weights, kept);
    double& error = outcome.after;
    for (int cycle = 0; cycle < options_.max_cycles; ++cycle) {
      if (std::abs(error) <= options_.threshold) break;
      const int32_t grown = error > 0 ? largest_.Take(used_) : smallest_.Take(used_);
      // What is left to regrow would take the error further away.
      if (grown < 0 || contribution_[grown] * error <= 0) break;
      const int32_t pruned = pattern_.grouped() ? PartnerInGroup(weights, kept, grown)
                             : error >= 0       ? negative_.Take(used_)
                                                : positive_.Take(used_);
      if (pruned < 0) break;
      const double next = error + contribution_[pruned] - contribution_[grown];
      if (options_.monotone && !(std::abs(next) < std::abs(error))) continue;
      if (options_.sign_check && Sign(next) != Sign(outcome.before)) break;
      used_[grown] = used_[pruned] = 1;
      kept[grown] = 1;
      kept[pruned] = 0;
      error = next;
      ++outcome.exchanges;
    }
    return outcome;
  }

 private:
  // The row's error; fills contribution_.
  double Expect(std::span<const float> weights, std::span<const uint8_t> kept) {
    double error = 0;
    for (size_t j = 0; j < weights.size(); ++j) {
      contribution_[j] = weights[j] * columns_.sums[j];
      if (kept[j] == 0) error += contribution_[j];
    }
    return error;
  }

  void Collect(std::span<const float> weights, std::span<const uint8_t> kept) {
    std::fill(used_.begin(), used_.end(), uint8_t{0});
    const auto most = static_cast<size_t>(options_.max_cycles);
    pruned_.clear();
    kept_negative_.clear();
    kept_positive_.clear();
    for (size_t j = 0; j < weights.size(); ++j) {
      const double d = contribution_[j];
      const auto column = static_cast<int32_t>(j);
      if (kept[j] == 0) {
        if (weights[j] == 0) continue;  // the model was sparse there: nothing comes back
        const double divisor = columns_.key_divisors[j];
        const bool fixed = !(divisor > 0);
        pruned_.push_back({fixed ? d : d / divisor, column, fixed});
      } else if (d != 0 && !pattern_.grouped()) {
        const float metric = std::abs(weights[j]) * columns_.wanda_factors[j];
        (d < 0 ? kept_negative_ : kept_positive_).push_back({metric, column, false});
      }
    }
    largest_.Fill(pruned_, most, LargestBefore);
    smallest_.Fill(pruned_, most, Before);
    negative_.Fill(kept_negative_, most, Before);
    positive_.Fill(kept_positive_, most, Before);
  }

  // N:M: the kept column of smallest initial score in the group of `grown`, whatever its sign.
  // Columns that were pruned at first are used by now or still pruned.
  int32_t PartnerInGroup(std::span<const float> weights, std::span<const uint8_t> kept,
                         int32_t grown) const {
    const int32_t begin = grown / pattern_.group * pattern_.group;
    int32_t best = -1;
    float best_score = std::numeric_limits<float>::infinity();
    for (int32_t j = begin; j < begin + pattern_.group; ++j) {
      if (kept[j] == 0 || used_[j] != 0) continue;
      const float score = std::abs(weights[j]) * columns_.initial_factors[j];
      if (best < 0 || score < best_score) {
        best = j;
        best_score = score;
      }
    }
    return best;
  }

  const Columns& columns_;
  const Pattern& pattern_;
  const DsnotOptions& options_;
  std::vector<double> contribution_;
  std::vector<uint8_t> used_;
  std::vector<Candidate> pruned_;
  std::vector<Candidate> kept_negative_;
  std::vector<Candidate> kept_positive_;
  Queue largest_;
  Queue smallest_;
  Queue negative_;
  Queue positive_;
};

Columns MakeColumns(const ColumnMoments& moments, std::span<const float> initial_factors,
                    const DsnotOptions& options) {
  Columns columns;
  columns.sums = moments.sum;
  columns.initial_factors = initial_factors;
  for (size_t j = 0; j < moments.sum.size(); ++j) {
    columns.wanda_factors.push_back(static_cast<float>(std::sqrt(moments.sum_squares[j])));
    const double variance =
        options.pooled_variance ? moments.pooled_variance[j] : moments.variance[j];
    columns.key_divisors.push_back(variance > 0 ? std::pow(variance, options.power) : 0);
  }
  return columns;
}

}  // namespace

int AutomaticCycles(int64_t columns) {
  constexpr double kCycles = 50;
  constexpr double kColumns = 4096;
  const double scaled = kCycles * static_cast<double>(columns) / kColumns;
  return static_cast<int>(std::max<int64_t>(1, std::llround(scaled)));
}

DsnotResult RefineMask(const WeightsView& weights, const ColumnMoments& moments,
                       std::span<const float> initial_factors, const Pattern& pattern,
                       const DsnotOptions& given, int threads, Mask& mask) {
  DsnotOptions options = given;
  if (options.max_cycles == 0) options.max_cycles = AutomaticCycles(weights.columns);
  const Columns columns = MakeColumns(moments, initial_factors, options);
  std::vector<RowOutcome> outcomes(weights.rows);
  ParallelRows(weights.rows, threads, [&](int64_t begin, int64_t end) {
    RowRefiner refiner(columns, pattern, options);
    for (int64_t i = begin; i < end; ++i) {
      outcomes[i] = refiner.Refine(weights.row(i), mask.row(i));
    }
  });
  DsnotResult result;
  for (const RowOutcome& outcome : outcomes) {
    result.exchanges += outcome.exchanges;
    result.rows_settled += std::abs(outcome.after) <= options.threshold ? 1 : 0;
    result.mean_error_before += std::abs(outcome.before) / static_cast<double>(weights.rows);
    result.mean_error_after += std::abs(outcome.after) / static_cast<double>(weights.rows);
  }
  return result;
}

}  // namespace espalier::sparsity
