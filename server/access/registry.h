// Registry: tokens, and the certificates that workers were given.
//
// Tokens:    256 random bits behind a name, of which only the SHA-256 is kept. A slow hash would protect
//            words that people choose; these are none.
// Kept:      what changes is handed to the journal; whoever makes a change tells of it once it is written
//            (Journal::WhenWritten).
// Limits:    10,000 tokens that have not expired; ended ones are forgotten.
// Threading: changes happen on the core executor. FindUser(), CheckToken() and IsRevoked() are
//            thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/entropy.h"
#include "common/base/mutex.h"
#include "common/pki/certificate.h"
#include "espalier/v1/access.pb.h"
#include "server/access/caller.h"
#include "server/jobs/durable/journal.h"
#include "server/store/records/access.pb.h"

namespace espalier::server::access {

class Registry : public jobs::Journal::Source, public std::enable_shared_from_this<Registry> {
 public:
  static constexpr size_t kMaxTokens = 10'000;
  static constexpr absl::Duration kLongestLife = absl::Hours(24 * 366);

  Registry(const base::Clock& clock, base::Entropy& entropy, jobs::Journal& journal)
      : clock_(clock), entropy_(entropy), journal_(journal) {}

  // What was kept, by Store::AccessRecords(). Before anything else. Errors: DataLoss STORE_CORRUPT.
  absl::Status Restore(const std::map<std::string, std::string>& records);

  struct NewToken {
    v1::Token token;
    std::string secret;  // whole, as callers send it
  };
  // Errors: InvalidArgument INVALID_TOKEN; ResourceExhausted TOO_MANY_TOKENS.
  absl::StatusOr<NewToken> CreateToken(const v1::Token& wanted, absl::Duration lifetime,
                                       const std::string& creator);
  // By name.
  std::vector<v1::Token> Tokens() const;
  // Errors: NotFound TOKEN_NOT_FOUND.
  absl::Status RevokeToken(const std::string& name);

  // What a worker that shows the text of a join token is called from now on; `wanted` may be "". Uses the
  // token once. Errors: Unauthenticated TOKEN_UNKNOWN, TOKEN_EXPIRED, TOKEN_USED_UP; PermissionDenied
  // WORKER_ID_NOT_ALLOWED; AlreadyExists WORKER_ID_TAKEN where the token is shared and the id is another
  // worker's.
  absl::StatusOr<std::string> Join(std::string_view text, const std::string& wanted);
  // The worker has it from now on.
  void NoteCertificate(const std::string& worker, const pki::Certificate& certificate);
  // Revokes what the worker was given so far, and `shown`, which it showed, if that is not null. Errors:
  // NotFound WORKER_NOT_FOUND where there is neither.
  absl::Status RevokeWorker(const std::string& worker, const pki::Certificate* shown);

  // Whose token it is. Errors: Unauthenticated TOKEN_UNKNOWN, TOKEN_EXPIRED.
  absl::StatusOr<Caller> FindUser(std::string_view text) const;
  // Whether the token of this name still counts. Errors: as FindUser().
  absl::Status CheckToken(const std::string& name) const;
  bool IsRevoked(const std::string& serial) const;

  jobs::Journal::Change TakeChange() override;

 private:
  // The token with this text. Errors: as FindUser().
  absl::StatusOr<store::TokenRecord> Find(std::string_view text, v1::Token::Kind kind) const;
  absl::Status CheckDate(const v1::Token& token) const;
  absl::StatusOr<std::string> NameFor(const v1::Token& token, const std::string& wanted) const;
  bool IsKnownWorker(const std::string& worker) const;
  void Put(const std::string& name, store::TokenRecord record);
  void Put(const std::string& name, store::WorkerRecord record);
  void Changed(const std::string& name);
  void ForgetEnded();
  std::string RandomWord(size_t letters) const;

  const base::Clock& clock_;
  base::Entropy& entropy_;
  jobs::Journal& journal_;
  std::set<std::string> changed_;  // core only
  mutable base::Mutex mutex_;
  std::map<std::string, store::TokenRecord> tokens_ ABSL_GUARDED_BY(mutex_);    // "tokens/{id}"
  std::map<std::string, store::WorkerRecord> workers_ ABSL_GUARDED_BY(mutex_);  // "workers/{id}"
  std::unordered_set<std::string> revoked_ ABSL_GUARDED_BY(mutex_);             // serial numbers
};

}  // namespace espalier::server::access
