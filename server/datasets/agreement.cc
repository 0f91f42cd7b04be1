#include "server/datasets/agreement.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "common/base/printable.h"
#include "server/datasets/kinds/data_kind.h"

namespace espalier::server::datasets {
namespace {

// Names of so many columns travel with each task at most.
constexpr int kMaxNamedColumns = 10'000;
constexpr size_t kShownWorkers = 5;
constexpr size_t kShownNames = 10;

bool IsLocal(const v1::DataSpec& data) {
  return data.partition().kind() == v1::Partition::KIND_LOCAL;
}

bool OneHot(const v1::DataSpec& data) { return data.words() == v1::DataSpec::WORDS_ONE_HOT; }

// Whether columns are more than their names: what stands for words and gaps.
bool TellsMore(const v1::DataSpec& data) {
  return OneHot(data) || data.missing() == v1::DataSpec::MISSING_MEAN;
}

template <typename Words>
std::string Some(const Words& words, size_t most) {
  std::vector<std::string> shown;
  for (const auto& word : words) {
    if (shown.size() == most) break;
    shown.push_back(base::Printable(word));
  }
  std::string text = fmt::format("{}", fmt::join(shown, ", "));
  const auto all = static_cast<size_t>(words.size());
  if (all > shown.size()) text += fmt::format(" and {} more", all - shown.size());
  return text;
}

std::vector<std::string> ColumnNames(const v1::DatasetInfo& info) {
  std::vector<std::string> names;
  for (const auto& column : info.columns()) names.push_back(column.name());
  return names;
}

// What must be equal at all sites that train one model together.
std::string KeyOf(const v1::DataSpec& data, const v1::DatasetInfo& info) {
  if (!IsLocal(data)) {
    // Sizes as well: a worker that only copied the digest has its own.
    return fmt::format("{} {} {} {} {} {}", info.digest(), info.train_examples(),
                       info.test_examples(), info.features(), info.users(), info.interactions());
  }
  std::vector<std::string> names = ColumnNames(info);
  // Columns beyond the bound cannot be put in order by name, so their order must be the same.
  if (info.columns_size() <= kMaxNamedColumns) std::sort(names.begin(), names.end());
  const bool words = info.class_names_size() > 0;
  const bool interactions = data.has_interactions();
  std::vector<std::string> targets(info.target_columns().begin(), info.target_columns().end());
  std::sort(targets.begin(), targets.end());
  return fmt::format("{}\n{}\n{}\n{}\n{}\n{} {}", info.format(), interactions ? 0 : names.size(),
                     fmt::join(names, "\n"), info.header() ? info.label_column() : "",
                     words ? "words" : "numbers", info.targets(), fmt::join(targets, "\n"));
}

std::string Describe(const v1::DataSpec& data, const v1::DatasetInfo& info) {
  if (!IsLocal(data)) {
    return fmt::format("{} + {} examples, digest {}",
                       info.interactions() > 0 ? info.interactions() : info.train_examples(),
                       info.test_examples(), info.digest().substr(0, 12));
  }
  const std::vector<std::string> names = ColumnNames(info);
  return fmt::format("format {}, {} columns of features ({}), labels in {} that are {}",
                     base::Printable(info.format()), names.size(), Some(names, kShownNames),
                     base::Printable(info.label_column()),
                     info.class_names_size() > 0 ? "words" : "whole numbers");
}

// The names that only one of the two has.
std::string Difference(const v1::DatasetInfo& expected, const v1::DatasetInfo& found) {
  const std::vector<std::string> a = ColumnNames(expected);
  const std::vector<std::string> b = ColumnNames(found);
  const std::set<std::string> left(a.begin(), a.end());
  const std::set<std::string> right(b.begin(), b.end());
  std::vector<std::string> missing;
  std::vector<std::string> extra;
  std::set_difference(left.begin(), left.end(), right.begin(), right.end(),
                      std::back_inserter(missing));
  std::set_difference(right.begin(), right.end(), left.begin(), left.end(),
                      std::back_inserter(extra));
  std::string text;
  if (!missing.empty()) text += "; it lacks the columns " + Some(missing, kShownNames);
  if (!extra.empty()) text += "; it has also the columns " + Some(extra, kShownNames);
  return text;
}

std::string Remedy(const v1::DataSpec& data) {
  return IsLocal(data) ? "give the columns of all sites the same names and the labels the same form"
                       : "give every worker the same files, or set data.partition.kind to local if "
                         "each worker has data of its own";
}

std::string Differs(const v1::DataSpec& data, const v1::DatasetInfo& expected,
                    const v1::DatasetInfo& found) {
  return fmt::format("expected {}, found {}{}; {}", Describe(data, expected), Describe(data, found),
                     IsLocal(data) ? Difference(expected, found) : "", Remedy(data));
}

using Groups = std::map<std::string, std::vector<std::string>>;  // workers by key

config::Violation Disagreement(const v1::DataSpec& data, const Descriptions& all,
                               const Groups& groups) {
  std::string found;
  for (const auto& [key, workers] : groups) {
    found += fmt::format("{}on {}: {}", found.empty() ? "" : "; ", Some(workers, kShownWorkers),
                         Describe(data, all.at(workers.front())));
    if (found.size() > 2000) break;
  }
  const bool local = IsLocal(data);
  return {"data.dataset",
          fmt::format("expected {} on all workers, since {}, found {}; {}",
                      local ? "the same columns and kind of labels" : "the same content",
                      local ? "they train one model" : "the data set is divided between them",
                      found, Remedy(data))};
}

// Union in the order of bytes.
template <typename Get>
std::vector<std::string> Union(const Descriptions& all, const std::vector<std::string>& workers,
                               const Get& get) {
  std::set<std::string> names;
  for (const std::string& worker : workers) {
    const auto& of = get(all.at(worker));
    names.insert(of.begin(), of.end());
  }
  return {names.begin(), names.end()};
}

const v1::DatasetInfo::Column* FindColumn(const v1::DatasetInfo& info, int place,
                                          const std::string& name) {
  if (name.empty() || info.columns(place).name() == name) return &info.columns(place);
  for (const auto& column : info.columns()) {
    if (column.name() == name) return &column;
  }
  return nullptr;
}

// The columns by the first worker's order, with words and means over all workers.
void AgreeOnColumns(const v1::DataSpec& data, const Descriptions& all,
                    const std::vector<std::string>& workers, v1::Agreement& agreement) {
  const v1::DatasetInfo& first = all.at(workers.front());
  for (int i = 0; i < first.columns_size(); ++i) {
    v1::Agreement::Column& agreed = *agreement.add_columns();
    agreed.set_name(first.columns(i).name());
    double sum = 0;
    int64_t values = 0;
    std::set<std::string> words;
    for (const std::string& worker : workers) {
      const auto* column = FindColumn(all.at(worker), i, agreed.name());
      sum += column->sum();
      values += column->values();
      words.insert(column->words().begin(), column->words().end());
    }
    if (OneHot(data)) agreed.mutable_words()->Assign(words.begin(), words.end());
    if (data.missing() == v1::DataSpec::MISSING_MEAN && values > 0) {
      agreed.set_mean(sum / static_cast<double>(values));
    }
  }
}

// The name, or place, of a column of numbers that no worker has a value of; "" if there is none.
std::string ColumnWithoutValue(const v1::DataSpec& data, const Descriptions& all,
                               const std::vector<std::string>& workers) {
  if (data.missing() != v1::DataSpec::MISSING_MEAN) return "";
  const v1::DatasetInfo& first = all.at(workers.front());
  for (int i = 0; i < first.columns_size(); ++i) {
    const std::string& name = first.columns(i).name();
    const bool found = std::any_of(workers.begin(), workers.end(), [&](const std::string& worker) {
      const auto* column = FindColumn(all.at(worker), i, name);
      return column->values() > 0 || column->words_size() > 0;
    });
    if (!found) return name.empty() ? std::to_string(i) : name;
  }
  return "";
}

int64_t FeaturesOf(const v1::DataSpec& data, const v1::Agreement& agreement,
                   const v1::DatasetInfo& info) {
  if (agreement.columns().empty() || !OneHot(data)) return info.features();
  int64_t features = 0;
  for (const auto& column : agreement.columns()) features += std::max(1, column.words_size());
  return features;
}

void Merge(const v1::DataSpec& data, const Descriptions& all,
           const std::vector<std::string>& workers, Agreed& agreed) {
  const v1::DatasetInfo& first = all.at(workers.front());
  agreed.info = first;
  agreed.info.clear_columns();
  v1::Agreement& agreement = agreed.agreement;
  if (first.header()) agreement.set_label_column(first.label_column());
  *agreement.mutable_target_columns() = first.target_columns();
  const auto classes = Union(all, workers, [](const auto& info) { return info.class_names(); });
  agreement.mutable_classes()->Assign(classes.begin(), classes.end());
  const bool needed = IsLocal(data) || TellsMore(data);
  if ((needed || first.header()) && first.columns_size() <= kMaxNamedColumns) {
    AgreeOnColumns(data, all, workers, agreement);
  }
  if (!IsLocal(data)) {
    agreement.set_digest(first.digest());
    return;
  }
  agreed.info.set_features(FeaturesOf(data, agreement, first));
  agreed.info.mutable_class_names()->Assign(classes.begin(), classes.end());
  agreed.info.clear_users();
  agreed.info.clear_items();
  agreed.info.clear_digest();
  int64_t most_classes = static_cast<int64_t>(classes.size());
  int64_t train = 0;
  int64_t test = 0;
  int64_t interactions = 0;
  for (const std::string& worker : workers) {
    most_classes = std::max(most_classes, all.at(worker).classes());
    train += all.at(worker).train_examples();
    test += all.at(worker).test_examples();
    interactions += all.at(worker).interactions();
  }
  agreed.info.set_classes(most_classes);
  agreed.info.set_train_examples(train);
  agreed.info.set_test_examples(test);
  agreed.info.set_interactions(interactions);
}

// The first name that is not among those agreed on; "" if all are.
template <typename Names, typename Known>
std::string Unknown(const Names& names, const Known& known) {
  const std::set<std::string> agreed(known.begin(), known.end());
  for (const auto& name : names) {
    if (!agreed.contains(name)) return name;
  }
  return "";
}

}  // namespace

std::optional<Agreed> Agree(const v1::DataSpec& data, const Descriptions& all,
                            std::vector<config::Violation>& violations) {
  Agreed agreed;
  Groups groups;
  size_t usable = 0;
  std::vector<std::string> problems;
  for (const auto& [worker, info] : all) {
    if (!info.problem().empty()) {
      agreed.left_out[worker] = info.problem();
      problems.push_back(worker + ": " + info.problem());
      continue;
    }
    groups[KeyOf(data, info)].push_back(worker);
    ++usable;
  }
  if (usable == 0) {
    violations.push_back(
        {"data.dataset", fmt::format("expected a worker that can use data set '{}', found {}",
                                     data.dataset(), Some(problems, kShownWorkers))});
    return std::nullopt;
  }
  const auto largest = std::max_element(
      groups.begin(), groups.end(),
      [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  if (2 * largest->second.size() <= usable) {
    violations.push_back(Disagreement(data, all, groups));
    return std::nullopt;
  }
  Merge(data, all, largest->second, agreed);
  if (const std::string column = ColumnWithoutValue(data, all, largest->second); !column.empty()) {
    violations.push_back(
        {"data.missing", "mean needs a value of every column somewhere, found none of column '" +
                             base::Printable(column) + "'; remove the column"});
    return std::nullopt;
  }
  for (const auto& [key, workers] : groups) {
    if (key == largest->first) continue;
    for (const std::string& worker : workers) {
      agreed.left_out[worker] = Differs(data, all.at(largest->second.front()), all.at(worker));
    }
  }
  return agreed;
}

std::string Deviation(const v1::DataSpec& data, const Agreed& agreed, const v1::DatasetInfo& info) {
  if (!info.problem().empty()) return info.problem();
  const v1::Agreement& agreement = agreed.agreement;
  if (!IsLocal(data)) {
    return KeyOf(data, info) == KeyOf(data, agreed.info) ? "" : Differs(data, agreed.info, info);
  }
  v1::DatasetInfo expected = agreed.info;
  for (const auto& column : agreement.columns()) {
    expected.add_columns()->set_name(column.name());
  }
  const bool named = !agreement.columns().empty();
  if (named ? KeyOf(data, info) != KeyOf(data, expected) : info.features() != expected.features()) {
    return Differs(data, expected, info);
  }
  const auto complain = [](const std::string& what, const std::string& name, const auto& known) {
    return fmt::format(
        "{} '{}' is not among those that the sites agreed on when the job began "
        "({}); submit the job again while this worker is connected",
        what, base::Printable(name), Some(known, kShownNames));
  };
  if (const std::string name = Unknown(info.class_names(), agreement.classes()); !name.empty()) {
    return complain("the class", name, agreement.classes());
  }
  if (!OneHot(data)) return "";
  for (int i = 0; i < agreement.columns_size(); ++i) {
    const auto* column = FindColumn(info, i, agreement.columns(i).name());
    const std::string word = Unknown(column->words(), agreement.columns(i).words());
    if (!word.empty()) return complain("the word", word, agreement.columns(i).words());
  }
  return "";
}

v1::DataSpec ForTasks(const v1::DataSpec& data) {
  v1::DataSpec of_tasks = data;
  if (!IsLocal(data) && !TellsMore(data)) of_tasks.mutable_agreement()->clear_columns();
  return of_tasks;
}

void FillIn(const v1::DatasetInfo& info, v1::JobSpec& spec,
            std::vector<config::Violation>& violations) {
  DataKindOf(spec).FillIn(info, spec, violations);
}

void TellLeftOut(const std::map<std::string, std::string>& left_out, v1::Job& job) {
  job.clear_left_out_workers();
  for (const auto& [worker, reason] : left_out) {
    v1::LeftOutWorker& out = *job.add_left_out_workers();
    out.set_worker("workers/" + worker);
    out.set_reason(reason);
  }
}

}  // namespace espalier::server::datasets
