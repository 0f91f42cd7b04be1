#include "client/cli/job_text.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <vector>

#include "absl/time/time.h"
#include "client/cli/format.h"
#include "client/lib/client.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/config/job_file.h"
#include "common/config/text.h"
#include "common/config/validate.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace espalier::cli {
namespace {

using config::Violation;

// Whether "federation.rounds=5" or "federation=…" is where the value of `field` comes from.
bool Sets(const std::string& assignment, const std::string& field) {
  const std::string path = assignment.substr(0, assignment.find('='));
  if (!field.starts_with(path)) return false;
  return field.size() == path.size() || field[path.size()] == '.' || field[path.size()] == '[';
}

// Puts "line 12: " in front of descriptions of fields that the file has, "--set: " in front of
// those that were overridden.
void AddOrigins(const config::JobFile& file, const std::vector<std::string>& overrides,
                std::vector<Violation>& violations) {
  for (Violation& violation : violations) {
    const bool overridden = std::any_of(
        overrides.begin(), overrides.end(),
        [&](const std::string& assignment) { return Sets(assignment, violation.field); });
    const int line = file.LineOf(violation.field);
    if (overridden) {
      violation.description = fmt::format("--set: {}", violation.description);
    } else if (line > 0) {
      violation.description = fmt::format("line {}: {}", line, violation.description);
    }
  }
}

// Whether `inner` is `outer` or a part of it, as paths.
bool IsWithin(std::string_view inner, std::string_view outer) {
  if (outer.empty() || inner == outer) return true;
  return inner.starts_with(outer) && (inner[outer.size()] == '.' || inner[outer.size()] == '[');
}

std::string_view Parent(std::string_view path) {
  const size_t end = path.rfind('.');
  return end == std::string_view::npos ? std::string_view() : path.substr(0, end);
}

// Whether the server's mistake at `found` comes from the file's one at `mistake`. `given`: whether
// the file or an override has the field `found`.
bool FollowsFrom(std::string_view mistake, std::string_view found, bool given) {
  if (IsWithin(found, mistake) || IsWithin(mistake, found)) return true;
  return !given && !config::IsJobField(mistake) && IsWithin(found, Parent(mistake));
}

std::string Summary(const std::string& file, size_t count) {
  return fmt::format("{} has {} problem{}; see docs/reference/job-file.md", config::Quoted(file),
                     count, count == 1 ? "" : "s");
}

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using Json = nlohmann::ordered_json;

Json MessageTree(const Message& message);

Json ParameterTree(const v1::Value& value) {
  switch (value.kind_case()) {
    case v1::Value::kBoolValue:
      return value.bool_value();
    case v1::Value::kIntValue:
      return value.int_value();
    case v1::Value::kDoubleValue:
      return value.double_value();
    default:
      return value.string_value();
  }
}

Json ParametersTree(const v1::MethodSpec& method) {
  std::vector<std::string> names;
  for (const auto& [name, value] : method.parameters()) names.push_back(name);
  std::sort(names.begin(), names.end());
  Json tree = Json::object();
  for (const std::string& name : names) tree[name] = ParameterTree(method.parameters().at(name));
  return tree;
}

// The word of an enum's value; the number of one that this program does not know yet.
Json EnumTree(const FieldDescriptor& field, int number) {
  const auto* value = field.enum_type()->FindValueByNumber(number);
  return value == nullptr ? Json(number) : Json(config::EnumWord(*value));
}

// The value of item `index` of a list.
Json ItemTree(const Message& message, const FieldDescriptor& field, int index) {
  const auto& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetRepeatedBool(message, &field, index);
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.GetRepeatedInt32(message, &field, index);
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection.GetRepeatedInt64(message, &field, index);
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection.GetRepeatedUInt32(message, &field, index);
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection.GetRepeatedUInt64(message, &field, index);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection.GetRepeatedFloat(message, &field, index);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.GetRepeatedDouble(message, &field, index);
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection.GetRepeatedString(message, &field, index);
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumTree(field, reflection.GetRepeatedEnumValue(message, &field, index));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return MessageTree(reflection.GetRepeatedMessage(message, &field, index));
  }
  return nullptr;
}

