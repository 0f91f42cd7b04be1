#include "client/cli/commands/cert/register.h"

#include <algorithm>

#include "absl/strings/str_split.h"
#include "client/json/json.h"
#include "common/base/names.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli::cert {
namespace {

std::string_view WordOf(Signer signer) { return signer == Signer::kRoot ? "root" : "workers"; }

std::string TimeText(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
}

std::string TextAt(const client::Json& line, const char* key) {
  const auto value = line.find(key);
  return value != line.end() && value->is_string() ? value->get<std::string>() : "";
}

absl::Status Damaged(int number) {
  return base::FailedPrecondition(
      "CERT_REGISTER_DAMAGED",
      fmt::format("expected a JSON object about a certificate in line {} of issued.jsonl, found "
                  "something else; put a copy of the file in its place, since without it nobody "
                  "knows what was revoked",
                  number));
}

bool IsSerial(const std::string& serial) {
  return !serial.empty() && serial.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// What a line about a new certificate says; false where it lacks something.
bool ReadIssued(const client::Json& line, Issued& issued) {
  const std::optional<pki::Role> role = pki::RoleNamed(TextAt(line, "role"));
  const auto hosts = line.find("hosts");
  const auto days = line.find("days");
  const bool whole = role && hosts != line.end() && hosts->is_array() && days != line.end() &&
                     days->is_number_integer();
  if (!whole) return false;
  issued.identity = {*role, TextAt(line, "name")};
  for (const client::Json& host : *hosts) {
    if (!host.is_string()) return false;
    issued.hosts.push_back(host.get<std::string>());
  }
  issued.days = days->get<int>();
  return base::IsValidId(issued.identity.name) &&
         absl::ParseTime(absl::RFC3339_full, TextAt(line, "not_after"), &issued.not_after, nullptr);
}

}  // namespace

absl::Status Register::ParseLine(std::string_view text, int number) {
  const auto line = client::Json::parse(text, nullptr, false);
  if (!line.is_object()) return Damaged(number);
  const std::string signer = TextAt(line, "authority");
  const std::string serial = TextAt(line, "serial");
  if ((signer != "root" && signer != "workers") || !IsSerial(serial)) return Damaged(number);
  const Signer by = signer == "root" ? Signer::kRoot : Signer::kWorkers;
  const std::string event = TextAt(line, "event");
  if (event == "revoked") {
    revoked_.insert({by, serial});
    return absl::OkStatus();
  }
  Issued issued;
  issued.serial = serial;
  issued.signer = by;
  if (event != "issued" || !ReadIssued(line, issued)) return Damaged(number);
  issued_.push_back(std::move(issued));
  return absl::OkStatus();
}

absl::StatusOr<Register> Register::Parse(std::string_view text) {
  Register record;
  record.text_ = text;
  int number = 0;
  for (const absl::string_view line :
       absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    ++number;
    if (line.empty()) continue;
    ESPALIER_RETURN_IF_ERROR(record.ParseLine({line.data(), line.size()}, number));
  }
  if (!record.text_.empty() && !record.text_.ends_with('\n')) record.text_ += '\n';
  return record;
}

void Register::AddIssued(const Issued& issued, absl::Time now) {
  client::Json line;
  line["event"] = "issued";
  line["time"] = TimeText(now);
  line["name"] = issued.identity.name;
  line["role"] = pki::NameOf(issued.identity.role);
  line["hosts"] = issued.hosts;
  line["authority"] = WordOf(issued.signer);
  line["serial"] = issued.serial;
  line["days"] = issued.days;
  line["not_after"] = TimeText(issued.not_after);
  text_ += client::ToJson(line, client::Layout::kLine);
  issued_.push_back(issued);
}

void Register::AddRevoked(Signer signer, const std::string& serial, absl::Time now) {
  if (!revoked_.insert({signer, serial}).second) return;
  client::Json line;
  line["event"] = "revoked";
  line["time"] = TimeText(now);
  line["authority"] = WordOf(signer);
  line["serial"] = serial;
  text_ += client::ToJson(line, client::Layout::kLine);
}

const Issued* Register::Newest(std::string_view name) const {
  const auto newest = std::find_if(issued_.rbegin(), issued_.rend(), [name](const Issued& issued) {
    return issued.identity.name == name;
  });
  return newest == issued_.rend() ? nullptr : &*newest;
}

std::vector<std::string> Register::Revoked(Signer signer) const {
  std::vector<std::string> serials;
  for (const auto& [by, serial] : revoked_) {
    if (by == signer) serials.push_back(serial);
  }
  return serials;
}

}  // namespace espalier::cli::cert
