#include "common/sparsity/explored.h"

#include <fmt/format.h>

#include <bit>

#include "common/base/check.h"
#include "common/base/status.h"

namespace espalier::sparsity {

absl::StatusOr<Explored> Explored::Create(std::shared_ptr<const tensor::ModelLayout> layout,
                                          int64_t max_bytes) {
  Explored explored(std::move(layout));
  for (const tensor::TensorSpec& spec : *explored.layout_) {
    if (spec.sparsifiable) explored.size_ += spec.size();
  }
  const int64_t bytes = (explored.size_ + 7) / 8;
  if (bytes > max_bytes) {
    return base::MakeError(
        absl::StatusCode::kResourceExhausted, "EXPLORED_TOO_LARGE",
        fmt::format("the explored share needs one bit per weight: expected at most {} bytes, found "
                    "{}; run without it",
                    max_bytes, bytes));
  }
  explored.bits_.resize(bytes);
  return explored;
}

void Explored::Mark(const tensor::ModelTopology& topology) {
  ESPALIER_CHECK(topology.layout() == *layout_, "the topology has this object's layout");
  int64_t begin = 0;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    const tensor::TensorSpec& spec = (*layout_)[i];
    if (!spec.sparsifiable) continue;
    if (topology.is_sparse(i)) {
      const tensor::Topology& sparse = topology.topology(i);
      for (int64_t row = 0; row < sparse.rows(); ++row) {
        for (int32_t k = sparse.row_offsets()[row]; k < sparse.row_offsets()[row + 1]; ++k) {
          MarkBit(begin + row * sparse.cols() + sparse.columns()[k]);
        }
      }
    } else {
      MarkRange(begin, begin + spec.size());
    }
    begin += spec.size();
  }
}

void Explored::MarkRange(int64_t begin, int64_t end) {
  for (; begin < end && begin % 8 != 0; ++begin) MarkBit(begin);
  for (; begin + 8 <= end; begin += 8) bits_[begin / 8] = 0xFF;
  for (; begin < end; ++begin) MarkBit(begin);
}

double Explored::Fraction() const {
  if (size_ == 0) return 0.0;
  int64_t marked = 0;
  for (const uint8_t byte : bits_) marked += std::popcount(byte);
  return static_cast<double>(marked) / static_cast<double>(size_);
}

std::string Explored::Save() const { return std::string(bits_.begin(), bits_.end()); }

absl::Status Explored::Load(std::string_view bytes) {
  if (bytes.size() != bits_.size()) {
    return base::InvalidArgument(
        "EXPLORED_SIZE", fmt::format("expected {} bytes of explored weights, found {}; they belong "
                                     "to another model",
                                     bits_.size(), bytes.size()));
  }
  bits_.assign(bytes.begin(), bytes.end());
  // Bits past the end belong to no weight and must not count.
  if (size_ % 8 != 0) bits_.back() &= static_cast<uint8_t>((1u << (size_ % 8)) - 1);
  return absl::OkStatus();
}

}  // namespace espalier::sparsity
