#include "client/cli/commands/cert/folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <utility>

#include "common/base/names.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "common/pki/key.h"
#include "common/pki/revocations.h"
#include "fmt/format.h"

namespace espalier::cli::cert {
namespace {

constexpr char kRegister[] = "issued.jsonl";
constexpr size_t kMostRegisterBytes = 64 * 1024 * 1024;

// Folders of other things, and names of authorities.
bool IsReserved(std::string_view name) {
  return name == "authority" || name == "root" || name == "workers";
}

absl::Status NotFound(const std::string& dir) {
  return base::NotFound(
      "CERT_FOLDER_NOT_FOUND",
      fmt::format("expected a folder that `espalier cert init` made at {}, found none with "
                  "authority/ca.pem in it; name it with --dir, or run espalier cert init",
                  config::Quoted(dir)));
}

absl::Status Exists(const std::string& dir) {
  return base::MakeError(
      absl::StatusCode::kAlreadyExists, "CERT_FOLDER_EXISTS",
      fmt::format("expected no folder at {}, or an empty one, found one with files, which stay as "
                  "they are; name another with --dir, or add to it with espalier cert issue",
                  config::Quoted(dir)));
}

// The hosts of a coordinator, which is always reached from its own machine as well.
std::vector<std::string> WithLocalHosts(std::vector<std::string> hosts) {
  for (const char* local : {"localhost", "127.0.0.1", "::1"}) {
    if (std::ranges::find(hosts, local) == hosts.end()) hosts.emplace_back(local);
  }
  return hosts;
}

absl::StatusOr<int> CheckDays(pki::Role role, std::optional<int> days) {
  const Days limits = DaysOf(role);
  if (!days) return limits.standard;
  if (*days >= 1 && *days <= limits.most) return *days;
  return base::InvalidArgument(
      "USAGE", fmt::format("expected --days from 1 to {} for role {}, found {}", limits.most,
                           pki::NameOf(role), *days));
}

absl::Status CheckHosts(const pki::Identity& identity, const std::vector<std::string>& hosts) {
  if (identity.role != pki::Role::kWorker || hosts.empty()) return absl::OkStatus();
  return base::InvalidArgument("USAGE",
                               "expected no --host for a worker, found one; workers dial out, and "
                               "their authority may not sign hosts");
}

}  // namespace

Days DaysOf(pki::Role role) {
  switch (role) {
    case pki::Role::kCoordinator:
      return {365, 825};
    case pki::Role::kAdmin:
    case pki::Role::kSubmitter:
    case pki::Role::kViewer:
    case pki::Role::kWorker:
      break;
  }
  return {90, 365};
}

Folder::Folder(Folder&& other) noexcept
    : place_(std::move(other.place_)),
      lock_(std::exchange(other.lock_, -1)),
      record_(std::move(other.record_)) {}

Folder::~Folder() {
  if (lock_ >= 0) close(lock_);
}

absl::Status Folder::Fill(const Place& place, const std::vector<std::string>& hosts, absl::Time now,
                          std::vector<Issued>& issued) {
  pki::AuthorityFiles root = pki::NewRoot(now, kRootLifetime);
  ESPALIER_ASSIGN_OR_RETURN(const pki::AuthorityFiles workers,
                            pki::NewWorkerAuthority(root, now, kWorkersLifetime));
  if (!place.passphrase_file.empty()) {
    ESPALIER_ASSIGN_OR_RETURN(const std::string passphrase, ReadPassphrase(place.passphrase_file));
    ESPALIER_ASSIGN_OR_RETURN(root.key, pki::EncryptKey(root.key, passphrase));
  }
  ESPALIER_RETURN_IF_ERROR(
      WriteTogether(place.dir + "/authority", {{"ca.pem", root.certificate},
                                               {"ca.key", root.key},
                                               {"workers.pem", workers.certificate},
                                               {"workers.key", workers.key},
                                               {kRegister, ""}}));
  ESPALIER_ASSIGN_OR_RETURN(Folder folder, Open(place, Access::kChange));
  ESPALIER_RETURN_IF_ERROR(folder.RenewLists(Lists::kBoth, now));
  for (const Request& request : {Request{{pki::Role::kCoordinator, "coordinator"}, hosts, {}},
                                 Request{{pki::Role::kAdmin, "admin"}, {}, {}}}) {
    ESPALIER_ASSIGN_OR_RETURN(Issued made, folder.Issue(request, now));
    issued.push_back(std::move(made));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Issued>> Folder::Make(const Place& place,
                                                 const std::vector<std::string>& hosts,
                                                 absl::Time now) {
  std::error_code error;
  const bool there = std::filesystem::exists(place.dir, error);
  if (there) {
    if (!std::filesystem::is_directory(place.dir, error)) return Exists(place.dir);
    // A new file system has it.
    constexpr std::string_view kOfFileSystem = "lost+found";
    for (const auto& entry : std::filesystem::directory_iterator(place.dir, error)) {
      if (entry.path().filename() != kOfFileSystem) return Exists(place.dir);
    }
  }
  // A folder that is there may be where a volume is mounted, which cannot be replaced as a whole: what is made is moved into it,
  // with the authority at the end, without which there is nothing.
  ESPALIER_ASSIGN_OR_RETURN(NewFolder made,
                            NewFolder::Beside(there ? place.dir + "/new" : place.dir));
  std::vector<Issued> issued;
  ESPALIER_RETURN_IF_ERROR(Fill({made.path(), place.passphrase_file}, hosts, now, issued));
  ESPALIER_RETURN_IF_ERROR(there ? made.KeepIn(place.dir, "authority") : made.KeepAs(place.dir));
  return issued;
}

absl::StatusOr<Folder> Folder::Open(const Place& place, Access access) {
  std::error_code error;
  if (!std::filesystem::exists(place.dir + "/authority/ca.pem", error)) return NotFound(place.dir);
  Folder folder(place, -1);
  if (access == Access::kChange) {
    folder.lock_ = open(place.dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder.lock_ < 0 || flock(folder.lock_, LOCK_EX | LOCK_NB) != 0) {
      return base::FailedPrecondition(
          "CERT_FOLDER_BUSY", fmt::format("expected that nobody else changes {}, found another "
                                          "`espalier cert` at work; try again when it has ended",
                                          config::Quoted(place.dir)));
    }
  }
  ESPALIER_ASSIGN_OR_RETURN(
      const std::string text,
      ReadText(folder.PathOf("authority") + "/" + kRegister, kMostRegisterBytes));
  ESPALIER_ASSIGN_OR_RETURN(folder.record_, Register::Parse(text));
  return folder;
}

std::string Folder::PathOf(std::string_view name) const {
  return fmt::format("{}/{}", place_.dir, name);
}

absl::StatusOr<std::string> Folder::ReadAuthorityFile(const std::string& name) const {
  return ReadText(PathOf("authority") + "/" + name);
}

absl::Status Folder::WriteAuthority(const Files& files) const {
  return WriteTogether(PathOf("authority"), files);
}

absl::StatusOr<pki::Certificate> Folder::AuthorityNamed(const std::string& file) const {
  ESPALIER_ASSIGN_OR_RETURN(const std::string pem, ReadAuthorityFile(file));
  absl::StatusOr<pki::Certificate> certificate = pki::ReadCertificate(pem);
  if (certificate.ok()) return certificate;
  return base::Annotate(certificate.status(), "authority/" + file);
}

absl::StatusOr<pki::AuthorityFiles> Folder::FilesOf(Signer signer) const {
  const std::string name = signer == Signer::kRoot ? "ca" : "workers";
  pki::AuthorityFiles files;
  ESPALIER_ASSIGN_OR_RETURN(files.certificate, ReadAuthorityFile(name + ".pem"));
  absl::StatusOr<std::string> key = ReadAuthorityFile(name + ".key");
  if (!key.ok()) {
    return base::Annotate(key.status(),
                          fmt::format("the key of authority/{}.pem is needed for this; where it is "
                                      "kept elsewhere, bring it back for as long",
                                      name));
  }
  files.key = *std::move(key);
  if (pki::IsEncrypted(files.key)) {
    if (place_.passphrase_file.empty()) {
      return base::InvalidArgument(
          "TLS_KEY_ENCRYPTED",
          fmt::format("expected --passphrase-file for the encrypted key authority/{}.key, found "
                      "none; name the file whose first line is its passphrase",
                      name));
    }
    ESPALIER_ASSIGN_OR_RETURN(const std::string passphrase, ReadPassphrase(place_.passphrase_file));
    ESPALIER_ASSIGN_OR_RETURN(files.key, pki::DecryptKey(files.key, passphrase));
  }
  return files;
}

absl::Status Folder::CopyToCoordinators(const Files& files) const {
  std::set<std::string> names;
  for (const Issued& issued : record_.issued()) {
    if (issued.identity.role == pki::Role::kCoordinator) names.insert(issued.identity.name);
  }
  for (const std::string& name : names) {
    std::error_code error;
    if (!std::filesystem::is_directory(PathOf(name), error)) continue;
    ESPALIER_RETURN_IF_ERROR(WriteTogether(PathOf(name), files));
  }
  return absl::OkStatus();
}

absl::StatusOr<Files> Folder::MakeFiles(Issued& issued, absl::Time now) {
  ESPALIER_ASSIGN_OR_RETURN(const pki::AuthorityFiles files, FilesOf(issued.signer));
  ESPALIER_ASSIGN_OR_RETURN(const pki::Authority authority, pki::Authority::Load(files));
  const std::string key = pki::NewKey();
  ESPALIER_ASSIGN_OR_RETURN(
      const std::string pem,
      authority.Issue({issued.identity, issued.hosts, now, issued.days * kDay}, key));
  ESPALIER_ASSIGN_OR_RETURN(const pki::Certificate certificate, pki::ReadCertificate(pem));
  issued.serial = certificate.serial;
  issued.not_after = certificate.not_after;
  record_.AddIssued(issued, now);
  ESPALIER_RETURN_IF_ERROR(WriteAuthority({{kRegister, record_.text()}}));
  Files made;
  ESPALIER_ASSIGN_OR_RETURN(const std::string root, ReadAuthorityFile("ca.pem"));
  made = {{"ca.pem", root}, {"key.pem", key}, {"cert.pem", pem}};
  if (issued.identity.role != pki::Role::kCoordinator) return made;
  for (const char* name : {"workers.key", "workers.pem", "crl.pem"}) {
    ESPALIER_ASSIGN_OR_RETURN(const std::string text, ReadAuthorityFile(name));
    made.emplace_back(name, text);
  }
  return made;
}

absl::StatusOr<Issued> Folder::Issue(const Request& request, absl::Time now) {
  const pki::Identity& identity = request.identity;
  if (!base::IsValidId(identity.name) || IsReserved(identity.name)) {
    return base::InvalidArgument(
        "IDENTITY_INVALID",
        fmt::format("expected a name of lower-case letters, digits and '-', which begins with a "
                    "letter, and is not authority, root or workers, found {}; choose another",
                    config::Quoted(identity.name)));
  }
  ESPALIER_RETURN_IF_ERROR(CheckHosts(identity, request.hosts));
  std::error_code error;
  if (record_.Newest(identity.name) != nullptr ||
      std::filesystem::exists(PathOf(identity.name), error)) {
    return base::MakeError(
        absl::StatusCode::kAlreadyExists, "CERT_EXISTS",
        fmt::format("expected a name that has no certificate yet, found {}; renew it with espalier "
                    "cert renew {}, or choose another",
                    config::Quoted(identity.name), identity.name));
  }
  Issued issued;
  issued.identity = identity;
  const bool serves = identity.role == pki::Role::kCoordinator;
  issued.hosts = serves ? WithLocalHosts(request.hosts) : request.hosts;
  issued.signer = identity.role == pki::Role::kWorker ? Signer::kWorkers : Signer::kRoot;
  ESPALIER_ASSIGN_OR_RETURN(issued.days, CheckDays(identity.role, request.days));
  ESPALIER_ASSIGN_OR_RETURN(const Files files, MakeFiles(issued, now));
  ESPALIER_ASSIGN_OR_RETURN(NewFolder made, NewFolder::Beside(PathOf(identity.name)));
  ESPALIER_RETURN_IF_ERROR(WriteTogether(made.path(), files));
  ESPALIER_RETURN_IF_ERROR(made.KeepAs(PathOf(identity.name)));
  return issued;
}

absl::StatusOr<Issued> Folder::Renew(const std::string& name, const std::vector<std::string>& hosts,
                                     std::optional<int> days, absl::Time now) {
  const Issued* former = record_.Newest(name);
  if (former == nullptr) {
    return base::NotFound(
        "CERT_NOT_FOUND",
        fmt::format("expected the name of a certificate of this folder, found {}; espalier cert "
                    "list shows them, and espalier cert issue makes one",
                    config::Quoted(name)));
  }
  Issued issued = *former;
  ESPALIER_RETURN_IF_ERROR(CheckHosts(issued.identity, hosts));
  for (const std::string& host : hosts) {
    if (std::ranges::find(issued.hosts, host) == issued.hosts.end()) issued.hosts.push_back(host);
  }
  ESPALIER_ASSIGN_OR_RETURN(issued.days,
                            CheckDays(issued.identity.role, days ? days : issued.days));
  // First, so that a coordinator gets the new ones with its certificate.
  ESPALIER_RETURN_IF_ERROR(
      RenewLists(issued.signer == Signer::kRoot ? Lists::kBoth : Lists::kOfWorkers, now));
  ESPALIER_ASSIGN_OR_RETURN(const Files files, MakeFiles(issued, now));
  ESPALIER_RETURN_IF_ERROR(WriteTogether(PathOf(name), files));
  return issued;
}

absl::Status Folder::RenewWorkers(absl::Time now) {
  ESPALIER_ASSIGN_OR_RETURN(const pki::AuthorityFiles root, FilesOf(Signer::kRoot));
  ESPALIER_ASSIGN_OR_RETURN(const pki::AuthorityFiles workers, FilesOf(Signer::kWorkers));
  ESPALIER_ASSIGN_OR_RETURN(const pki::AuthorityFiles renewed,
                            pki::RenewWorkerAuthority(root, workers, now, kWorkersLifetime));
  const Files files = {{"workers.pem", renewed.certificate}};
  ESPALIER_RETURN_IF_ERROR(WriteAuthority(files));
  return CopyToCoordinators(files);
}

absl::Status Folder::Revoke(Signer signer, const std::vector<std::string>& serials,
                            absl::Time now) {
  for (const std::string& serial : serials) record_.AddRevoked(signer, serial, now);
  return RenewLists(signer == Signer::kRoot ? Lists::kBoth : Lists::kOfWorkers, now);
}

absl::StatusOr<std::pair<std::string, std::string>> Folder::ReadLists() const {
  constexpr std::string_view kEnd = "-----END X509 CRL-----\n";
  ESPALIER_ASSIGN_OR_RETURN(const std::string text, ReadAuthorityFile("crl.pem"));
  const size_t first = text.find(kEnd);
  const size_t second = first == std::string::npos ? first : text.find(kEnd, first + kEnd.size());
  if (second == std::string::npos || second + kEnd.size() != text.size()) {
    return base::FailedPrecondition(
        "CERT_LISTS_DAMAGED",
        "expected two lists of revoked certificates in authority/crl.pem, found something else; "
        "make them anew with espalier cert renew --crl, which needs the root's key");
  }
  const size_t cut = first + kEnd.size();
  return std::pair(text.substr(0, cut), text.substr(cut));
}

absl::Status Folder::RenewLists(Lists lists, absl::Time now) {
  const auto list_of = [this, now](Signer signer) -> absl::StatusOr<std::string> {
    ESPALIER_ASSIGN_OR_RETURN(const pki::AuthorityFiles files, FilesOf(signer));
    ESPALIER_ASSIGN_OR_RETURN(const pki::Authority authority, pki::Authority::Load(files));
    return authority.Revoke(record_.Revoked(signer), now, kListLifetime);
  };
  std::string root;
  if (lists == Lists::kBoth) {
    ESPALIER_ASSIGN_OR_RETURN(root, list_of(Signer::kRoot));
  } else {
    ESPALIER_ASSIGN_OR_RETURN(auto former, ReadLists());
    root = std::move(former.first);
  }
  ESPALIER_ASSIGN_OR_RETURN(const std::string workers, list_of(Signer::kWorkers));
  // The register is what the next lists are made of, and comes first.
  ESPALIER_RETURN_IF_ERROR(
      WriteAuthority({{kRegister, record_.text()}, {"crl.pem", root + workers}}));
  return CopyToCoordinators({{"crl.pem", root + workers}});
}

absl::StatusOr<absl::Time> Folder::ListsEnd() const {
  ESPALIER_ASSIGN_OR_RETURN(const std::string lists, ReadAuthorityFile("crl.pem"));
  ESPALIER_ASSIGN_OR_RETURN(const std::string root, ReadAuthorityFile("ca.pem"));
  ESPALIER_ASSIGN_OR_RETURN(const std::string workers, ReadAuthorityFile("workers.pem"));
  ESPALIER_ASSIGN_OR_RETURN(const pki::Revocations revocations,
                            pki::Revocations::Parse(lists, root + workers));
  return revocations.next_update();
}

}  // namespace espalier::cli::cert
