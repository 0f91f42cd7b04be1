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
constexpr const char* kStateFile = "/mirror-state";
constexpr const char* kAside = "/not-in-bucket";
constexpr uint64_t kMaxWriterBytes = 1024;
constexpr uint64_t kMaxStateBytes = uint64_t{64} << 20;

absl::Status Stopped() { return absl::CancelledError("it was told to end"); }

absl::Status CopyBytes(const io::ReadableFile& from, const std::stop_token& stop,
                       const std::function<absl::Status(std::string_view)>& append) {
  std::string block;
  for (uint64_t offset = 0; offset < from.size(); offset += block.size()) {
    if (stop.stop_requested()) return Stopped();
    block.resize(std::min<uint64_t>(kBlockBytes, from.size() - offset));
    ESPALIER_RETURN_IF_ERROR(from.ReadAt(offset, block.data(), block.size()));
    ESPALIER_RETURN_IF_ERROR(append(block));
  }
  return absl::OkStatus();
}

bool Has(const std::vector<std::string>& sorted, const std::string& name) {
  return std::ranges::binary_search(sorted, name);
}

}  // namespace

MirroredFileSystem::MirroredFileSystem(io::FileSystem& local, io::FileSystem& store,
                                       Options options)
    : local_(local),
      store_(store),
      options_(std::move(options)),
      folder_(options_.root + "/" + options_.directory) {}

std::string MirroredFileSystem::PathOf(const std::string& name) const {
  return folder_ + "/" + name;
}

bool MirroredFileSystem::IsMirrored(const std::string& path) const {
  return path.ends_with(options_.suffix) && path.starts_with(folder_ + "/") &&
         path.find('/', folder_.size() + 1) == std::string::npos;
}

std::string MirroredFileSystem::InStore(const std::string& path) const {
  return path.substr(options_.root.size() + 1);
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
  return IsMirrored(to) ? Send(to) : absl::OkStatus();
}

absl::Status MirroredFileSystem::Remove(const std::string& path) {
  if (IsMirrored(path)) {
    const absl::Status removed = store_.Remove(InStore(path));
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
  return local_.CreateDirectories(directory);
}

absl::Status MirroredFileSystem::Send(const std::string& path) {
  const std::string name = path.substr(folder_.size() + 1);
  // Until it is there, what the store has of this name is something else.
  ESPALIER_RETURN_IF_ERROR(Note(name, false));
  ESPALIER_ASSIGN_OR_RETURN(const auto from, local_.Open(path));
  ESPALIER_ASSIGN_OR_RETURN(const auto to, store_.Create(InStore(path)));
  ESPALIER_RETURN_IF_ERROR(
      CopyBytes(*from, {}, [&](std::string_view block) { return to->Append(block); }));
  ESPALIER_RETURN_IF_ERROR(to->Sync());
  ESPALIER_RETURN_IF_ERROR(to->Close());
  return Note(name, true);
}

absl::Status MirroredFileSystem::Fetch(const std::string& name, const std::stop_token& stop) {
  const std::string path = PathOf(name);
  ESPALIER_ASSIGN_OR_RETURN(const auto from, store_.Open(InStore(path)));
  ESPALIER_ASSIGN_OR_RETURN(io::AtomicFile to, io::AtomicFile::Create(local_, path));
  ESPALIER_RETURN_IF_ERROR(
      CopyBytes(*from, stop, [&](std::string_view block) { return to.Append(block); }));
  ESPALIER_RETURN_IF_ERROR(to.Commit());
  return Note(name, true);
}

absl::Status MirroredFileSystem::PutAside(const std::string& name) {
  ESPALIER_RETURN_IF_ERROR(local_.CreateDirectories(folder_ + kAside));
  ESPALIER_RETURN_IF_ERROR(local_.Rename(PathOf(name), folder_ + kAside + "/" + name));
  return local_.SyncDirectory(folder_ + kAside);
}

absl::StatusOr<std::vector<std::string>> MirroredFileSystem::Files(
    io::FileSystem& files, const std::string& directory) const {
  ESPALIER_ASSIGN_OR_RETURN(std::vector<std::string> names, files.List(directory));
  std::erase_if(names,
                [this](const std::string& name) { return !name.ends_with(options_.suffix); });
  return names;
}

absl::StatusOr<bool> MirroredFileSystem::IsSame(const std::string& name) const {
  const std::string path = PathOf(name);
  ESPALIER_ASSIGN_OR_RETURN(const auto here, local_.Open(path));
  ESPALIER_ASSIGN_OR_RETURN(const auto there, store_.Open(InStore(path)));
  if (here->size() != there->size()) return false;
  std::string bytes(std::min(here->size(), kComparedBytes), '\0');
  std::string other = bytes;
  ESPALIER_RETURN_IF_ERROR(here->ReadAt(0, bytes.data(), bytes.size()));
  ESPALIER_RETURN_IF_ERROR(there->ReadAt(0, other.data(), other.size()));
  return bytes == other;
}

absl::StatusOr<std::string> MirroredFileSystem::LastWriter() {
  auto writer = io::ReadFile(store_, options_.directory + kWriterFile, kMaxWriterBytes);
  if (absl::IsNotFound(writer.status())) return "";
  return writer;
}

absl::Status MirroredFileSystem::BecomeLastWriter() {
  const std::string id = options_.new_id();
  ESPALIER_ASSIGN_OR_RETURN(const auto file, store_.Create(options_.directory + kWriterFile));
  ESPALIER_RETURN_IF_ERROR(file->Append(id));
  ESPALIER_RETURN_IF_ERROR(file->Close());
  const base::MutexLock lock(mutex_);
  state_.id = id;
  return WriteState();
}

std::string MirroredFileSystem::Id() {
  const base::MutexLock lock(mutex_);
  return state_.id;
}

bool MirroredFileSystem::IsKnown(const std::string& name) {
  const base::MutexLock lock(mutex_);
  return state_.known.contains(name);
}

// A line for the bucket, one for the id, and one for each file that is known.
absl::Status MirroredFileSystem::ReadState() {
  const base::MutexLock lock(mutex_);
  if (std::exchange(has_state_, true)) return absl::OkStatus();
  const auto text = io::ReadFile(local_, options_.root + kStateFile, kMaxStateBytes);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  ESPALIER_RETURN_IF_ERROR(text.status());
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text->size();) {
    const size_t end = std::min(text->find('\n', begin), text->size());
    lines.push_back(text->substr(begin, end - begin));
    begin = end + 1;
  }
  // Of another bucket it says nothing about this one.
  if (lines.size() < 2 || lines[0] != options_.bucket) return absl::OkStatus();
  state_.id = lines[1];
  state_.known.insert(lines.begin() + 2, lines.end());
  return absl::OkStatus();
}

