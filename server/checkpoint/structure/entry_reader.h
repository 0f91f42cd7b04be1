// EntryReader: the weights of one tensor of a checkpoint file, one after the other, whichever form the
// tensor is stored in.
//
// Order:     by position, which is row · columns + column of the matrix as the file has it.
// Memory:    blocks of kBlock numbers, however large the tensor is.
// Errors:    those of reading; DataLoss CHECKPOINT_CORRUPT where positions are not ascending, out of
//            range, or not as many as values.
// Ownership: borrows file, model and tensor.
// Threading: one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "server/checkpoint/structure/stored_tensors.h"

namespace espalier::server::checkpoint {

class EntryReader {
 public:
  static constexpr size_t kBlock = 64 * 1024;
  struct Entry {
    int64_t position;
    float value;
  };

  static absl::StatusOr<std::unique_ptr<EntryReader>> Open(const io::ReadableFile& file,
                                                           const StoredModel& model,
                                                           const StoredTensor& tensor);

  // The entries that follow; none after the last.
  absl::StatusOr<const std::vector<Entry>*> Next();

 private:
  // The numbers of one tensor of the file, in order.
  class Numbers {
   public:
    Numbers() = default;
    Numbers(const io::ReadableFile& file, const wire::TensorInfo& info);
    // Reads the `count` that follow. Floats of 16 bits become float.
    absl::Status ReadFloats(size_t count, std::vector<float>& out);
    absl::Status ReadIntegers(size_t count, std::vector<int32_t>& out);
    absl::Status ReadBytes(size_t count, std::vector<uint8_t>& out);
    int64_t left() const { return left_; }

   private:
    template <typename T>
    absl::Status Read(size_t count, std::vector<T>& out);

    const io::ReadableFile* file_ = nullptr;
    wire::DataType type_ = wire::DataType::kF32;
    uint64_t at_ = 0;
    int64_t left_ = 0;
  };

  explicit EntryReader(const StoredTensor& tensor) : tensor_(tensor) {}

  absl::Status NextDense();
  absl::Status NextCsr();
  absl::Status NextBitmap();
  absl::Status NextRow();
  absl::Status Corrupt(const std::string& what) const { return CorruptTensor(tensor_.name, what); }

  const StoredTensor& tensor_;
  Numbers values_;
  std::vector<float> value_block_;
  std::vector<Entry> entries_;
  int64_t done_ = 0;  // entries that were given

  // Of a CSR matrix.
  Numbers columns_;
  Numbers offsets_;
  std::vector<int32_t> column_block_;
  std::vector<int32_t> offset_block_;
  size_t offset_at_ = 0;
  int64_t row_ = -1;
  int64_t row_end_ = 0;  // the index after the row's last weight
  int64_t last_column_ = -1;

  // Of a bitmap.
  Numbers bits_;
  std::vector<uint8_t> bit_block_;
  int64_t bytes_done_ = 0;
};

}  // namespace espalier::server::checkpoint
