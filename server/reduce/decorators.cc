#include "server/reduce/decorators.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "common/base/status.h"
#include "common/io/byte_codec.h"
#include "server/reduce/saved.h"

namespace espalier::server::reduce {

ClippingReducer::ClippingReducer(std::unique_ptr<Reducer> inner, double norm,
                                 const wire::ResultLayout& layout, std::span<const float> reference)
    : inner_(std::move(inner)),
      norm_(norm),
      weights_(layout.weights),
      reference_(reference.begin(), reference.end()) {}

// Not finite when a value is not.
absl::StatusOr<double> ClippingReducer::NormOf(const Partial& partial) const {
  double sum = 0;
  int64_t at = 0;
  auto weights = weights_.begin();
  ESPALIER_RETURN_IF_ERROR(partial.values([&](std::span<const float> piece) {
    for (const float value : piece) {
      while (weights != weights_.end() && at >= weights->end) ++weights;
      if (weights == weights_.end()) break;
      const double difference = static_cast<double>(value) - reference_[at];
      if (at++ >= weights->begin) sum += difference * difference;
    }
    return absl::OkStatus();
  }));
  return std::sqrt(sum);
}

absl::Status ClippingReducer::Merge(const Partial& partial) {
  // A wrong count is found, and named, by the reducer inside.
  if (!partial.values) return inner_->Merge(partial);
  ESPALIER_ASSIGN_OR_RETURN(const double norm, NormOf(partial));
  if (!(norm > norm_) || std::isinf(norm)) return inner_->Merge(partial);
  const double factor = norm_ / norm;
  Partial scaled = partial;
  scaled.values = [this, factor,
                   &partial](const std::function<absl::Status(std::span<const float>)>& sink) {
    size_t at = 0;
    std::vector<float> buffer;
    return partial.values([&](std::span<const float> piece) {
      buffer.assign(piece.begin(), piece.end());
      for (float& value : buffer) {
        if (at == reference_.size()) break;
        const double from = reference_[at++];
        value = static_cast<float>(from + factor * (value - from));
      }
      return sink(buffer);
    });
  };
  for (ScoreList& list : scaled.scores) {
    for (float& value : list.values) value = static_cast<float>(factor * value);
  }
  return inner_->Merge(scaled);
}

absl::Status KeepingReducer::Merge(const Partial& partial) {
  Update update{partial.participant, partial.steps, {}};
  if (partial.values_count >= stored_) update.values.reserve(stored_);
  Partial watched = partial;
  if (partial.values) {
    watched.values = [&](const std::function<absl::Status(std::span<const float>)>& sink) {
      update.values.clear();  // a source may be read twice
      return partial.values([&](std::span<const float> piece) {
        const int64_t room = stored_ - static_cast<int64_t>(update.values.size());
        const auto wanted = piece.first(std::min<size_t>(piece.size(), room));
        update.values.insert(update.values.end(), wanted.begin(), wanted.end());
        return sink(piece);
      });
    };
  }
  ESPALIER_RETURN_IF_ERROR(inner_->Merge(watched));
  updates_.insert_or_assign(partial.participant, std::move(update));
  return absl::OkStatus();
}

absl::StatusOr<std::string> KeepingReducer::Save() const {
  ESPALIER_ASSIGN_OR_RETURN(const std::string inner, inner_->Save());
  std::string fields;
  io::ByteWriter writer(fields);
  writer.PutString(inner);
  writer.Put<uint64_t>(updates_.size());
  for (const auto& [participant, update] : updates_) {
    writer.PutString(participant);
    writer.Put<int64_t>(update.steps);
    writer.PutArray(std::span<const float>(update.values));
  }
  return SealSaved(SavedKind::kKept, fields);
}

absl::Status KeepingReducer::Absorb(std::string_view saved) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string_view fields, OpenSaved(SavedKind::kKept, saved));
  io::ByteReader reader(fields);
  const std::string inner = reader.GetString();
  const auto count = reader.Get<uint64_t>();
  std::map<std::string, Update> updates;
  for (uint64_t i = 0; i < count && reader.ok(); ++i) {
    Update update;
    update.participant = reader.GetString();
    update.steps = reader.Get<int64_t>();
    update.values = reader.GetArray<float>();
    if (static_cast<int64_t>(update.values.size()) != stored_) return SavedError("an update");
    updates.insert_or_assign(update.participant, std::move(update));
  }
  if (!reader.ok() || !reader.at_end()) return SavedError("updates");
  ESPALIER_RETURN_IF_ERROR(inner_->Absorb(inner));
  updates_.merge(updates);
  return absl::OkStatus();
}

absl::StatusOr<Reduced> KeepingReducer::Finish() {
  ESPALIER_ASSIGN_OR_RETURN(Reduced reduced, inner_->Finish());
  for (auto& [participant, update] : updates_) reduced.updates.push_back(std::move(update));
  updates_.clear();
  return reduced;
}

}  // namespace espalier::server::reduce