absl::Status MirroredFileSystem::WriteState() {
  std::string text = options_.bucket + "\n" + state_.id + "\n";
  for (const std::string& name : state_.known) text += name + "\n";
  ESPALIER_ASSIGN_OR_RETURN(io::AtomicFile file,
                            io::AtomicFile::Create(local_, options_.root + kStateFile));
  ESPALIER_RETURN_IF_ERROR(file.Append(text));
  return file.Commit();
}

absl::Status MirroredFileSystem::Note(const std::string& name, bool known) {
  const base::MutexLock lock(mutex_);
  if (state_.known.contains(name) == known) return absl::OkStatus();
  if (known) {
    state_.known.insert(name);
  } else {
    state_.known.erase(name);
  }
  return WriteState();
}

absl::StatusOr<MirroredFileSystem::Pulled> MirroredFileSystem::Prefetch(
    const std::stop_token& stop) {
  Pulled pulled;
  ESPALIER_RETURN_IF_ERROR(ReadState());
  ESPALIER_RETURN_IF_ERROR(local_.CreateDirectories(folder_));
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> here, Files(local_, folder_));
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> there,
                            Files(store_, options_.directory));
  for (auto name = prefetched_.begin(); name != prefetched_.end();) {
    if (Has(there, *name)) {
      ++name;
      continue;
    }
    ESPALIER_RETURN_IF_ERROR(local_.Remove(PathOf(*name)));
    ESPALIER_RETURN_IF_ERROR(Note(*name, false));
    name = prefetched_.erase(name);
    ++pulled.removed;
  }
  for (const std::string& name : there) {
    if (stop.stop_requested()) return Stopped();
    if (prefetched_.contains(name)) continue;
    bool same = false;
    if (Has(here, name)) {
      ESPALIER_ASSIGN_OR_RETURN(same, IsSame(name));
    }
    if (!same) {
      ESPALIER_RETURN_IF_ERROR(Fetch(name, stop));
      ++pulled.fetched;
    }
    prefetched_.insert(name);
  }
  return pulled;
}

absl::StatusOr<MirroredFileSystem::Pulled> MirroredFileSystem::Pull() {
  Pulled pulled;
  // First, since it says best what is wrong with a bucket or with keys.
  ESPALIER_RETURN_IF_ERROR(store_.CreateDirectories(options_.directory));
  ESPALIER_RETURN_IF_ERROR(ReadState());
  ESPALIER_RETURN_IF_ERROR(local_.CreateDirectories(folder_));
  ESPALIER_ASSIGN_OR_RETURN(const std::string writer, LastWriter());
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> here, Files(local_, folder_));
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> there,
                            Files(store_, options_.directory));
  const bool was_empty = writer.empty() && there.empty();
  const bool is_ours = !writer.empty() && writer == Id();
  for (const std::string& name : here) {
    if (Has(there, name)) continue;
    if (was_empty) {
      ESPALIER_RETURN_IF_ERROR(Send(PathOf(name)));
      ++pulled.sent;
    } else if (IsKnown(name)) {
      // Removed by another one, or by this one, which was killed in between.
      ESPALIER_RETURN_IF_ERROR(local_.Remove(PathOf(name)));
      ESPALIER_RETURN_IF_ERROR(Note(name, false));
      ++pulled.removed;
    } else {
      ESPALIER_RETURN_IF_ERROR(PutAside(name));
      ++pulled.put_aside;
    }
  }
  for (const std::string& name : there) {
    if (Has(here, name)) {
      // What this folder has sent last is the same; what it has fetched earlier may have been replaced.
      if (is_ours && IsKnown(name)) continue;
      ESPALIER_ASSIGN_OR_RETURN(const bool same, IsSame(name));
      if (same) {
        ESPALIER_RETURN_IF_ERROR(Note(name, true));
        continue;
      }
      // It may be something that the store never had.
      if (!IsKnown(name)) {
        ESPALIER_RETURN_IF_ERROR(PutAside(name));
        ++pulled.put_aside;
      }
    }
    ESPALIER_RETURN_IF_ERROR(Fetch(name, {}));
    ++pulled.fetched;
  }
  ESPALIER_RETURN_IF_ERROR(BecomeLastWriter());
  return pulled;
}

absl::StatusOr<bool> MirroredFileSystem::Mend(const std::string& name) {
  if (!IsMirrored(PathOf(name))) return false;
  const auto there = store_.Open(InStore(PathOf(name)));
  if (absl::IsNotFound(there.status())) return false;
  ESPALIER_RETURN_IF_ERROR(there.status());
  ESPALIER_RETURN_IF_ERROR(Fetch(name, {}));
  return true;
}

}  // namespace espalier::server::object_store