// The value of a field that is no list.
Json FieldTree(const Message& message, const FieldDescriptor& field) {
  const auto& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(message, &field);
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.GetInt32(message, &field);
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection.GetInt64(message, &field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection.GetUInt32(message, &field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection.GetUInt64(message, &field);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection.GetFloat(message, &field);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.GetDouble(message, &field);
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection.GetString(message, &field);
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumTree(field, reflection.GetEnumValue(message, &field));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return MessageTree(reflection.GetMessage(message, &field));
  }
  return nullptr;
}

Json MessageTree(const Message& message) {
  if (const auto* duration = dynamic_cast<const google::protobuf::Duration*>(&message)) {
    return std::string(absl::FormatDuration(ToDuration(*duration)));
  }
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  Json tree = Json::object();
  for (const FieldDescriptor* field : fields) {
    Json& value = tree[field->name()];
    if (field->is_map()) {
      value = ParametersTree(dynamic_cast<const v1::MethodSpec&>(message));
    } else if (field->is_repeated()) {
      for (int i = 0; i < message.GetReflection()->FieldSize(message, field); ++i) {
        value.push_back(ItemTree(message, *field, i));
      }
    } else {
      value = FieldTree(message, *field);
    }
  }
  return tree;
}

}  // namespace

std::string WriteJob(const v1::JobSpec& spec) {
  return base::PrintableQuoted(
             MessageTree(spec).dump(2, ' ', false, Json::error_handler_t::replace),
             base::Notation::kJson) +
         "\n";
}

JobText ParseJob(const std::string& text, const std::vector<std::string>& overrides) {
  JobText result;
  config::JobFile job = config::ParseJobFile(text, result.violations);
  result.readable = job.readable;
  if (!job.readable) return result;
  const size_t of_file = result.violations.size();
  for (const std::string& assignment : overrides) {
    config::ApplyOverride(assignment, job.spec, result.violations);
  }
  for (size_t i = of_file; i < result.violations.size(); ++i) {
    result.violations[i].description = "--set: " + result.violations[i].description;
  }
  // A file that was not understood would only give follow-up mistakes.
  if (result.violations.empty()) {
    // Sizes that the data set says are filled in by the coordinator.
    v1::JobSpec sized = job.spec;
    config::AssumeSizes(sized);
    result.violations = config::ValidateJobSpec(sized);
    AddOrigins(job, overrides, result.violations);
  }
  result.spec = std::move(job.spec);
  return result;
}

absl::Status JobFileError(const std::string& file, const std::vector<Violation>& violations,
                          int left_out) {
  const size_t count = violations.size() + static_cast<size_t>(left_out);
  return client::WithViolations(base::InvalidArgument("JOB_FILE_INVALID", Summary(file, count)),
                                violations, left_out);
}

absl::StatusOr<v1::JobSpec> ReadJob(const std::string& text, const std::string& file,
                                    const std::vector<std::string>& overrides) {
  JobText job = ParseJob(text, overrides);
  if (job.violations.empty()) return std::move(job.spec);
  return JobFileError(file, job.violations);
}

std::vector<Violation> WithServerMistakes(std::vector<Violation> mistakes,
                                          const absl::Status& answer, const std::string& text,
                                          const std::vector<std::string>& overrides) {
  std::vector<Violation> ignored;
  const config::JobFile file = config::ParseJobFile(text, ignored);
  std::vector<Violation> of_server = client::ViolationsOf(answer);
  std::erase_if(of_server, [&](const Violation& found) {
    const bool given =
        file.lines.contains(found.field) ||
        std::any_of(overrides.begin(), overrides.end(),
                    [&](const std::string& assignment) { return Sets(assignment, found.field); });
    return std::any_of(mistakes.begin(), mistakes.end(), [&](const Violation& mistake) {
      return FollowsFrom(mistake.field, found.field, given);
    });
  });
  AddOrigins(file, overrides, of_server);
  mistakes.insert(mistakes.end(), of_server.begin(), of_server.end());
  return mistakes;
}

absl::Status WithLines(const absl::Status& status, const std::string& text, const std::string& file,
                       const std::vector<std::string>& overrides) {
  std::vector<Violation> violations = client::ViolationsOf(status);
  if (violations.empty()) return status;
  std::vector<Violation> ignored;
  AddOrigins(config::ParseJobFile(text, ignored), overrides, violations);
  const int left_out = client::ViolationsLeftOut(status);
  const size_t count = violations.size() + static_cast<size_t>(left_out);
  return client::WithViolations(
      base::MakeError(status.code(), base::ReasonOf(status), Summary(file, count)), violations,
      left_out);
}

}  // namespace espalier::cli
