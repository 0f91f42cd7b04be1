// Job files: YAML in, v1::JobSpec out, driven by the message descriptors, so that a new proto field
// is a new job-file field. docs/reference/job-file.md is generated from the same descriptors.
//
// Form:     field names as in the proto (snake_case); messages are maps, repeated fields lists;
//           enum values are their short lower-case words (`relu`, `dirichlet`); durations are
//           "30s", "10m", "1h30m"; method parameters are a plain map under `method.parameters`.
// Defaults: not written in here; ApplyDefaults() does that.
// Limits:   those of yaml_tree.h.
// Errors:   every mistake is appended to `violations`, with its line and the nearest known name.
// Threading, determinism: pure functions.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/parameters.h"
#include "espalier/v1/job.pb.h"

namespace espalier::config {

struct JobFile {
  v1::JobSpec spec;  // complete only when no violation was appended
  // False when the text is not YAML of one map: nothing of `spec` is set then, and whatever else
  // could be said of it would be a consequence.
  bool readable = false;
  // 1-based line of each field that is present, by its path ("model.layers[0].linear.units").
  std::map<std::string, int> lines;

  // Line of `path`, or of the nearest part around it that is present; 0 when there is none.
  int LineOf(std::string_view path) const;
};

JobFile ParseJobFile(std::string_view yaml, std::vector<Violation>& violations);

// Applies "federation.rounds=5" or "model.layers[0].linear.units=100" to a spec; the value is YAML
// and replaces what was there; null clears the field. Missing messages are created, list items must
// exist.
void ApplyOverride(std::string_view assignment, v1::JobSpec& spec,
                   std::vector<Violation>& violations);

// Whether `path` ("model.layers[0].linear.units") names a field of a job. Keys of maps do.
bool IsJobField(std::string_view path);

// The job-file words of an enum, without "unspecified"; and the word of one value ("" if
// unspecified).
std::vector<std::string> EnumWords(const google::protobuf::EnumDescriptor& type);
std::string EnumWord(const google::protobuf::EnumValueDescriptor& value);

}  // namespace espalier::config
