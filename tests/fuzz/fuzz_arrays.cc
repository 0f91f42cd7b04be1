// Arrays of examples: npy, IDX, CIFAR-10, and the files of groups. Labels are within their bounds,
// there is one for each row, and values are finite.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/memory_file.h"
#include "worker/data/readers.h"

namespace {

using espalier::fuzz::Input;
using espalier::fuzz::MemoryStream;
using espalier::fuzz::Require;
namespace data = espalier::worker::data;
using Target = espalier::v1::DataSpec::Target;

void CheckRows(data::DatasetBuilder builder) {
  const int64_t rows = builder.rows();
  const data::Dataset set = builder.Finish("set", "format", 0);
  Require(set.size() == rows, "each row has a label");
  for (const int32_t label : set.labels())
    Require(label >= 0 && label < std::max(1, set.num_classes()), "labels are classes");
  for (int64_t row = 0; row < rows && !set.is_bytes(); ++row) {
    for (int64_t i = 0; i < set.features(); ++i) {
      Require(std::isfinite(set.FloatRow(row)[i]), "values are finite");
    }
  }
}

void ReadGroups(int kind, std::string_view bytes) {
  data::ByteStream stream = MemoryStream(bytes);
  switch (kind) {
    case 0:
      (void)data::ReadIdxGroups(stream);
      break;
    case 1:
      (void)data::ReadNpyIntegers(stream);
      break;
    case 2:
      (void)data::ReadTextGroups(stream);
      break;
    default:
      (void)data::ReadIdxLabels(stream);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  Input input(bytes, size);
  const int kind = input.Choice(8);
  if (kind < 4) {
    ReadGroups(kind, input.Rest());
    return 0;
  }
  data::DatasetBuilder builder(espalier::fuzz::kSmallFiles);
  const auto target = static_cast<Target>(input.Choice(5));
  const std::string_view labels_part = input.Part();
  data::ByteStream labels = MemoryStream(labels_part);
  data::ByteStream values = MemoryStream(input.Rest());
  bool read = false;
  if (kind == 4) {
    read = data::ReadIdx(values, labels, builder).ok();
  } else if (kind == 5) {
    read = data::ReadCifar10(values, builder).ok();
  } else {
    read = data::ReadNpy(values, labels, builder, target).ok();
  }
  if (read) CheckRows(std::move(builder));
  return 0;
}
