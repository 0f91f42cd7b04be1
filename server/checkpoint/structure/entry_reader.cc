#include "server/checkpoint/structure/entry_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "common/base/check.h"
#include "common/base/status.h"
#include "common/language/float_formats.h"

namespace espalier::server::checkpoint {
namespace {

bool IsFloat(wire::DataType type) {
  return type == wire::DataType::kF32 || type == wire::DataType::kF16 ||
         type == wire::DataType::kBF16;
}

// A tensor of the file with this type and number of numbers.
absl::StatusOr<const wire::TensorInfo*> Expect(const StoredModel& model, const std::string& name,
                                               bool of_that_type(wire::DataType type),
                                               int64_t count) {
  const wire::TensorInfo* info = model.header.Find(name);
  if (info == nullptr) return CorruptTensor(name, "it is missing");
  if (!of_that_type(info->type)) return CorruptTensor(name, "its numbers are of another type");
  int64_t found = 1;
  for (const int64_t size : info->shape) found *= size;
  if (found == count) return info;
  return CorruptTensor(name, fmt::format("expected {} numbers, found {}", count, found));
}

}  // namespace

EntryReader::Numbers::Numbers(const io::ReadableFile& file, const wire::TensorInfo& info)
    : file_(&file),
      type_(info.type),
      at_(info.begin),
      left_(static_cast<int64_t>(info.bytes / wire::BytesPerElement(info.type))) {}

template <typename T>
absl::Status EntryReader::Numbers::Read(size_t count, std::vector<T>& out) {
  ESPALIER_CHECK(static_cast<int64_t>(count) <= left_, "sizes were compared");
  out.resize(count);
  ESPALIER_RETURN_IF_ERROR(file_->ReadAt(at_, out.data(), count * sizeof(T)));
  at_ += count * sizeof(T);
  left_ -= static_cast<int64_t>(count);
  return absl::OkStatus();
}

absl::Status EntryReader::Numbers::ReadFloats(size_t count, std::vector<float>& out) {
  if (type_ == wire::DataType::kF32) return Read(count, out);
  std::vector<uint16_t> halves;
  ESPALIER_RETURN_IF_ERROR(Read(count, halves));
  out.resize(count);
  std::ranges::transform(halves, out.begin(),
                         type_ == wire::DataType::kF16 ? language::FromF16 : language::FromBf16);
  return absl::OkStatus();
}

absl::Status EntryReader::Numbers::ReadIntegers(size_t count, std::vector<int32_t>& out) {
  return Read(count, out);
}

absl::Status EntryReader::Numbers::ReadBytes(size_t count, std::vector<uint8_t>& out) {
  return Read(count, out);
}

absl::StatusOr<std::unique_ptr<EntryReader>> EntryReader::Open(const io::ReadableFile& file,
                                                               const StoredModel& model,
                                                               const StoredTensor& tensor) {
  const auto is_i32 = [](wire::DataType type) { return type == wire::DataType::kI32; };
  const auto is_u8 = [](wire::DataType type) { return type == wire::DataType::kU8; };
  std::unique_ptr<EntryReader> reader(new EntryReader(tensor));
  const bool dense = tensor.form == StoredTensor::Form::kDense;
  ESPALIER_ASSIGN_OR_RETURN(
      const wire::TensorInfo* values,
      Expect(model, dense ? tensor.name : tensor.name + ".values", IsFloat, tensor.stored));
  reader->values_ = Numbers(file, *values);
  if (tensor.form == StoredTensor::Form::kCsr) {
    ESPALIER_ASSIGN_OR_RETURN(const wire::TensorInfo* columns,
                              Expect(model, tensor.name + ".columns", is_i32, tensor.stored));
    ESPALIER_ASSIGN_OR_RETURN(const wire::TensorInfo* offsets,
                              Expect(model, tensor.name + ".row_offsets", is_i32, tensor.rows + 1));
    reader->columns_ = Numbers(file, *columns);
    reader->offsets_ = Numbers(file, *offsets);
    ESPALIER_RETURN_IF_ERROR(reader->offsets_.ReadIntegers(1, reader->offset_block_));
    if (reader->offset_block_[0] != 0) return reader->Corrupt("its rows do not begin with 0");
    reader->offset_at_ = 1;
  } else if (tensor.form == StoredTensor::Form::kBitmap) {
    ESPALIER_ASSIGN_OR_RETURN(
        const wire::TensorInfo* bits,
        Expect(model, tensor.name + ".bitmap", is_u8, (tensor.rows * tensor.columns + 7) / 8));
    reader->bits_ = Numbers(file, *bits);
  }
  return reader;
}

absl::StatusOr<const std::vector<EntryReader::Entry>*> EntryReader::Next() {
  entries_.clear();
  switch (tensor_.form) {
    case StoredTensor::Form::kDense:
      ESPALIER_RETURN_IF_ERROR(NextDense());
      break;
    case StoredTensor::Form::kCsr:
      ESPALIER_RETURN_IF_ERROR(NextCsr());
      break;
    case StoredTensor::Form::kBitmap:
      ESPALIER_RETURN_IF_ERROR(NextBitmap());
      break;
  }
  return &entries_;
}

absl::Status EntryReader::NextDense() {
  const auto count = std::min<size_t>(kBlock, static_cast<size_t>(values_.left()));
  ESPALIER_RETURN_IF_ERROR(values_.ReadFloats(count, value_block_));
  for (const float value : value_block_) entries_.push_back({done_++, value});
  return absl::OkStatus();
}

absl::Status EntryReader::NextRow() {
  if (offset_at_ == offset_block_.size()) {
    const auto count = std::min<size_t>(kBlock, static_cast<size_t>(offsets_.left()));
    if (count == 0) return Corrupt("its rows end before its weights do");
    ESPALIER_RETURN_IF_ERROR(offsets_.ReadIntegers(count, offset_block_));
    offset_at_ = 0;
  }
  const int32_t end = offset_block_[offset_at_++];
  if (end < row_end_ || end > tensor_.stored) return Corrupt("its rows are not in order");
  row_end_ = end;
  last_column_ = -1;
  ++row_;
  return absl::OkStatus();
}

absl::Status EntryReader::NextCsr() {
  const auto count = std::min<size_t>(kBlock, static_cast<size_t>(columns_.left()));
  ESPALIER_RETURN_IF_ERROR(columns_.ReadIntegers(count, column_block_));
  ESPALIER_RETURN_IF_ERROR(values_.ReadFloats(count, value_block_));
  for (size_t i = 0; i < count; ++i, ++done_) {
    while (done_ >= row_end_) ESPALIER_RETURN_IF_ERROR(NextRow());
    const int32_t column = column_block_[i];
    if (column <= last_column_ || column >= tensor_.columns) {
      return Corrupt(fmt::format("column {} of row {} is out of place", column, row_));
    }
    last_column_ = column;
    entries_.push_back({row_ * tensor_.columns + column, value_block_[i]});
  }
  // The rows after the last weight have none.
  while (columns_.left() == 0 && row_ + 1 < tensor_.rows) ESPALIER_RETURN_IF_ERROR(NextRow());
  if (columns_.left() == 0 && row_end_ != tensor_.stored) {
    return Corrupt("its rows have fewer weights than it has");
  }
  return absl::OkStatus();
}

absl::Status EntryReader::NextBitmap() {
  // Blocks without bits are passed over, since an empty answer means the end.
  while (entries_.empty() && bits_.left() > 0) {
    const auto count = std::min<size_t>(kBlock / 8, static_cast<size_t>(bits_.left()));
    ESPALIER_RETURN_IF_ERROR(bits_.ReadBytes(count, bit_block_));
    for (size_t i = 0; i < count; ++i) {
      for (uint32_t byte = bit_block_[i]; byte != 0; byte &= byte - 1) {
        const int64_t position =
            (bytes_done_ + static_cast<int64_t>(i)) * 8 + std::countr_zero(byte);
        entries_.push_back({position, 0.0F});
      }
    }
    bytes_done_ += static_cast<int64_t>(count);
  }
  const auto found = static_cast<int64_t>(entries_.size());
  if (found > values_.left() || (bits_.left() == 0 && found < values_.left())) {
    return Corrupt("its bits are not as many as its values");
  }
  if (found > 0 && entries_.back().position >= tensor_.rows * tensor_.columns) {
    return Corrupt("it has bits after its last position");
  }
  ESPALIER_RETURN_IF_ERROR(values_.ReadFloats(entries_.size(), value_block_));
  for (size_t i = 0; i < entries_.size(); ++i) entries_[i].value = value_block_[i];
  return absl::OkStatus();
}

}  // namespace espalier::server::checkpoint
