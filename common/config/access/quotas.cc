#include "common/config/access/quotas.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>
#include <vector>

#include "common/base/names.h"
#include "common/base/status.h"
#include "common/config/access/access_file.h"
#include "common/config/text.h"
#include "fmt/format.h"

namespace espalier::config {
namespace {

constexpr std::string_view kUnlimited = "unlimited";

struct Field {
  const char* name;
  std::optional<int64_t> Quota::*value;
  bool is_size;
};
constexpr Field kFields[] = {{"jobs", &Quota::jobs, false},
                             {"running_tasks", &Quota::running_tasks, false},
                             {"checkpoint_bytes", &Quota::checkpoint_bytes, true}};

std::vector<std::string> FieldNames() {
  std::vector<std::string> names;
  for (const Field& field : kFields) names.emplace_back(field.name);
  return names;
}

// What a number of this unit is multiplied by; 0 for what is no unit.
int64_t FactorOf(std::string_view unit) {
  constexpr std::pair<std::string_view, int64_t> kUnits[] = {{"", 1},
                                                             {"B", 1},
                                                             {"KB", 1000},
                                                             {"MB", 1'000'000},
                                                             {"GB", 1'000'000'000},
                                                             {"TB", 1'000'000'000'000},
                                                             {"KiB", int64_t{1} << 10},
                                                             {"MiB", int64_t{1} << 20},
                                                             {"GiB", int64_t{1} << 30},
                                                             {"TiB", int64_t{1} << 40}};
  const auto* found = std::ranges::find(kUnits, unit, &std::pair<std::string_view, int64_t>::first);
  return found == std::end(kUnits) ? 0 : found->second;
}

// "20", and of sizes "20GB" or "20 GB"; nothing for what is none, or too large.
std::optional<int64_t> ParseLimit(std::string_view text, bool is_size) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0) return std::nullopt;
  std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  if (unit.starts_with(' ')) unit.remove_prefix(1);
  const int64_t factor = is_size || unit.empty() ? FactorOf(unit) : 0;
  if (factor == 0 || number > std::numeric_limits<int64_t>::max() / factor) return std::nullopt;
  return number * factor;
}

class Reader {
 public:
  explicit Reader(std::vector<Violation>& violations) : violations_(violations) {}

  Quotas Read(const YamlNode& root) {
    Quotas quotas;
    const YamlNode* users = nullptr;
    for (const YamlEntry& entry : root.entries) {
      if (entry.name == "default") {
        ReadQuota(entry.value, "default", quotas.everyone);
      } else if (entry.name == "users") {
        users = &entry.value;
      } else {
        FailUnknown(entry, "", {"default", "users"});
      }
    }
    if (users != nullptr) ReadUsers(*users, quotas);
    return quotas;
  }

 private:
  void Fail(const YamlNode& node, std::string path, const std::string& why) {
    violations_.push_back({std::move(path), fmt::format("line {}: {}", node.line, why)});
  }
  void FailUnknown(const YamlEntry& entry, const std::string& parent,
                   const std::vector<std::string>& known) {
    Fail(entry.value, parent + Shortened(entry.name), UnknownName("field", entry.name, known));
  }

  void ReadUsers(const YamlNode& node, Quotas& quotas) {
    if (node.kind != YamlNode::Kind::kMap) {
      return Fail(node, "users", "expected a map from names of users to their quotas");
    }
    if (node.entries.size() > kMaxQuotaUsers) {
      return Fail(node, "users",
                  fmt::format("expected at most {} users, found {}; leave those out for whom the "
                              "default does",
                              kMaxQuotaUsers, node.entries.size()));
    }
    for (const YamlEntry& entry : node.entries) {
      const std::string path = "users." + Shortened(entry.name);
      if (!base::IsValidId(entry.name)) {
        Fail(entry.value, path,
             "expected the name of a user: 1 to 63 lower-case letters, digits and '-', beginning "
             "with a letter");
        continue;
      }
      Quota quota = quotas.everyone;
      ReadQuota(entry.value, path, quota);
      quotas.users[entry.name] = quota;
    }
  }

  void ReadQuota(const YamlNode& node, const std::string& path, Quota& quota) {
    if (node.kind != YamlNode::Kind::kMap) {
      return Fail(node, path, "expected a map with fields of " + Joined(FieldNames(), ", "));
    }
    for (const YamlEntry& entry : node.entries) {
      const auto* field = std::ranges::find_if(
          kFields, [&entry](const Field& known) { return entry.name == known.name; });
      if (field == std::end(kFields)) {
        FailUnknown(entry, path + ".", FieldNames());
        continue;
      }
      const bool is_word = entry.value.kind == YamlNode::Kind::kScalar && !entry.value.quoted;
      const std::string& word = entry.value.scalar;
      const std::optional<int64_t> limit =
          is_word ? ParseLimit(word, field->is_size) : std::nullopt;
      quota.*field->value = limit;
      if (limit.has_value() || (is_word && word == kUnlimited)) continue;
      Fail(entry.value, path + "." + entry.name,
           fmt::format("expected {}, 0 or more, or the word {}, found {}",
                       field->is_size ? "a size such as 500MB or 20GiB" : "a whole number",
                       kUnlimited, is_word ? Quoted(word) : "something else"));
    }
  }

  std::vector<Violation>& violations_;
};

}  // namespace

const Quota& Quotas::Of(const std::string& owner) const {
  static const Quota kNone;
  if (owner.empty()) return kNone;
  const auto user = users.find(owner);
  return user == users.end() ? everyone : user->second;
}

absl::StatusOr<Quotas> ParseQuotas(std::string_view text, const std::string& file) {
  std::vector<Violation> violations;
  const YamlNode root = ParseAccessFile(text, "a map with default and users", violations);
  Quotas quotas;
  if (violations.empty()) quotas = Reader(violations).Read(root);
  ESPALIER_RETURN_IF_ERROR(AccessFileStatus(file, "INVALID_QUOTAS", violations));
  return quotas;
}

}  // namespace espalier::config
