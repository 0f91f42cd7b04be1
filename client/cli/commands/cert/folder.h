// Folder: what `espalier cert` works on. Under it are
//   authority/    ca.pem, ca.key      the root, whose key may be encrypted
//                 workers.pem, .key   the authority for workers
//                 crl.pem             which certificates are revoked: a list of each of the two
//                 issued.jsonl        the register
//   NAME/         ca.pem, cert.pem, key.pem, and for a coordinator copies of crl.pem, workers.pem and workers.key
//
// A certificate is in the register before its files are there, so that it can always be revoked.
// Threading: not thread-safe. Of several commands that change a folder one does; the others end with CERT_FOLDER_BUSY.
// Errors:    CERT_FOLDER_NOT_FOUND, CERT_FOLDER_EXISTS, CERT_FOLDER_BUSY, CERT_EXISTS, CERT_NOT_FOUND, CERT_LISTS_DAMAGED,
//            USAGE, and those of common/pki, register.h and files.h.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/commands/cert/files.h"
#include "client/cli/commands/cert/register.h"
#include "common/pki/authority.h"
#include "common/pki/certificate.h"

namespace espalier::cli::cert {

inline constexpr absl::Duration kDay = absl::Hours(24);
inline constexpr absl::Duration kRootLifetime = absl::Hours(24 * 3650);
inline constexpr absl::Duration kWorkersLifetime = absl::Hours(24 * 1825);
// By then a list should be renewed. Until it is, coordinators go by it and warn.
inline constexpr absl::Duration kListLifetime = absl::Hours(24 * 30);

struct Days {
  int standard;
  int most;
};
Days DaysOf(pki::Role role);

struct Place {
  std::string dir = "espalier-certs";
  std::string passphrase_file;  // "" = none
};

struct Request {
  pki::Identity identity;
  std::vector<std::string> hosts;
  std::optional<int> days;
};

enum class Access { kRead, kChange };

class Folder {
 public:
  // A new folder with a coordinator and the user "admin". Nothing is left when it fails.
  static absl::StatusOr<std::vector<Issued>> Make(const Place& place,
                                                  const std::vector<std::string>& hosts,
                                                  absl::Time now);
  static absl::StatusOr<Folder> Open(const Place& place, Access access);
  Folder(Folder&& other) noexcept;
  Folder& operator=(Folder&&) = delete;
  ~Folder();

  const Register& record() const { return record_; }
  std::string PathOf(std::string_view name) const;
  // Of an authority: authority/NAME.
  absl::StatusOr<pki::Certificate> AuthorityNamed(const std::string& file) const;
  // When the lists of revoked certificates should be renewed.
  absl::StatusOr<absl::Time> ListsEnd() const;

  absl::StatusOr<Issued> Issue(const Request& request, absl::Time now);
  // With another key, the same names and as many days unless `days` says otherwise, also for `hosts`. Files are written
  // anew where they are, key first.
  absl::StatusOr<Issued> Renew(const std::string& name, const std::vector<std::string>& hosts,
                               std::optional<int> days, absl::Time now);
  // The authority for workers, which keeps its key, for as long as a new one.
  absl::Status RenewWorkers(absl::Time now);
  // The serials of one signer.
  absl::Status Revoke(Signer signer, const std::vector<std::string>& serials, absl::Time now);
  // Both lists of revoked certificates, or that of workers alone, which does not need the root's key.
  enum class Lists { kBoth, kOfWorkers };
  absl::Status RenewLists(Lists lists, absl::Time now);

 private:
  Folder(Place place, int lock) : place_(std::move(place)), lock_(lock) {}
  static absl::Status Fill(const Place& place, const std::vector<std::string>& hosts,
                           absl::Time now, std::vector<Issued>& issued);

  absl::StatusOr<std::string> ReadAuthorityFile(const std::string& name) const;
  absl::StatusOr<pki::AuthorityFiles> FilesOf(Signer signer) const;
  absl::Status WriteAuthority(const Files& files) const;
  // Writes to the folders of all coordinators that are here.
  absl::Status CopyToCoordinators(const Files& files) const;
  // The certificate and key of `issued`, which becomes part of the register.
  absl::StatusOr<Files> MakeFiles(Issued& issued, absl::Time now);
  absl::StatusOr<std::pair<std::string, std::string>> ReadLists() const;

  Place place_;
  int lock_;  // a descriptor, or -1
  Register record_;
};

}  // namespace espalier::cli::cert
