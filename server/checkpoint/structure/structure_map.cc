#include "server/checkpoint/structure/structure_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/printable.h"
#include "common/base/status.h"
#include "server/checkpoint/structure/entry_reader.h"
#include "server/checkpoint/structure/stored_tensors.h"

namespace espalier::server::checkpoint {
namespace {

using Entry = EntryReader::Entry;

// Names that an error lists.
constexpr size_t kNamesInErrors = 20;
constexpr size_t kBytesOfStrength = 8;

// Cell i of n begins with i · size // n.
int64_t CellOf(int64_t place, int64_t size, int64_t cells) {
  return ((place + 1) * cells - 1) / size;
}

// The entries of a reader, one at a time.
class Entries {
 public:
  Entries(std::unique_ptr<EntryReader> reader, const KeepGoing& keep_going)
      : reader_(std::move(reader)), keep_going_(keep_going) {}

  // Null at the end.
  const Entry* current() const {
    return block_ == nullptr || at_ == block_->size() ? nullptr : &(*block_)[at_];
  }
  // Also before the first one.
  absl::Status Advance() {
    if (block_ != nullptr && ++at_ < block_->size()) return absl::OkStatus();
    ESPALIER_RETURN_IF_ERROR(keep_going_());
    ESPALIER_ASSIGN_OR_RETURN(block_, reader_->Next());
    at_ = 0;
    return absl::OkStatus();
  }

 private:
  const std::unique_ptr<EntryReader> reader_;
  const KeepGoing& keep_going_;
  const std::vector<Entry>* block_ = nullptr;
  size_t at_ = 0;
};

absl::StatusOr<const StoredTensor*> Choose(const StoredModel& model, const std::string& name) {
  if (model.tensors.empty()) {
    return base::NotFound("TENSOR_NOT_FOUND",
                          "expected a checkpoint with tensors of weights, found none in it");
  }
  const auto named = std::ranges::find_if(model.tensors, [&](const StoredTensor& tensor) {
    return name.empty() ? tensor.form != StoredTensor::Form::kDense : tensor.name == name;
  });
  if (named != model.tensors.end()) return &*named;
  if (name.empty()) return &model.tensors.front();
  std::string names;
  for (size_t i = 0; i < std::min(model.tensors.size(), kNamesInErrors); ++i) {
    names += (i == 0 ? "" : ", ") + model.tensors[i].name;
  }
  if (model.tensors.size() > kNamesInErrors) {
    names += fmt::format(" and {} more", model.tensors.size() - kNamesInErrors);
  }
  return base::NotFound("TENSOR_NOT_FOUND",
                        fmt::format("expected the name of a tensor of weights, found '{}'; there "
                                    "are {}",
                                    base::Printable(name), names));
}

void ListTensors(const StoredModel& model, v1::Topology& topology) {
  for (const StoredTensor& stored : model.tensors) {
    if (topology.tensors_size() == kMaxTensors) return;
    v1::TopologyTensor& tensor = *topology.add_tensors();
    tensor.set_name(stored.name);
    tensor.set_rows(stored.rows);
    tensor.set_columns(stored.columns);
    tensor.set_active(stored.stored);
    tensor.set_sparse(stored.form != StoredTensor::Form::kDense);
    tensor.mutable_shape()->Add(stored.shape.begin(), stored.shape.end());
  }
}

// Bytes that a number of the size of a cell takes in a message.
size_t BytesOfCount(double count) {
  return static_cast<size_t>(std::log2(std::max(count, 1.0)) / 7) + 1;
}

// As many cells along each side as `bins`, the tensor and the answer's size allow.
absl::Status ChooseGrid(const MapRequest& request, bool compared, v1::Topology& topology) {
  if (request.bins < 0 || request.bins > kMaxBins) {
    return base::InvalidArgument("INVALID_BINS", fmt::format("expected bins from 1 to {}, found {}",
                                                             kMaxBins, request.bins));
  }
  int64_t bins = request.bins == 0 ? kDefaultBins : request.bins;
  const size_t others =
      topology.ByteSizeLong() + kMaxStrengths * kBytesOfStrength + size_t{2} * kMaxDegreeBars * 32;
  for (;; bins = bins * 7 / 8) {
    const int64_t rows = std::min(bins, topology.rows());
    const int64_t columns = std::min(bins, topology.columns());
    const double cells = static_cast<double>(rows) * static_cast<double>(columns);
    const double weights =
        static_cast<double>(topology.rows()) * static_cast<double>(topology.columns());
    const size_t counts = BytesOfCount(2 * weights / cells) * (compared ? 3 : 1);
    topology.set_grid_rows(static_cast<int32_t>(rows));
    topology.set_grid_columns(static_cast<int32_t>(columns));
    const auto bytes = static_cast<size_t>(cells) * (kBytesOfStrength + counts) + others;
    if (bytes <= request.max_bytes || bins <= 8) return absl::OkStatus();
  }
}

// Bars of equal width, from the lowest degree to the highest.
template <typename Bars>
void FillDegrees(const std::vector<int32_t>& degrees, Bars* bars) {
  const int64_t highest = degrees.empty() ? 0 : *std::ranges::max_element(degrees);
  const int64_t width = highest / kMaxDegreeBars + 1;
  std::map<int64_t, int64_t> units;
  for (const int32_t degree : degrees) ++units[degree / width];
  for (const auto& [bar, count] : units) {
    v1::DegreeCount& added = *bars->Add();
    added.set_degree(bar * width);
    added.set_last_degree(std::min((bar + 1) * width - 1, highest));
    added.set_units(count);
  }
}

// Counts the weights of one tensor.
class Map {
 public:
  Map(const StoredTensor& tensor, bool compared, v1::Topology& topology)
      : tensor_(tensor),
        topology_(topology),
        row_degrees_(SizeOf(tensor.rows)),
        column_degrees_(SizeOf(tensor.columns)) {
    const int cells = topology.grid_rows() * topology.grid_columns();
    topology.mutable_active()->Resize(cells, 0);
    topology.mutable_strength()->Resize(cells, 0);
    if (!compared) return;
    topology.mutable_grown()->Resize(cells, 0);
    topology.mutable_dropped()->Resize(cells, 0);
  }

