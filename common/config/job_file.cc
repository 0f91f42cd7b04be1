#include "common/config/job_file.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <charconv>
#include <optional>

#include "common/config/message_reader.h"
#include "common/config/text.h"
#include "common/config/yaml_tree.h"
#include "fmt/format.h"

namespace espalier::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr std::string_view kNull = "null";

// "a.b[2].c" → "a.b[2]" → "a.b" → "a" → "".
std::string_view Parent(std::string_view path) {
  const size_t end = path.find_last_of(".[");
  return end == std::string_view::npos ? std::string_view() : path.substr(0, end);
}

// One step of an override's path: a name with an optional index.
struct PathStep {
  std::string name;
  std::optional<int> index;
};

// Parses "layers[0]"; false when brackets or digits are wrong.
bool ParseStep(std::string_view text, PathStep& step) {
  const size_t bracket = text.find('[');
  step.name = text.substr(0, bracket);
  if (bracket == std::string_view::npos) return !step.name.empty();
  if (text.back() != ']') return false;
  const std::string_view digits = text.substr(bracket + 1, text.size() - bracket - 2);
  int index = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  step.index = index;
  return error == std::errc() && end == digits.data() + digits.size() && index >= 0;
}

// Walks an override's path to the message that holds its last field.
class OverrideTarget {
 public:
  OverrideTarget(std::string_view path, std::vector<Violation>& violations)
      : path_(path), violations_(violations) {}

  // Sets the value; appends a violation when the path leads nowhere.
  void Assign(Message& root, YamlNode value) {
    Message* message = &root;
    std::string_view rest = path_;
    for (;;) {
      const size_t dot = rest.find('.');
      PathStep step;
      if (!ParseStep(rest.substr(0, dot), step)) {
        return Fail("expected a path such as federation.rounds or model.layers[0].linear.units");
      }
      if (dot == std::string_view::npos) return AssignField(*message, step, std::move(value));
      rest.remove_prefix(dot + 1);
      const FieldDescriptor* field = Find(*message, step.name);
      if (field == nullptr) return;
      if (field->is_map()) return AssignMapEntry(*message, *field, rest, std::move(value));
      message = Descend(*message, *field, step);
      if (message == nullptr) return;
    }
  }

 private:
  void Fail(std::string why) { violations_.push_back({std::string(path_), std::move(why)}); }

  const FieldDescriptor* Find(const Message& message, const std::string& name) {
    const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(name);
    if (field == nullptr) {
      Fail(UnknownName("field", name, FieldNames(*message.GetDescriptor())));
    }
    return field;
  }

  Message* Descend(Message& message, const FieldDescriptor& field, const PathStep& step) {
    const Reflection& reflection = *message.GetReflection();
    if (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      Fail(fmt::format("{} is a value and has no fields", step.name));
      return nullptr;
    }
    if (!field.is_repeated()) {
      if (step.index.has_value()) {
        Fail(fmt::format("{} is not a list; leave the index out", step.name));
        return nullptr;
      }
      return reflection.MutableMessage(&message, &field);
    }
    const int size = reflection.FieldSize(message, &field);
    if (!step.index.has_value() || *step.index >= size) {
      Fail(fmt::format("{} is a list of {}: give an index, {}[0] is the first", step.name, size,
                       step.name));
      return nullptr;
    }
    return reflection.MutableRepeatedMessage(&message, &field, *step.index);
  }

  void AssignField(Message& message, const PathStep& step, YamlNode value) {
    const FieldDescriptor* field = Find(message, step.name);
    if (field == nullptr) return;
    if (step.index.has_value()) {
      return Fail("a whole list item cannot be replaced; set one of its fields, or the whole list");
    }
    message.GetReflection()->ClearField(&message, field);
    if (value.kind == YamlNode::Kind::kNothing) return;  // null: as if it had been left out
    ReadOne(message, step.name, Parent(path_), std::move(value));
  }

  void AssignMapEntry(Message& message, const FieldDescriptor& field, std::string_view key,
                      YamlNode value) {
    YamlNode map;
    map.kind = YamlNode::Kind::kMap;
    map.entries.push_back({std::string(key), std::move(value)});
    ReadOne(message, field.name(), Parent(Parent(path_)), std::move(map));
  }

  void ReadOne(Message& message, const std::string& name, std::string_view parent_path,
               YamlNode value) {
    YamlNode map;
    map.kind = YamlNode::Kind::kMap;
    map.entries.push_back({name, std::move(value)});
    MessageReader(nullptr, violations_).Read(map, std::string(parent_path), message);
  }

  std::string_view path_;
  std::vector<Violation>& violations_;
};

}  // namespace

int JobFile::LineOf(std::string_view path) const {
  while (!path.empty()) {
    const auto it = lines.find(std::string(path));
    if (it != lines.end()) return it->second;
    path = Parent(path);
  }
  return 0;
}

JobFile ParseJobFile(std::string_view yaml, std::vector<Violation>& violations) {
  JobFile file;
  const size_t before = violations.size();
  const YamlNode root = ParseYaml(yaml, violations);
  if (root.kind != YamlNode::Kind::kMap) {
    if (violations.size() == before) {
      violations.push_back({"",
                            "expected a job: a map with model, data, method, training and "
                            "federation; see docs/examples"});
    }
    return file;
  }
  file.readable = true;
  MessageReader(&file.lines, violations).Read(root, "", file.spec);
  return file;
}

void ApplyOverride(std::string_view assignment, v1::JobSpec& spec,
                   std::vector<Violation>& violations) {
  const size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    violations.push_back(
        {Shortened(assignment), "expected a field and its value, for example federation.rounds=5"});
    return;
  }
  const std::string_view path = assignment.substr(0, equals);
  const std::string_view text = assignment.substr(equals + 1);
  const size_t before = violations.size();
  YamlNode value = ParseYaml(text, violations);
  if (violations.size() != before) {
    for (size_t i = before; i < violations.size(); ++i) violations[i].field = std::string(path);
    return;
  }
  if (value.kind == YamlNode::Kind::kNothing && text != kNull) {
    violations.push_back(
        {std::string(path), "expected a value, or null to leave the field out, found nothing"});
    return;
  }
  OverrideTarget(path, violations).Assign(spec, std::move(value));
}

bool IsJobField(std::string_view path) {
  const google::protobuf::Descriptor* message = v1::JobSpec::descriptor();
  while (message != nullptr) {
    const size_t dot = path.find('.');
    PathStep step;
    if (!ParseStep(path.substr(0, dot), step)) return false;
    const FieldDescriptor* field = message->FindFieldByName(step.name);
    if (field == nullptr) return false;
    if (dot == std::string_view::npos || field->is_map()) return true;
    path.remove_prefix(dot + 1);
    message = field->message_type();
  }
  return false;
}

}  // namespace espalier::config
