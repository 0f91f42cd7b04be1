#include "server/object_store/s3_file_system.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/printable.h"
#include "common/base/status.h"
#include "server/object_store/s3_client.h"
#include "server/object_store/s3_error.h"
#include "server/object_store/s3_reader.h"
#include "server/object_store/s3_transfer.h"
#include "server/object_store/spool.h"

namespace espalier::server::object_store {
namespace {

constexpr size_t kMaxKeyBytes = 1024;
constexpr size_t kMaxShownBytes = 200;
constexpr int kNamesPerPage = 1000;
// Of all names in one folder, which are in memory at once.
constexpr size_t kMaxListedBytes = size_t{256} << 20;
constexpr int kMaxPages = 100'000;

absl::Status InvalidName(std::string_view path) {
  return base::InvalidArgument(
      "INVALID_NAME",
      fmt::format("expected the path of an object as UTF-8, of at most {} bytes with the prefix, "
                  "without '..' and control characters, found '{}'",
                  kMaxKeyBytes, base::PrintablePrefix(path, kMaxShownBytes)));
}

// "prefix/a/b" for a path such as "/a//./b/"; the prefix alone, or "", for one without names.
absl::StatusOr<std::string> KeyOf(const std::string& prefix, std::string_view path) {
  const bool printable = std::none_of(path.begin(), path.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  if (!printable || !base::IsUtf8(path)) return InvalidName(path);
  std::string key = prefix;
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    begin = end + 1;
    if (part == "..") return InvalidName(path);
    if (part.empty() || part == ".") continue;
    if (!key.empty()) key += "/";
    key += part;
  }
  if (key.size() > kMaxKeyBytes) return InvalidName(path);
  return key;
}

class S3WritableFile : public io::WritableFile {
 public:
  S3WritableFile(std::shared_ptr<S3Client> client, std::string key)
      : client_(std::move(client)),
        key_(std::move(key)),
        spool_(client_->options().memory_spool_bytes, client_->options().spool_directory) {}

  absl::Status Append(std::string_view bytes) override {
    ESPALIER_RETURN_IF_ERROR(Usable());
    broken_ = spool_.Append(bytes);
    stored_ = false;
    return broken_;
  }

  absl::Status Sync() override {
    ESPALIER_RETURN_IF_ERROR(Usable());
    if (stored_) return absl::OkStatus();
    ESPALIER_RETURN_IF_ERROR(UploadObject(*client_, key_, spool_));
    stored_ = true;
    return absl::OkStatus();
  }

  absl::Status Close() override {
    if (closed_) return absl::OkStatus();
    const absl::Status status = Sync();
    closed_ = true;
    return status;
  }

 private:
  // A part of the bytes must not look like the whole of them.
  absl::Status Usable() const {
    if (!closed_) return broken_;
    return base::FailedPrecondition("FILE_CLOSED",
                                    fmt::format("expected an open file, found that '{}' was closed",
                                                NameOf(client_->options(), key_)));
  }

  const std::shared_ptr<S3Client> client_;
  const std::string key_;
  Spool spool_;
  absl::Status broken_;  // the first error of the spool
  bool stored_ = false;  // all that was appended is in the store
  bool closed_ = false;
};

class S3FileSystem : public io::FileSystem {
 public:
  explicit S3FileSystem(std::unique_ptr<S3Client> client) : client_(std::move(client)) {}

  absl::StatusOr<std::unique_ptr<io::WritableFile>> Create(const std::string& path) override {
    ESPALIER_ASSIGN_OR_RETURN(std::string key, ObjectKey(path));
    return std::make_unique<S3WritableFile>(client_, std::move(key));
  }

  absl::StatusOr<std::unique_ptr<io::ReadableFile>> Open(const std::string& path) override {
    ESPALIER_ASSIGN_OR_RETURN(std::string key, ObjectKey(path));
    ESPALIER_ASSIGN_OR_RETURN(ObjectInfo info, client_->Head(key));
    return std::make_unique<S3ReadableFile>(client_, std::move(key), std::move(info));
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    ESPALIER_ASSIGN_OR_RETURN(const std::string source, ObjectKey(from));
    ESPALIER_ASSIGN_OR_RETURN(const std::string target, ObjectKey(to));
    ESPALIER_ASSIGN_OR_RETURN(const ObjectInfo info, client_->Head(source));
    if (source == target) return absl::OkStatus();
    ESPALIER_RETURN_IF_ERROR(CopyObject(*client_, source, info, target));
    const absl::Status removed = client_->Delete(source);
    if (removed.ok()) return removed;
    return base::Annotate(removed, fmt::format("'{}' is complete, but its old name stays",
                                               NameOf(client_->options(), target)));
  }

