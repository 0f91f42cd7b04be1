// Fills protobuf messages from YAML nodes by reflection. See job_file.h for the form of the text.
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <map>
#include <string>
#include <vector>

#include "common/config/parameters.h"
#include "common/config/yaml_tree.h"

namespace espalier::config {

std::vector<std::string> FieldNames(const google::protobuf::Descriptor& type);

class MessageReader {
 public:
  // Appends to `violations`; records the line of each field in `lines` unless it is null.
  MessageReader(std::map<std::string, int>* lines, std::vector<Violation>& violations)
      : lines_(lines), violations_(violations) {}

  // Sets in `message` what `node`, a map, says. `path` is the path of `message` from the root.
  void Read(const YamlNode& node, const std::string& path, google::protobuf::Message& message);

 private:
  using Field = google::protobuf::FieldDescriptor;
  using Message = google::protobuf::Message;

  void ReadField(const YamlNode& node, const std::string& path, const Field& field,
                 Message& message);
  void ReadList(const YamlNode& node, const std::string& path, const Field& field,
                Message& message);
  void ReadParameters(const YamlNode& node, const std::string& path, const Field& field,
                      Message& message);
  void ReadMessage(const YamlNode& node, const std::string& path, const Field& field,
                   Message& target);
  void ReadDuration(const YamlNode& node, const std::string& path, Message& message);
  // Sets a scalar, or appends it when `field` is repeated.
  void ReadScalar(const YamlNode& node, const std::string& path, const Field& field,
                  Message& message);
  void ReadEnum(const YamlNode& node, const std::string& path, const Field& field,
                Message& message);

  void Fail(const YamlNode& node, const std::string& path, const std::string& why);
  // `hint` follows what was found: "" or "; " and what to write.
  void FailExpected(const YamlNode& node, const std::string& path, const std::string& expected,
                    const std::string& hint = "");
  // For an entry of `map` that is no field of `type`.
  void FailUnknown(const YamlNode& map, const YamlEntry& entry, const std::string& path,
                   const google::protobuf::Descriptor& type);

  std::map<std::string, int>* lines_;
  std::vector<Violation>& violations_;
};

}  // namespace espalier::config
