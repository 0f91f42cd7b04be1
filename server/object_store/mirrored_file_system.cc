#include "server/object_store/mirrored_file_system.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/io/atomic_file.h"

namespace espalier::server::object_store {
namespace {

constexpr size_t kBlockBytes = size_t{1} << 20;
// Of two files of one name and size these many bytes are compared. A checkpoint has its time and the
// digest of its values at its beginning.
constexpr uint64_t kComparedBytes = uint64_t{64} << 10;
constexpr const char* kWriterFile = "/last-writer";
constexpr uint64_t kMaxWriterBytes = 1024;

bool IsTemporary(const std::string& path) {
  return path.ends_with(io::AtomicFile::kTemporarySuffix);
}

absl::Status CopyBytes(const io::ReadableFile& from, io::WritableFile& to) {
  std::string block;
  for (uint64_t offset = 0; offset < from.size(); offset += block.size()) {
    block.resize(std::min<uint64_t>(kBlockBytes, from.size() - offset));
    ESPALIER_RETURN_IF_ERROR(from.ReadAt(offset, block.data(), block.size()));
    ESPALIER_RETURN_IF_ERROR(to.Append(block));
  }
  return absl::OkStatus();
}

}  // namespace

MirroredFileSystem::MirroredFileSystem(io::FileSystem& local, io::FileSystem& store,
                                       std::string root, std::string id)
    : local_(local), store_(store), root_(std::move(root)), id_(std::move(id)) {}

absl::StatusOr<std::string> MirroredFileSystem::InStore(const std::string& path) const {
  if (path.starts_with(root_ + "/")) return path.substr(root_.size() + 1);
  return base::InvalidArgument("INVALID_NAME",
                               fmt::format("expected a path below {}, found {}", root_, path));
}

absl::StatusOr<std::unique_ptr<io::WritableFile>> MirroredFileSystem::Create(
    const std::string& path) {
  return local_.Create(path);
}

absl::StatusOr<std::unique_ptr<io::ReadableFile>> MirroredFileSystem::Open(
    const std::string& path) {
  return local_.Open(path);
}

absl::Status MirroredFileSystem::Rename(const std::string& from, const std::string& to) {
  ESPALIER_RETURN_IF_ERROR(local_.Rename(from, to));
  return IsTemporary(to) ? absl::OkStatus() : Send(to);
}

absl::Status MirroredFileSystem::Remove(const std::string& path) {
  if (!IsTemporary(path)) {
    ESPALIER_ASSIGN_OR_RETURN(const std::string name, InStore(path));
    const absl::Status removed = store_.Remove(name);
    // It may never have been sent.
    if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
  }
  return local_.Remove(path);
}

absl::Status MirroredFileSystem::SyncDirectory(const std::string& directory) {
  return local_.SyncDirectory(directory);
}

absl::StatusOr<std::vector<std::string>> MirroredFileSystem::List(const std::string& directory) {
  return local_.List(directory);
}

absl::Status MirroredFileSystem::CreateDirectories(const std::string& directory) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string name, InStore(directory));
  ESPALIER_RETURN_IF_ERROR(local_.CreateDirectories(directory));
  return store_.CreateDirectories(name);
}

absl::Status MirroredFileSystem::Send(const std::string& path) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string name, InStore(path));
  ESPALIER_ASSIGN_OR_RETURN(const auto from, local_.Open(path));
  ESPALIER_ASSIGN_OR_RETURN(const auto to, store_.Create(name));
  ESPALIER_RETURN_IF_ERROR(CopyBytes(*from, *to));
  ESPALIER_RETURN_IF_ERROR(to->Sync());
  return to->Close();
}

absl::Status MirroredFileSystem::Fetch(const std::string& path) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string name, InStore(path));
  ESPALIER_ASSIGN_OR_RETURN(const auto from, store_.Open(name));
  ESPALIER_ASSIGN_OR_RETURN(io::AtomicFile to, io::AtomicFile::Create(local_, path));
  std::string block;
  for (uint64_t offset = 0; offset < from->size(); offset += block.size()) {
    block.resize(std::min<uint64_t>(kBlockBytes, from->size() - offset));
    ESPALIER_RETURN_IF_ERROR(from->ReadAt(offset, block.data(), block.size()));
    ESPALIER_RETURN_IF_ERROR(to.Append(block));
  }
  return to.Commit();
}

