// From a job file's text to a JobSpec, with errors that name file and line.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config/yaml_tree.h"
#include "espalier/v1/job.pb.h"

namespace espalier::client {

// A job file as far as it was understood, and what is wrong with it (fields with their lines).
struct JobText {
  v1::JobSpec spec;
  std::vector<config::Violation> violations;
  // False when it is no YAML, or no map: nothing else can be said of it then.
  bool readable = false;
};
JobText ParseJob(const std::string& text, const std::vector<std::string>& overrides);

// `mistakes` of a file and those of `answer`, the server's about what was understood of it, without
// those that follow from a mistake of the file: what the server says of a field that was not
// understood, or misses where an unknown name stands.
std::vector<config::Violation> WithServerMistakes(std::vector<config::Violation> mistakes,
                                                  const absl::Status& answer,
                                                  const std::string& text,
                                                  const std::vector<std::string>& overrides);
// `left_out`: how many more there are.
absl::Status JobFileError(const std::string& file, const std::vector<config::Violation>& violations,
                          int left_out = 0);

// Parses, applies `overrides`, and checks what can be checked without a server. `file` is for
// messages. Errors: InvalidArgument JOB_FILE_INVALID with every violation.
absl::StatusOr<v1::JobSpec> ReadJob(const std::string& text, const std::string& file,
                                    const std::vector<std::string>& overrides);

// An error of the server about this job, its violations with the file's lines.
absl::Status WithLines(const absl::Status& status, const std::string& text, const std::string& file,
                       const std::vector<std::string>& overrides);

}  // namespace espalier::client
