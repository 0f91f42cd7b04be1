// The parts that job files of several kinds of data have. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/init/draft.h"

namespace espalier::cli::init {

// `problem` may be one of a job that reads the data; options of this command take the place of the
// fields that it names.
absl::Status Unusable(const std::string& problem);
// Of data that are not read before a job begins.
absl::Status TooLarge();

// The first lines: what the file is for, and how it is used.
std::string Heading(const Source& source, const std::string& what);

// A name as a value in YAML: as it is, unless it would be read as something else.
std::string YamlName(const std::string& name);
// At most `most` of the names, printable, for a comment or a sentence.
std::string Names(const std::vector<std::string>& names, size_t most = 6);
// "1 example", "1,797 examples".
std::string Counted(int64_t count, const std::string& thing, const std::string& things = "");

// A method that trains: its section, by its name. `density`: of the sparse ones. `fits`: names that
// may be wished for; the first is the default. Errors: USAGE.
struct MethodChoice {
  std::string name;
  std::string section;  // lines of YAML, without a line end at the end
};
absl::StatusOr<MethodChoice> ChooseMethod(const std::string& wished, double density,
                                          const std::vector<std::string>& fits);

// `partition` of data that all workers have, with what else it may be. `classes`: there are some.
std::string PartitionSection(int shards, bool classes = true);

// Names of the classes, or from 0 to which number they go.
std::string ClassesOf(const v1::DatasetInfo& info);
// Examples that are trained on when a fifth is held out where there are none for testing.
int64_t TrainingExamples(const v1::DatasetInfo& info);

// How long networks of layers train.
struct Schedule {
  int64_t rounds = 0;
  int64_t batch_size = 0;
  int64_t local_epochs = 0;  // 0: local_steps
  int64_t local_steps = 0;
};
// `train`: examples for training. `work`: floating-point operations for one example. A job takes at
// most about `kMostWork` of them.
inline constexpr double kMostWork = 2.5e11;
Schedule ScheduleFor(int64_t train, double work, int shards);
// `training` and `federation`.
std::string TrainingSections(const Schedule& schedule, int64_t train, int shards,
                             double learning_rate);

// The job file of a network on examples, and what of the draft follows from it. `data`: its
// section, without the partition. The other sections: without a line end at the end.
struct Classifier {
  std::string heading;
  std::string network;
  double work = 0;  // as of ScheduleFor()
  std::string data;
  MethodChoice method;
  int64_t evaluate_every = 1;
  bool has_classes = true;
};
void Compose(const Source& source, const Wishes& wishes, const Classifier& parts, Draft& draft);

// `normalization` of each `what` ("feature", "channel") of which there are `count`; "" for more
// than a job may have.
std::string NormalizationLine(int64_t count, std::string_view what);

// `test_fraction`, with its reason, where there are no test examples; else "".
std::string HoldOutLine(const v1::DatasetInfo& info, double share);
// `evaluation` after every `every` rounds.
std::string EvaluationSection(int64_t every);

// A step that mixes a sorted file, and a sentence about it, when `look` says that its end is not
// like the rest.
void TellIfSorted(const Source& source, const Look& look, Draft& draft);

}  // namespace espalier::cli::init
