#include <fmt/format.h>

#include <cstring>

#include "common/base/status.h"
#include "worker/data/errors.h"
#include "worker/data/readers.h"

namespace espalier::worker::data {
namespace {

constexpr size_t kRecordBytes = 1 + kCifarFeatures;
constexpr size_t kRecordsPerBlock = 256;

}  // namespace

absl::Status ReadCifar10(ByteStream& stream, DatasetBuilder& builder) {
  ESPALIER_RETURN_IF_ERROR(builder.SetFeatures(kCifarFeatures, stream.name()));
  std::vector<uint8_t> block(kRecordBytes * kRecordsPerBlock);
  for (int64_t row = 0;;) {
    ESPALIER_ASSIGN_OR_RETURN(const size_t got, stream.Read(block.data(), block.size()));
    const auto records = static_cast<int64_t>(got / kRecordBytes);
    if (got == 0 && row == 0) {
      return DatasetInvalid(stream.name(),
                            {"", "CIFAR-10 records", "an empty file", "copy the file again"});
    }
    if (got % kRecordBytes != 0) {
      return DatasetInvalid(
          stream.name(),
          {fmt::format("row {}", row + records), fmt::format("records of {} bytes", kRecordBytes),
           fmt::format("{} bytes at the end of the file", got % kRecordBytes),
           "the file is truncated or of another format, copy it again"});
    }
    ESPALIER_ASSIGN_OR_RETURN(uint8_t * place, builder.AppendByteRows(records));
    for (int64_t i = 0; i < records; ++i, ++row, place += kCifarFeatures) {
      const uint8_t* record = block.data() + static_cast<size_t>(i) * kRecordBytes;
      if (record[0] >= kCifarClasses) {
        return DatasetInvalid(stream.name(), {fmt::format("row {}", row), "a label in 0..9",
                                              std::to_string(record[0]),
                                              "check that this is CIFAR-10's binary version"});
      }
      builder.AppendLabel(record[0]);
      std::memcpy(place, record + 1, kCifarFeatures);
    }
    if (got < block.size()) return absl::OkStatus();
  }
}

}  // namespace espalier::worker::data
