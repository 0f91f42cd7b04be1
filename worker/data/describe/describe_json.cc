#include "worker/data/describe/describe_json.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <filesystem>
#include <new>
#include <nlohmann/json.hpp>

#include "common/base/status.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/dataset.h"
#include "worker/data/describe/held_out.h"
#include "worker/data/errors.h"
#include "worker/data/load.h"
#include "worker/data/sandbox.h"

namespace espalier::worker::data {
namespace {

namespace fs = std::filesystem;

constexpr double kHeldOutShare = 0.2;
constexpr int64_t kMostTextRead = int64_t{64} << 20;

struct Description {
  v1::DatasetInfo info;
  double last_fifth = 0;
};

absl::StatusOr<v1::DataSpec> ParseView(const std::string& view) {
  v1::DataSpec spec;
  const auto parsed = google::protobuf::util::JsonStringToMessage(view, &spec);
  if (parsed.ok()) return spec;
  return base::InvalidArgument(
      kDataSpecInvalid,
      "expected --view to be a job's data as JSON, such as {\"label_column\": \"0\"}, found: " +
          std::string(parsed.message()));
}

// Reading a text shows that its lines and its tokenizer can be used, and how many examples it
// gives.
absl::Status CountExamples(const DataRoot& root, const v1::DataSpec& view,
                           const LoadOptions& options, v1::DatasetInfo& info) {
  if (info.train_bytes() + info.test_bytes() > kMostTextRead) return absl::OkStatus();
  ESPALIER_ASSIGN_OR_RETURN(const auto dataset, LoadDataset(root, view, options));
  info.set_classes(dataset->num_classes());
  info.set_train_examples(dataset->train_rows());
  info.set_test_examples(dataset->size() - dataset->train_rows());
  return absl::OkStatus();
}

absl::StatusOr<Description> Describe(const fs::path& folder, v1::DataSpec view, bool by_looks,
                                     const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const DataRoot root, DataRoot::Open(folder.parent_path().string()));
  view.set_dataset(folder.filename().string());
  Description description;
  ESPALIER_ASSIGN_OR_RETURN(description.info, by_looks
                                                  ? DescribeByLooks(root, view.dataset(), options)
                                                  : DescribeDataset(root, view, options));
  if (view.has_text() && description.info.format() == "text") {
    ESPALIER_RETURN_IF_ERROR(CountExamples(root, view, options, description.info));
  }
  ESPALIER_ASSIGN_OR_RETURN(description.last_fifth,
                            ShiftOfHeldOut(root, view, description.info, kHeldOutShare, options));
  return description;
}

Description DescribeOrExplain(const fs::path& folder, const v1::DataSpec& view, bool by_looks,
                              const LoadOptions& options) {
  Description description;
  description.info.set_name(folder.filename().string());
  try {
    absl::StatusOr<Description> described = Describe(folder, view, by_looks, options);
    if (described.ok()) return *std::move(described);
    description.info.set_problem(base::MessageOf(described.status()));
  } catch (const std::bad_alloc&) {
    description.info.set_problem("there is not enough memory to read this data set");
  }
  return description;
}

}  // namespace

absl::StatusOr<std::string> DescribeAsJson(const std::string& folder, const std::string& view,
                                           const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const v1::DataSpec spec, ParseView(view.empty() ? "{}" : view));
  // The name of the folder itself, also of "data/pets/" and ".".
  fs::path path = fs::absolute(folder).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  const Description description = DescribeOrExplain(path, spec, view.empty(), options);
  google::protobuf::util::JsonPrintOptions print;
  print.preserve_proto_field_names = true;
  std::string info;
  const auto printed = google::protobuf::util::MessageToJsonString(description.info, &info, print);
  if (!printed.ok()) {
    return base::MakeError(absl::StatusCode::kInternal, kDatasetInvalid,
                           std::string(printed.message()));
  }
  nlohmann::ordered_json json;
  json["dataset"] = nlohmann::ordered_json::parse(info);
  json["last_fifth"] = description.last_fifth;
  return json.dump(2);
}

}  // namespace espalier::worker::data