absl::StatusOr<std::vector<std::string>> MirroredFileSystem::Files(
    io::FileSystem& files, const std::string& directory) const {
  ESPALIER_ASSIGN_OR_RETURN(std::vector<std::string> names, files.List(directory));
  std::erase_if(names, [](const std::string& name) {
    return IsTemporary(name) || "/" + name == kWriterFile || name.ends_with(".work");
  });
  return names;
}

absl::StatusOr<bool> MirroredFileSystem::IsSame(const std::string& path) const {
  ESPALIER_ASSIGN_OR_RETURN(const std::string name, InStore(path));
  ESPALIER_ASSIGN_OR_RETURN(const auto here, local_.Open(path));
  ESPALIER_ASSIGN_OR_RETURN(const auto there, store_.Open(name));
  if (here->size() != there->size()) return false;
  std::string bytes(std::min(here->size(), kComparedBytes), '\0');
  std::string other = bytes;
  ESPALIER_RETURN_IF_ERROR(here->ReadAt(0, bytes.data(), bytes.size()));
  ESPALIER_RETURN_IF_ERROR(there->ReadAt(0, other.data(), other.size()));
  return bytes == other;
}

absl::StatusOr<std::string> MirroredFileSystem::LastWriter(const std::string& directory) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string name, InStore(directory + kWriterFile));
  auto writer = io::ReadFile(store_, name, kMaxWriterBytes);
  if (absl::IsNotFound(writer.status())) return "";
  return writer;
}

absl::Status MirroredFileSystem::NoteWriter(const std::string& directory) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string name, InStore(directory + kWriterFile));
  ESPALIER_ASSIGN_OR_RETURN(const auto file, store_.Create(name));
  ESPALIER_RETURN_IF_ERROR(file->Append(id_));
  return file->Close();
}

absl::StatusOr<MirroredFileSystem::Pulled> MirroredFileSystem::Prefetch(
    const std::string& directory, const std::stop_token& stop) {
  return Bring(directory, stop, prefetched_);
}

absl::StatusOr<MirroredFileSystem::Pulled> MirroredFileSystem::Bring(const std::string& directory,
                                                                     const std::stop_token& stop,
                                                                     std::set<std::string>& known) {
  Pulled pulled;
  ESPALIER_RETURN_IF_ERROR(local_.CreateDirectories(directory));
  ESPALIER_ASSIGN_OR_RETURN(const std::string folder, InStore(directory));
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> here, Files(local_, directory));
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> there, Files(store_, folder));
  ESPALIER_ASSIGN_OR_RETURN(const std::string writer, LastWriter(directory));
  for (const std::string& name : there) {
    if (stop.stop_requested()) return pulled;
    const std::string path = directory + "/" + name;
    const bool exists = std::ranges::binary_search(here, name);
    if (exists && (writer == id_ || known.contains(name))) continue;
    bool same = false;
    if (exists) {
      ESPALIER_ASSIGN_OR_RETURN(same, IsSame(path));
    }
    if (!same) {
      ESPALIER_RETURN_IF_ERROR(Fetch(path));
      ++pulled.fetched;
    }
    known.insert(name);
  }
  return pulled;
}

absl::StatusOr<MirroredFileSystem::Pulled> MirroredFileSystem::Pull(const std::string& directory) {
  // First, since it says best what is wrong with a bucket or with keys.
  ESPALIER_RETURN_IF_ERROR(CreateDirectories(directory));
  ESPALIER_ASSIGN_OR_RETURN(const std::string writer, LastWriter(directory));
  Pulled pulled;
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> here, Files(local_, directory));
  if (writer.empty()) {
    for (const std::string& name : here) {
      ESPALIER_RETURN_IF_ERROR(Send(directory + "/" + name));
      ++pulled.sent;
    }
    ESPALIER_RETURN_IF_ERROR(NoteWriter(directory));
    return pulled;
  }
  // What was fetched before may have got other contents since then.
  std::set<std::string> known;
  ESPALIER_ASSIGN_OR_RETURN(pulled, Bring(directory, {}, known));
  ESPALIER_ASSIGN_OR_RETURN(const std::string folder, InStore(directory));
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> there, Files(store_, folder));
  for (const std::string& name : here) {
    if (std::ranges::binary_search(there, name)) continue;
    ESPALIER_RETURN_IF_ERROR(local_.Remove(directory + "/" + name));
    ++pulled.removed;
  }
  ESPALIER_RETURN_IF_ERROR(NoteWriter(directory));
  return pulled;
}

}  // namespace espalier::server::object_store
