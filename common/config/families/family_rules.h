// FamilyRules: what a job file may say where that depends on the family of its model, and what is
// filled in. The general rules call these and never ask for the family themselves.
//
// Ownership:   rules are constants of the program; references to them stay valid.
// Threading:   immutable; pure functions of their arguments.
// Errors:      appended as violations to the checkers.
#pragma once

#include "common/config/checker.h"
#include "common/config/metrics.h"
#include "espalier/v1/job.pb.h"

namespace espalier::config {

inline constexpr int64_t kMaxContext = 65'536;  // tokens of an example

class FamilyRules {
 public:
  FamilyRules() = default;
  FamilyRules(const FamilyRules&) = delete;
  FamilyRules& operator=(const FamilyRules&) = delete;
  virtual ~FamilyRules() = default;

  // `at`: the checker of the model's path. `method` tells how many weights will be stored at least.
  virtual void ValidateModel(const v1::ModelSpec& given, const v1::MethodSpec& method,
                             const Checker& at) const = 0;
  // Whether the model goes with a text, or without one. `model` is explicit; `at`: the data's path.
  virtual void ValidateText(const v1::DataSpec& data, const v1::ModelSpec& model,
                            const Checker& at) const;
  // How inputs are scaled and changed. `model` is explicit, and valid where `has_shapes`; `at`: the
  // data's path.
  virtual void ValidateInputs(const v1::DataSpec& data, const v1::ModelSpec& model, bool has_shapes,
                              const Checker& at) const;
  // What only jobs on interactions of users with items have. `root`: the checker of the whole job.
  virtual void ValidateInteractions(const v1::JobSpec& spec, const Checker& root) const;
  // What an example of the job has to be told.
  virtual TargetKind TargetOf(const v1::DataSpec& data) const;

  virtual void ApplyModelDefaults(v1::ModelSpec& model) const = 0;
  // What the family needs of the rest of the job.
  virtual void ApplyJobDefaults(v1::JobSpec& spec) const;
  // Any sizes in place of those that only a data set can tell.
  virtual void AssumeSizes(v1::ModelSpec& model) const;

 private:
  // Whether examples have channels or columns that are measured and scaled.
  virtual bool has_channels() const { return false; }
};

const FamilyRules& RulesOf(const v1::ModelSpec& model);

}  // namespace espalier::config
