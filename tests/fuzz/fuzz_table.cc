// Tables of examples with labels, as CSV: what is loaded is within its own bounds, is the same when
// it is loaded again, and is as large as a worker says that it is. Sites agree on columns and words
// first, where the choices ask for that.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "server/datasets/agreement.h"
#include "tests/fuzz/fuzz_input.h"
#include "worker/data/load.h"

namespace {

using espalier::fuzz::Input;
using espalier::fuzz::Require;
namespace data = espalier::worker::data;
namespace v1 = espalier::v1;

constexpr data::LoadOptions kOptions = {.max_file_bytes = 1 << 22, .max_memory_bytes = 1 << 26};

// The folder of the data set, which stays for the next input.
const espalier::fuzz::Folder& Root() {
  static const espalier::fuzz::Folder root;
  root.Add("set");
  return root;
}

v1::DataSpec SpecOf(Input& input) {
  v1::DataSpec spec;
  spec.set_dataset("set");
  spec.set_delimiter(static_cast<v1::DataSpec::Delimiter>(input.Choice(4)));
  spec.set_header(static_cast<v1::DataSpec::Header>(input.Choice(3)));
  spec.set_missing(static_cast<v1::DataSpec::Missing>(input.Choice(4)));
  spec.set_words(static_cast<v1::DataSpec::Words>(input.Choice(3)));
  spec.set_target(static_cast<v1::DataSpec::Target>(input.Choice(5)));
  constexpr const char* kColumns[] = {"", "0", "-1", "y", "label"};
  const std::string column = kColumns[input.Choice(5)];
  const bool has_targets =
      spec.target() == v1::DataSpec::TARGET_LABELS || spec.target() == v1::DataSpec::TARGET_VALUES;
  if (has_targets) {
    spec.add_target_columns(column.empty() ? "1" : column);
  } else {
    spec.set_label_column(column);
  }
  return spec;
}

void CheckValues(const data::Dataset& set) {
  Require(set.train_rows() >= 0 && set.train_rows() <= set.size(),
          "training examples are examples");
  for (const int32_t label : set.labels()) {
    Require(label >= 0 && label < std::max(1, set.num_classes()), "labels are classes");
  }
  Require(set.class_names().empty() ||
              static_cast<int32_t>(set.class_names().size()) >= set.num_classes(),
          "classes have names, or none has");
  for (int64_t row = 0; row < set.size(); ++row) {
    for (int64_t i = 0; i < set.num_targets(); ++i) {
      Require(std::isfinite(set.TargetRow(row)[i]), "targets are finite");
    }
    if (set.is_bytes()) continue;
    for (int64_t i = 0; i < set.features(); ++i) {
      Require(std::isfinite(set.FloatRow(row)[i]), "values are finite");
    }
  }
}

bool SameRow(const data::Dataset& one, const data::Dataset& other, int64_t row) {
  for (int64_t i = 0; i < one.features(); ++i) {
    const bool same = one.is_bytes() ? one.ByteRow(row)[i] == other.ByteRow(row)[i]
                                     : one.FloatRow(row)[i] == other.FloatRow(row)[i];
    if (!same) return false;
  }
  return one.label(row) == other.label(row);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  Input input(bytes, size);
  v1::DataSpec spec = SpecOf(input);
  // All of it for each input would take too long.
  enum { kTwice, kAgreed, kByLooks };
  const int way = input.Choice(kByLooks + 1);
  const espalier::fuzz::Folder& root = Root();
  root.Write("set/train.csv", input.Part());
  if (input.Rest().empty()) {
    root.Remove("set/test.csv");
  } else {
    root.Write("set/test.csv", input.Rest());
  }
  const auto opened = data::DataRoot::Open(root.path());
  Require(opened.ok(), "the folder can be opened");
  if (way == kByLooks) {
    (void)data::DescribeByLooks(*opened, "set", kOptions);
    return 0;
  }
  v1::DatasetInfo info;
  if (way == kAgreed) {
    auto described = data::DescribeDataset(*opened, spec, kOptions);
    if (!described.ok() || described->format() != "csv") return 0;
    info = *std::move(described);
    std::vector<espalier::config::Violation> violations;
    auto agreed = espalier::server::datasets::Agree(spec, {{"worker", info}}, violations);
    if (agreed.has_value()) *spec.mutable_agreement() = std::move(agreed->agreement);
  }
  const auto set = data::LoadDataset(*opened, spec, kOptions);
  if (!set.ok()) return 0;
  CheckValues(**set);
  if (way == kAgreed) {
    Require(info.train_examples() == (*set)->train_rows() &&
                info.test_examples() == (*set)->size() - (*set)->train_rows(),
            "a description counts the examples");
    return 0;
  }
  const auto again = data::LoadDataset(*opened, spec, kOptions);
  Require(again.ok() && (*again)->size() == (*set)->size(), "what was loaded can be loaded again");
  for (int64_t row = 0; row < (*set)->size(); ++row) {
    Require(SameRow(**set, **again, row), "what is loaded is the same every time");
  }
  return 0;
}