  void CountStrengths() {
    topology_.mutable_column_strength()->Resize(static_cast<int>(tensor_.columns), 0);
  }

  void Exists(const Entry& entry) {
    const Place place = PlaceOf(entry.position);
    const double strength = std::abs(static_cast<double>(entry.value));
    ++topology_.mutable_active()->at(place.cell);
    topology_.mutable_strength()->at(place.cell) += strength;
    if (!row_degrees_.empty()) ++row_degrees_[static_cast<size_t>(place.row)];
    if (!column_degrees_.empty()) ++column_degrees_[static_cast<size_t>(place.column)];
    if (!topology_.column_strength().empty()) {
      topology_.mutable_column_strength()->at(static_cast<int>(place.column)) += strength;
    }
    ++active_;
  }
  void Grown(const Entry& entry) {
    ++topology_.mutable_grown()->at(PlaceOf(entry.position).cell);
    ++grown_;
  }
  void Dropped(const Entry& entry) {
    ++topology_.mutable_dropped()->at(PlaceOf(entry.position).cell);
    ++dropped_;
  }

  void Finish() {
    FillDegrees(row_degrees_, topology_.mutable_row_degrees());
    FillDegrees(column_degrees_, topology_.mutable_column_degrees());
    topology_.set_active_total(active_);
    topology_.set_grown_total(grown_);
    topology_.set_dropped_total(dropped_);
  }

 private:
  static size_t SizeOf(int64_t units) { return units > kMaxUnits ? 0 : static_cast<size_t>(units); }

  struct Place {
    int64_t row;
    int64_t column;
    int cell;
  };
  Place PlaceOf(int64_t position) const {
    const int64_t width = tensor_.transposed ? tensor_.rows : tensor_.columns;
    int64_t row = position / width;
    int64_t column = position % width;
    if (tensor_.transposed) std::swap(row, column);
    const int64_t cell =
        CellOf(row, tensor_.rows, topology_.grid_rows()) * topology_.grid_columns() +
        CellOf(column, tensor_.columns, topology_.grid_columns());
    return {row, column, static_cast<int>(cell)};
  }