  absl::Status Remove(const std::string& path) override {
    ESPALIER_ASSIGN_OR_RETURN(const std::string key, ObjectKey(path));
    // The store says OK also where nothing was, which callers want to know.
    ESPALIER_RETURN_IF_ERROR(client_->Head(key).status());
    return client_->Delete(key);
  }

  // A store that has answered has changed for good, and everyone sees it.
  absl::Status SyncDirectory(const std::string& directory) override {
    return KeyOf(client_->options().prefix, directory).status();
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& directory) override {
    ESPALIER_ASSIGN_OR_RETURN(const std::string prefix, FolderPrefix(directory));
    std::vector<std::string> names;
    size_t bytes = 0;
    std::string next;
    for (int pages = 0; pages < kMaxPages && bytes <= kMaxListedBytes; ++pages) {
      ESPALIER_ASSIGN_OR_RETURN(ListPage page, client_->List(prefix, next, kNamesPerPage));
      for (const std::vector<std::string>* keys : {&page.keys, &page.prefixes}) {
        for (const std::string& key : *keys) AddName(key, prefix, names, bytes);
      }
      next = std::move(page.next);
      if (next.empty()) {
        std::sort(names.begin(), names.end());
        names.erase(std::unique(names.begin(), names.end()), names.end());
        return names;
      }
    }
    return base::MakeError(
        absl::StatusCode::kResourceExhausted, "FILE_TOO_LARGE",
        fmt::format(
            "expected names of at most {} bytes below '{}', found more; use a prefix of its "
            "own for this program",
            kMaxListedBytes, NameOf(client_->options(), prefix)));
  }

  absl::Status CreateDirectories(const std::string& directory) override {
    ESPALIER_ASSIGN_OR_RETURN(const std::string prefix, FolderPrefix(directory));
    ESPALIER_RETURN_IF_ERROR(client_->List(prefix, "", 1).status());
    if (may_write_) return absl::OkStatus();
    // No object comes to be of this, not even for a moment.
    ESPALIER_ASSIGN_OR_RETURN(const Upload upload, client_->StartUpload(prefix + kProbe));
    ESPALIER_RETURN_IF_ERROR(client_->AbortUpload(upload));
    const absl::Status read = client_->Head(prefix + kProbe).status();
    if (!read.ok() && read.code() != absl::StatusCode::kNotFound) return read;
    may_write_ = true;
    return absl::OkStatus();
  }

 private:
  static constexpr char kProbe[] = ".espalier-probe";

  absl::StatusOr<std::string> ObjectKey(const std::string& path) const {
    ESPALIER_ASSIGN_OR_RETURN(std::string key, KeyOf(client_->options().prefix, path));
    if (key == client_->options().prefix) return InvalidName(path);
    return key;
  }

  // What the keys in a folder begin with: "" or something that ends with "/".
  absl::StatusOr<std::string> FolderPrefix(const std::string& directory) const {
    ESPALIER_ASSIGN_OR_RETURN(std::string key, KeyOf(client_->options().prefix, directory));
    return key.empty() ? key : key + "/";
  }

  static void AddName(std::string_view key, std::string_view prefix,
                      std::vector<std::string>& names, size_t& bytes) {
    if (!key.starts_with(prefix)) return;
    key.remove_prefix(prefix.size());
    if (key.ends_with('/')) key.remove_suffix(1);
    // Other programs make an object "folder/" to have something to show.
    if (key.empty() || key == "." || key == ".." || key.find('/') != std::string_view::npos) return;
    names.emplace_back(key);
    bytes += key.size() + sizeof(std::string);
  }

  const std::shared_ptr<S3Client> client_;
  std::atomic<bool> may_write_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<io::FileSystem>> OpenS3FileSystem(S3Options options) {
  ESPALIER_ASSIGN_OR_RETURN(std::unique_ptr<S3Client> client, S3Client::Create(std::move(options)));
  return std::make_unique<S3FileSystem>(std::move(client));
}

}  // namespace espalier::server::object_store
