// ExactGrowth: the K largest |Σ n_k g_k| of inactive positions, exactly, without a dense gradient
// anywhere.
//
// Questions to all participants of a round, in turn:
//   lists       everybody's K largest |g|. τ is the K-th largest |sum| of what came.
//   thresholds  everybody's entries with n_k·|g| ≥ τ·n/P, of P participants with n examples in
//               all. What nobody reports has a |sum| below τ.
//   values      what is missing of the positions that may still be among the K largest.
// If the K-th largest exact sum is below τ (sums can cancel), τ becomes it, and thresholds and
// values are asked once more: then it cannot be below again. One participant's lists are exact at
// once.
//
// Exact:       up to the rounding of sums to float32, when the same participants answer all
//              questions. Among equals the lower position comes first, as everywhere.
// Steps:       at most 1 + 2 · (1 + ⌈survivors / kMaxPositions⌉).
// Memory:      the positions in question.
// Threading:   a plain value. Determinism: exact.
// Source:      ours, after Fagin's and Cao's threshold algorithms, for signed sums.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "common/io/byte_codec.h"
#include "espalier/v1/worker.pb.h"
#include "server/reduce/reducer.h"

namespace espalier::server::methods {

class ExactGrowth {
 public:
  // Positions that one task may name: at most 8 bytes each within a message of 4 MiB.
  static constexpr int64_t kMaxPositions = 1 << 18;

  ExactGrowth() = default;
  // Of tensor i the counts[i] largest.
  explicit ExactGrowth(const std::vector<int64_t>& counts);

  bool done() const { return question_ == Question::kNone; }
  // What is asked next; not when done(). `sizes` are those of the tensors.
  v1::GrowthTask Task(const tensor::ModelLayout& layout) const;
  // The answer. Errors: FailedPrecondition (GROWTH_SCORES_MISSING).
  absl::Status Take(const reduce::Reduced& reduced);
  // When done(): for each tensor positions with their exact means, the counts[i] largest among
  // them.
  std::vector<reduce::ScoreList> lists() const;

  void Put(io::ByteWriter& writer) const;
  static ExactGrowth Get(io::ByteReader& reader);

 private:
  enum class Question : uint8_t { kNone, kLists, kThresholds, kValues };
  struct Tensor {
    int64_t count = 0;
    bool open = false;             // not yet known
    double threshold = 0;          // τ, of the mean
    std::vector<int64_t> pending;  // positions whose values are to be asked, ascending
    reduce::ScoreList known;       // exact
  };

  // The pending positions that the next task names, per tensor from the front.
  std::vector<int64_t> ChunkSizes() const;
  void TakeLists(const reduce::Reduced& reduced);
  void TakeThresholds(const reduce::Reduced& reduced);
  void TakeValues(const reduce::Reduced& reduced);
  bool AnyOpen() const;

  Question question_ = Question::kNone;
  int64_t participants_ = 0;
  int64_t examples_ = 0;
  int32_t turns_ = 0;  // of thresholds and values
  std::vector<Tensor> tensors_;
};

}  // namespace espalier::server::methods