  const StoredTensor& tensor_;
  v1::Topology& topology_;
  std::vector<int32_t> row_degrees_;
  std::vector<int32_t> column_degrees_;
  int64_t active_ = 0;
  int64_t grown_ = 0;
  int64_t dropped_ = 0;
};

absl::Status CountAll(Entries& now, Map& map) {
  ESPALIER_RETURN_IF_ERROR(now.Advance());
  for (const Entry* entry = now.current(); entry != nullptr; entry = now.current()) {
    map.Exists(*entry);
    ESPALIER_RETURN_IF_ERROR(now.Advance());
  }
  return absl::OkStatus();
}

// Both are in the order of positions.
absl::Status CountAgainst(Entries& now, Entries& before, Map& map) {
  ESPALIER_RETURN_IF_ERROR(now.Advance());
  ESPALIER_RETURN_IF_ERROR(before.Advance());
  while (now.current() != nullptr || before.current() != nullptr) {
    const Entry* entry = now.current();
    const Entry* old = before.current();
    if (entry == nullptr || (old != nullptr && old->position < entry->position)) {
      map.Dropped(*old);
      ESPALIER_RETURN_IF_ERROR(before.Advance());
      continue;
    }
    map.Exists(*entry);
    if (old == nullptr || old->position > entry->position) {
      map.Grown(*entry);
    } else {
      ESPALIER_RETURN_IF_ERROR(before.Advance());
    }
    ESPALIER_RETURN_IF_ERROR(now.Advance());
  }
  return absl::OkStatus();
}

absl::StatusOr<const StoredTensor*> Counterpart(const StoredModel& before,
                                                const StoredTensor& tensor) {
  const auto same = std::ranges::find(before.tensors, tensor.name, &StoredTensor::name);
  if (same != before.tensors.end() && same->rows == tensor.rows &&
      same->columns == tensor.columns && same->transposed == tensor.transposed) {
    return &*same;
  }
  return base::InvalidArgument(
      "COMPARE_OTHER_MODEL",
      fmt::format("expected compare_to to be a checkpoint of the same model, with a tensor '{}' of "
                  "{} × {}, found {}; compare checkpoints of one model",
                  tensor.name, tensor.rows, tensor.columns,
                  same == before.tensors.end()
                      ? std::string("none of that name")
                      : fmt::format("one of {} × {}", same->rows, same->columns)));
}

void SetInput(const StoredModel& model, v1::Topology& topology) {
  if (!model.input.image || model.input.features() != topology.columns()) return;
  for (const int64_t size : {model.input.channels, model.input.height, model.input.width}) {
    topology.add_input_shape(size);
  }
}

}  // namespace

absl::StatusOr<v1::Topology> MapStructure(const io::ReadableFile& file,
                                          const io::ReadableFile* before, const MapRequest& request,
                                          const KeepGoing& keep_going) {
  v1::Topology topology;
  ESPALIER_ASSIGN_OR_RETURN(const StoredModel model, ReadStoredModel(file));
  ESPALIER_ASSIGN_OR_RETURN(const StoredTensor* tensor, Choose(model, request.tensor));
  ListTensors(model, topology);
  topology.set_tensor(tensor->name);
  topology.set_rows(tensor->rows);
  topology.set_columns(tensor->columns);
  ESPALIER_RETURN_IF_ERROR(ChooseGrid(request, before != nullptr, topology));
  ESPALIER_ASSIGN_OR_RETURN(auto reader, EntryReader::Open(file, model, *tensor));
  Entries now(std::move(reader), keep_going);
  Map map(*tensor, before != nullptr, topology);
  if (tensor == &model.tensors.front() && model.input.features() > 0 &&
      tensor->columns <= kMaxStrengths) {
    map.CountStrengths();
    SetInput(model, topology);
  }
  if (before == nullptr) {
    ESPALIER_RETURN_IF_ERROR(CountAll(now, map));
  } else {
    ESPALIER_ASSIGN_OR_RETURN(const StoredModel old_model, ReadStoredModel(*before));
    ESPALIER_ASSIGN_OR_RETURN(const StoredTensor* old, Counterpart(old_model, *tensor));
    ESPALIER_ASSIGN_OR_RETURN(auto old_reader, EntryReader::Open(*before, old_model, *old));
    Entries then(std::move(old_reader), keep_going);
    ESPALIER_RETURN_IF_ERROR(CountAgainst(now, then, map));
  }
  map.Finish();
  return topology;
}

}  // namespace espalier::server::checkpoint
