#include "client/cli/output.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>

#include "client/cli/format.h"
#include "common/base/check.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace espalier::cli {
namespace {

using Json = nlohmann::ordered_json;

Json ToTree(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text, options);
  // Messages are well formed by construction: only a timestamp out of range can fail.
  if (!status.ok()) return Json::object();
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

// JSON scalars and quoted strings are valid YAML, so only the nesting has to be written.
void WriteYaml(const Json& node, const std::string& indent, std::string& out) {
  const auto is_nested = [](const Json& value) { return value.is_structured() && !value.empty(); };
  if (node.is_object()) {
    for (const auto& [key, value] : node.items()) {
      out += fmt::format("{}{}:", indent, key);
      if (is_nested(value)) {
        out += "\n";
        WriteYaml(value, indent + "  ", out);
      } else {
        out += fmt::format(" {}\n", value.dump());
      }
    }
  } else {
    for (const Json& value : node) {
      if (is_nested(value)) {
        std::string item;
        WriteYaml(value, indent + "  ", item);
        item.replace(indent.size(), 2, "- ");
        out += item;
      } else {
        out += fmt::format("{}- {}\n", indent, value.dump());
      }
    }
  }
}

std::string Padded(const std::string& text, int width, bool right) {
  const std::string space(static_cast<size_t>(std::max(0, width - Columns(text))), ' ');
  return right ? space + text : text + space;
}

// One value of a tab-separated line: a value cannot contain the separators.
std::string Flat(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\t' || c == '\n'; }, ' ');
  return text;
}

}  // namespace

std::string ToJson(const google::protobuf::Message& message, bool compact) {
  return ToTree(message).dump(compact ? -1 : 2) + "\n";
}

std::string ToYaml(const google::protobuf::Message& message) {
  std::string text;
  WriteYaml(ToTree(message), "", text);
  return text;
}

std::string JsonToYaml(const std::string& json) {
  std::string text;
  const Json tree = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!tree.is_discarded()) WriteYaml(tree, "", text);
  return text;
}

void PrintMessage(std::ostream& out, Format format, const google::protobuf::Message& message) {
  out << (format == Format::kYaml ? ToYaml(message) : ToJson(message));
}

void Table::Print(std::ostream& out, const Terminal& terminal) const {
  if (!terminal.is_tty) {
    for (const auto& row : rows_) {
      for (size_t i = 0; i < row.size(); ++i) out << (i == 0 ? "" : "\t") << Flat(row[i]);
      out << "\n";
    }
    return;
  }
  std::vector<int> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    int width = Columns(columns_[i].title);
    for (const auto& row : rows_) width = std::max(width, Columns(row[i]));
    widths.push_back(width);
  }
  const auto line = [&](const auto& value_of) {
    std::string text;
    for (size_t i = 0; i < columns_.size(); ++i) {
      text += i == 0 ? "" : "  ";
      text += Padded(value_of(i), widths[i], columns_[i].right);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
  };
  out << Styled(terminal, "1", line([&](size_t i) { return columns_[i].title; })) << "\n";
  for (const auto& row : rows_) out << line([&](size_t i) { return row[i]; }) << "\n";
}

void PrintFields(std::ostream& out, const Terminal& terminal, const Fields& fields) {
  int width = 0;
  for (const auto& [name, value] : fields) width = std::max(width, Columns(name));
  for (const auto& [name, value] : fields) {
    if (terminal.is_tty) {
      out << Padded(name, width, false) << "  " << value << "\n";
    } else {
      out << name << "\t" << Flat(value) << "\n";
    }
  }
}

std::string Styled(const Terminal& terminal, const std::string& code, const std::string& text) {
  if (!terminal.color) return text;
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

}  // namespace espalier::cli
