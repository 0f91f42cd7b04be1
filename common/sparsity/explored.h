// Explored: which sparsifiable weights have ever been active; R_s of in-time over-parameterisation.
//
// R_s = |M_0 ∪ … ∪ M_t| / N over the sparsifiable weights of a model.
//
// Memory:      one bit per sparsifiable weight: coordinator only, never on a worker.
// Threading:   not thread-safe; lives on its job's strand. Determinism: exact.
// Errors:      Create() returns ResourceExhausted (EXPLORED_TOO_LARGE) above a limit: such a job
//              runs without R_s. Load() returns InvalidArgument (EXPLORED_SIZE) for bytes of
//              another model.
// Source:      Liu et al., Do we actually need dense over-parameterization?, ICML 2021 (ITOP).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/tensor/model.h"

namespace espalier::sparsity {

class Explored {
 public:
  static constexpr int64_t kDefaultMaxBytes = int64_t{256} << 20;

  static absl::StatusOr<Explored> Create(std::shared_ptr<const tensor::ModelLayout> layout,
                                         int64_t max_bytes = kDefaultMaxBytes);

  // Marks every active weight; a dense sparsifiable tensor is explored completely. The topology
  // must have this object's layout.
  void Mark(const tensor::ModelTopology& topology);

  // R_s in [0, 1]; 0 for a model without sparsifiable weights.
  double Fraction() const;

  // The bits as bytes, for a program's saved state, and back.
  std::string Save() const;
  absl::Status Load(std::string_view bytes);

 private:
  explicit Explored(std::shared_ptr<const tensor::ModelLayout> layout)
      : layout_(std::move(layout)) {}
  void MarkRange(int64_t begin, int64_t end);
  void MarkBit(int64_t bit) { bits_[bit / 8] |= static_cast<uint8_t>(1u << (bit % 8)); }

  std::shared_ptr<const tensor::ModelLayout> layout_;
  int64_t size_ = 0;
  std::vector<uint8_t> bits_;
};

}  // namespace espalier::sparsity
