#include "common/audit/reading.h"

#include <algorithm>

#include "common/audit/entry.h"
#include "common/base/status.h"

namespace espalier::audit {
namespace {

constexpr uint64_t kPiece = 256 * 1024;

}  // namespace

absl::StatusOr<bool> Lines::Next() {
  size_t searched = used_;
  size_t newline = buffer_.find('\n', searched);
  while (newline == std::string::npos && buffer_.size() - used_ < kMaxLineBytes && read_ < end_) {
    buffer_.erase(0, used_);
    used_ = 0;
    searched = buffer_.size();
    const uint64_t piece = std::min(kPiece, end_ - read_);
    buffer_.resize(searched + piece);
    ESPALIER_RETURN_IF_ERROR(file_.ReadAt(read_, buffer_.data() + searched, piece));
    read_ += piece;
    newline = buffer_.find('\n', searched);
  }
  if (used_ == buffer_.size()) return false;
  finished_ = newline != std::string::npos && newline - used_ < kMaxLineBytes;
  const size_t size = finished_ ? newline - used_ : std::min(buffer_.size() - used_, kMaxLineBytes);
  line_.assign(buffer_, used_, size);
  const size_t taken = size + (finished_ ? 1 : 0);
  used_ += taken;
  taken_ += taken;
  return true;
}

}  // namespace espalier::audit
