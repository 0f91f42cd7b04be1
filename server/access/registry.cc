#include "server/access/registry.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/base/names.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/io/sha256.h"
#include "common/wire/proto_time.h"

namespace espalier::server::access {
namespace {

constexpr std::string_view kTokens = "tokens/";
constexpr std::string_view kWorkers = "workers/";
constexpr size_t kSecretBytes = 32;
constexpr size_t kIdLetters = 10;

std::string_view PrefixOf(v1::Token::Kind kind) {
  return kind == v1::Token::KIND_JOIN ? "espalier-join-" : "espalier-user-";
}

absl::Time TimeOf(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

absl::Status Unauthenticated(std::string_view reason, const std::string& message) {
  return base::MakeError(absl::StatusCode::kUnauthenticated, reason, message);
}

absl::Status UnknownToken() {
  return Unauthenticated("TOKEN_UNKNOWN",
                         "expected the text of a token that this cluster gave out and has not "
                         "revoked, found another; ask whoever runs the cluster for one");
}

absl::Status InvalidToken(const std::string& message) {
  return base::InvalidArgument("INVALID_TOKEN", message);
}

absl::Status CheckWanted(const v1::Token& wanted, absl::Duration lifetime) {
  if (lifetime < absl::Seconds(1) || lifetime > Registry::kLongestLife) {
    return InvalidToken("expected a lifetime of one second to 366 days, found " +
                        absl::FormatDuration(lifetime));
  }
  if (wanted.kind() == v1::Token::KIND_USER) {
    if (!base::IsValidId(wanted.user())) {
      return InvalidToken("expected a user's name of lower-case letters, digits and '-', found '" +
                          base::Printable(wanted.user()) + "'");
    }
    if (wanted.role() == v1::ACCESS_ROLE_ADMIN || wanted.role() == v1::ACCESS_ROLE_SUBMITTER ||
        wanted.role() == v1::ACCESS_ROLE_VIEWER) {
      return absl::OkStatus();
    }
    return InvalidToken("expected the role admin, submitter or viewer for a user's token, found " +
                        v1::AccessRole_Name(wanted.role()) +
                        "; workers join with a token of the kind JOIN");
  }
  if (wanted.kind() != v1::Token::KIND_JOIN) {
    return InvalidToken("expected a token of the kind JOIN or USER, found neither");
  }
  constexpr int kMostUses = 100'000;
  if (wanted.uses_left() < 1 || wanted.uses_left() > kMostUses) {
    return InvalidToken("expected 1 to 100,000 uses, found " + std::to_string(wanted.uses_left()));
  }
  if (wanted.worker_id().empty() ? wanted.any_suffix() : base::IsValidId(wanted.worker_id())) {
    return absl::OkStatus();
  }
  return InvalidToken(
      "expected a worker's id, or the beginning of several, of lower-case letters, digits and '-', "
      "found '" +
      base::Printable(wanted.worker_id()) + "'");
}

pki::Role RoleOf(v1::AccessRole role) {
  if (role == v1::ACCESS_ROLE_ADMIN) return pki::Role::kAdmin;
  return role == v1::ACCESS_ROLE_SUBMITTER ? pki::Role::kSubmitter : pki::Role::kViewer;
}

std::string WorkerName(const std::string& id) { return std::string(kWorkers) + id; }

}  // namespace

absl::Status Registry::Restore(const std::map<std::string, std::string>& records) {
  const base::MutexLock lock(mutex_);
  for (const auto& [name, record] : records) {
    const bool read = name.starts_with(kTokens)    ? tokens_[name].ParseFromString(record)
                      : name.starts_with(kWorkers) ? workers_[name].ParseFromString(record)
                                                   : true;
    if (!read) {
      return base::MakeError(absl::StatusCode::kDataLoss, "STORE_CORRUPT",
                             "expected a record of access under the name '" +
                                 base::Printable(name) + "', found bytes that are none");
    }
  }
  for (const auto& [name, worker] : workers_) {
    for (const auto& certificate : worker.certificates()) {
      if (certificate.revoked()) revoked_.insert(certificate.serial());
    }
  }
  return absl::OkStatus();
}

std::string Registry::RandomWord(size_t letters) const {
  constexpr std::string_view kLetters = "abcdefghijkmnpqrstuvwxyz23456789";
  static_assert(kLetters.size() == 32);
  std::string word = entropy_.Bytes(letters);
  for (char& letter : word) letter = kLetters[static_cast<unsigned char>(letter) % 32];
  // Ids begin with a letter.
  if (word[0] >= '0' && word[0] <= '9') word[0] = static_cast<char>('a' + (word[0] - '0'));
  return word;
}

absl::StatusOr<Registry::NewToken> Registry::CreateToken(const v1::Token& wanted,
                                                         absl::Duration lifetime,
                                                         const std::string& creator) {
  ESPALIER_RETURN_IF_ERROR(CheckWanted(wanted, lifetime));
  ForgetEnded();
  {
    const base::MutexLock lock(mutex_);
    if (tokens_.size() >= kMaxTokens) {
      return base::MakeError(absl::StatusCode::kResourceExhausted, "TOO_MANY_TOKENS",
                             "expected room for one of 10,000 tokens, found none; revoke some");
    }
  }
  NewToken made;
  const std::string id = RandomWord(kIdLetters);
  v1::Token& token = made.token;
  token.set_name(std::string(kTokens) + id);
  token.set_kind(wanted.kind());
  if (wanted.kind() == v1::Token::KIND_USER) {
    token.set_user(wanted.user());
    token.set_role(wanted.role());
  } else {
    token.set_worker_id(wanted.worker_id());
    token.set_any_suffix(wanted.any_suffix());
    token.set_uses_left(wanted.uses_left());
  }
  wire::SetTimestamp(clock_.Wall(), token.mutable_create_time());
  wire::SetTimestamp(clock_.Wall() + lifetime, token.mutable_expire_time());
  token.set_creator(creator);
  made.secret = std::string(PrefixOf(wanted.kind())) + id + "-" +
                absl::BytesToHexString(entropy_.Bytes(kSecretBytes));
  store::TokenRecord record;
  *record.mutable_token() = token;
  record.set_sha256(io::Sha256Hex(made.secret));
  Put(token.name(), std::move(record));
  return made;
}

std::vector<v1::Token> Registry::Tokens() const {
  const base::MutexLock lock(mutex_);
  std::vector<v1::Token> tokens;
  for (const auto& [name, record] : tokens_) {
    if (CheckDate(record.token()).ok()) tokens.push_back(record.token());
  }
  return tokens;
}

absl::Status Registry::RevokeToken(const std::string& name) {
  {
    const base::MutexLock lock(mutex_);
    if (tokens_.erase(name) == 0) {
      return base::NotFound("TOKEN_NOT_FOUND",
                            "expected the name of a token, such as tokens/abcdefghij, found '" +
                                base::Printable(name) + "', which is none; see the list of them");
    }
  }
  Changed(name);
  return absl::OkStatus();
}

absl::Status Registry::CheckDate(const v1::Token& token) const {
  if (clock_.Wall() < TimeOf(token.expire_time())) return absl::OkStatus();
  return Unauthenticated("TOKEN_EXPIRED",
                         "expected a token that is good now, found that it ended on " +
                             absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", TimeOf(token.expire_time()),
                                              absl::UTCTimeZone()) +
                             "; ask whoever runs the cluster for another one");
}

absl::StatusOr<store::TokenRecord> Registry::Find(std::string_view text,
                                                  v1::Token::Kind kind) const {
  const std::string_view prefix = PrefixOf(kind);
  if (!text.starts_with(prefix)) {
    const bool other = text.starts_with(
        PrefixOf(kind == v1::Token::KIND_JOIN ? v1::Token::KIND_USER : v1::Token::KIND_JOIN));
    if (!other) return UnknownToken();
    return Unauthenticated(
        "TOKEN_UNKNOWN", kind == v1::Token::KIND_JOIN
                             ? "expected a join token, found a user's token; workers join with one "
                               "of `espalier worker token create`"
                             : "expected a user's token, found a join token, which is for new "
                               "workers; make one with `espalier user token create`");
  }
  const std::string id(text.substr(prefix.size(), kIdLetters));
  const std::string digest = io::Sha256Hex(text);
  const base::MutexLock lock(mutex_);
  const auto at = tokens_.find(std::string(kTokens) + id);
  if (at == tokens_.end() || at->second.token().kind() != kind ||
      at->second.sha256().size() != digest.size() ||
      CRYPTO_memcmp(at->second.sha256().data(), digest.data(), digest.size()) != 0) {
    return UnknownToken();
  }
  ESPALIER_RETURN_IF_ERROR(CheckDate(at->second.token()));
  return at->second;
}

absl::StatusOr<Caller> Registry::FindUser(std::string_view text) const {
  ESPALIER_ASSIGN_OR_RETURN(const store::TokenRecord record, Find(text, v1::Token::KIND_USER));
  return Caller{.source = Caller::Source::kToken,
                .role = RoleOf(record.token().role()),
                .name = record.token().user(),
                .credential = record.token().name(),
                .expires = TimeOf(record.token().expire_time())};
}

absl::Status Registry::CheckToken(const std::string& name) const {
  const base::MutexLock lock(mutex_);
  const auto at = tokens_.find(name);
  return at == tokens_.end() ? UnknownToken() : CheckDate(at->second.token());
}

bool Registry::IsRevoked(const std::string& serial) const {
  const base::MutexLock lock(mutex_);
  return revoked_.contains(serial);
}

bool Registry::IsKnownWorker(const std::string& worker) const {
  const base::MutexLock lock(mutex_);
  const auto at = workers_.find(WorkerName(worker));
  if (at == workers_.end()) return false;
  return std::ranges::any_of(at->second.certificates(), [&](const auto& certificate) {
    return !certificate.revoked() && clock_.Wall() < TimeOf(certificate.expire_time());
  });
}

absl::StatusOr<std::string> Registry::NameFor(const v1::Token& token,
                                              const std::string& wanted) const {
  const std::string& id = token.worker_id();
  const bool fits = token.any_suffix() ? id.empty() || wanted.starts_with(id + "-") : wanted == id;
  if (!wanted.empty() && (!fits || !base::IsValidId(wanted))) {
    return base::MakeError(
        absl::StatusCode::kPermissionDenied, "WORKER_ID_NOT_ALLOWED",
        "expected the worker's id to be " +
            (token.any_suffix() ? "one that begins with '" + id + "-'" : "'" + id + "'") +
            " as the token says, found '" + base::Printable(wanted) + "'");
  }
  if (!token.any_suffix()) return id;
  constexpr size_t kSuffixLetters = 6;
  // A worker that has the token as well must not get another one's certificate.
  if (!wanted.empty()) {
    if (!IsKnownWorker(wanted)) return wanted;
    return base::MakeError(absl::StatusCode::kAlreadyExists, "WORKER_ID_TAKEN",
                           "expected the id of a new worker, found that '" + wanted +
                               "' has a certificate already; choose another id, or revoke that "
                               "worker first");
  }
  std::string name;
  do {
    name = (id.empty() ? "worker" : id.substr(0, 63 - 1 - kSuffixLetters)) + "-" +
           RandomWord(kSuffixLetters);
  } while (IsKnownWorker(name));
  return name;
}

absl::StatusOr<std::string> Registry::Join(std::string_view text, const std::string& wanted) {
  ESPALIER_ASSIGN_OR_RETURN(store::TokenRecord record, Find(text, v1::Token::KIND_JOIN));
  v1::Token& token = *record.mutable_token();
  if (token.uses_left() < 1) {
    return Unauthenticated("TOKEN_USED_UP",
                           "expected a join token with uses left, found that as many workers as it "
                           "was made for have joined; make another one");
  }
  ESPALIER_ASSIGN_OR_RETURN(std::string name, NameFor(token, wanted));
  // Whoever had this name before is not it any more.
  if (IsKnownWorker(name)) ESPALIER_RETURN_IF_ERROR(RevokeWorker(name, nullptr));
  token.set_uses_left(token.uses_left() - 1);
  const std::string of = token.name();
  Put(of, std::move(record));
  return name;
}

void Registry::NoteCertificate(const std::string& worker, const pki::Certificate& certificate) {
  store::WorkerRecord record;
  {
    const base::MutexLock lock(mutex_);
    record = workers_[WorkerName(worker)];
  }
  auto* made = record.add_certificates();
  made->set_serial(certificate.serial);
  wire::SetTimestamp(certificate.not_after, made->mutable_expire_time());
  Put(WorkerName(worker), std::move(record));
}

absl::Status Registry::RevokeWorker(const std::string& worker, const pki::Certificate* shown) {
  store::WorkerRecord record;
  {
    const base::MutexLock lock(mutex_);
    const auto at = workers_.find(WorkerName(worker));
    if (at != workers_.end()) record = at->second;
  }
  const bool is_new =
      shown != nullptr && std::ranges::none_of(record.certificates(), [&](const auto& known) {
        return known.serial() == shown->serial;
      });
  if (is_new) {
    auto* certificate = record.add_certificates();
    certificate->set_serial(shown->serial);
    wire::SetTimestamp(shown->not_after, certificate->mutable_expire_time());
  }
  if (record.certificates().empty()) {
    return base::NotFound("WORKER_NOT_FOUND",
                          "expected a worker that joined or is connected, found none called '" +
                              base::Printable(worker) +
                              "'; certificates that were made by hand are revoked with `espalier "
                              "cert revoke`");
  }
  for (auto& certificate : *record.mutable_certificates()) certificate.set_revoked(true);
  Put(WorkerName(worker), std::move(record));
  return absl::OkStatus();
}

void Registry::Put(const std::string& name, store::TokenRecord record) {
  {
    const base::MutexLock lock(mutex_);
    tokens_[name] = std::move(record);
  }
  Changed(name);
}

void Registry::Put(const std::string& name, store::WorkerRecord record) {
  // A certificate that has ended is refused without a note of ours.
  auto* certificates = record.mutable_certificates();
  certificates->erase(std::remove_if(certificates->begin(), certificates->end(),
                                     [&](const auto& certificate) {
                                       return TimeOf(certificate.expire_time()) < clock_.Wall();
                                     }),
                      certificates->end());
  {
    const base::MutexLock lock(mutex_);
    for (const auto& certificate : *certificates) {
      if (certificate.revoked()) revoked_.insert(certificate.serial());
    }
    workers_[name] = std::move(record);
  }
  Changed(name);
}

void Registry::Changed(const std::string& name) {
  changed_.insert(name);
  journal_.Touch(shared_from_this());
}

void Registry::ForgetEnded() {
  std::vector<std::string> ended;
  {
    const base::MutexLock lock(mutex_);
    for (const auto& [name, record] : tokens_) {
      if (!CheckDate(record.token()).ok()) ended.push_back(name);
    }
    for (const std::string& name : ended) tokens_.erase(name);
    for (auto at = workers_.begin(); at != workers_.end();) {
      const auto is_over = [&](const auto& certificate) {
        return TimeOf(certificate.expire_time()) < clock_.Wall();
      };
      if (!std::ranges::all_of(at->second.certificates(), is_over)) {
        ++at;
        continue;
      }
      for (const auto& certificate : at->second.certificates()) {
        revoked_.erase(certificate.serial());
      }
      ended.push_back(at->first);
      at = workers_.erase(at);
    }
  }
  for (const std::string& name : ended) Changed(name);
}

jobs::Journal::Change Registry::TakeChange() {
  jobs::Journal::Change change;
  const base::MutexLock lock(mutex_);
  for (const std::string& name : std::exchange(changed_, {})) {
    store::AccessWrite& write = change.write.access.emplace_back();
    write.name = name;
    if (const auto token = tokens_.find(name); token != tokens_.end()) {
      write.record = token->second.SerializeAsString();
    } else if (const auto worker = workers_.find(name); worker != workers_.end()) {
      write.record = worker->second.SerializeAsString();
    }
  }
  return change;
}

}  // namespace espalier::server::access
