#include "client/cli/init/source.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

#include "absl/strings/ascii.h"
#include "client/cli/init/sections.h"
#include "client/cli/init/shell.h"
#include "common/base/names.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "common/io/file_system.h"
#include "fmt/format.h"

namespace espalier::cli::init {
namespace {

namespace fs = std::filesystem;
using config::Quoted;

constexpr std::array<std::string_view, 10> kDataEndings = {
    ".csv", ".tsv", ".txt", ".jsonl", ".npy", ".bin", ".data", ".dat", ".inter", "ubyte"};
constexpr std::array<std::string_view, 3> kImageEndings = {".png", ".jpg", ".jpeg"};
// Names that say by themselves that their folder is a data set.
constexpr std::array<std::string_view, 5> kPartStems = {"train", "test", "u.data", "ratings",
                                                        "interactions"};
constexpr std::array<std::string_view, 6> kPartFolders = {"train", "test",       "val",
                                                          "valid", "validation", "training"};

std::string Lower(const fs::path& name) { return absl::AsciiStrToLower(name.string()); }

// Without ".gz".
std::string PlainName(const fs::path& path) {
  std::string name = Lower(path.filename());
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  return name;
}

template <typename Endings>
bool HasEnding(const fs::path& path, const Endings& endings) {
  const std::string name = PlainName(path);
  return std::any_of(endings.begin(), endings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

bool IsPartOfDataset(const fs::path& path) {
  const std::string name = PlainName(path);
  return std::any_of(kPartStems.begin(), kPartStems.end(),
                     [&](std::string_view stem) { return name.starts_with(stem); });
}

// What accompanies data and is none.
bool IsCompanion(const fs::path& path) {
  const std::string name = PlainName(path);
  return name.starts_with(".") || name.starts_with("readme") || name.starts_with("licen") ||
         name.starts_with("tok") || name.ends_with(".md") || name.ends_with(".names") ||
         name.ends_with(".json") || name.ends_with(".yaml");
}

absl::StatusOr<std::vector<fs::path>> List(const fs::path& folder) {
  const auto names = io::PosixFileSystem().List(folder.string());
  if (!names.ok()) {
    return Unusable(fmt::format("expected a folder that can be read at {}, found: {}",
                                Quoted(folder.string()), base::MessageOf(names.status())));
  }
  std::vector<fs::path> entries;
  for (const std::string& name : *names) entries.push_back(folder / name);
  return entries;
}

// "data/pets/" → "data/pets"; "." and links become what they stand for.
fs::path Named(const fs::path& path) {
  std::error_code error;
  fs::path normal = path.lexically_normal();
  if (!normal.has_filename()) normal = normal.parent_path();
  const bool unnamed = normal.empty() || normal.filename() == "." || normal.filename() == "..";
  if (unnamed || fs::is_symlink(normal, error)) return fs::canonical(path, error);
  return normal;
}

Source SourceAt(const fs::path& folder, bool is_model) {
  const fs::path root = folder.parent_path();
  return {folder.string(), root.empty() ? "." : root.string(), folder.filename().string(),
          is_model};
}

absl::StatusOr<Source> FolderSource(const fs::path& given) {
  const fs::path folder = Named(given);
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<fs::path> entries, List(folder));
  if (entries.empty()) {
    return Unusable(fmt::format(
        "expected data in the folder {}, found it empty; put the files of one data set there, for "
        "example one .csv file, or a folder of images for each class (see docs/data-sets.md)",
        Quoted(folder.string())));
  }
  const std::string name = folder.filename().string();
  const bool is_part =
      std::find(kPartFolders.begin(), kPartFolders.end(), name) != kPartFolders.end();
  if (is_part && folder.has_parent_path()) return FolderSource(folder.parent_path());
  const auto has = [&](auto fits) { return std::any_of(entries.begin(), entries.end(), fits); };
  const bool is_model =
      has([](const fs::path& path) { return path.filename() == "config.json"; }) &&
      has([](const fs::path& path) { return path.extension() == ".safetensors"; });
  if (is_model ? !base::IsModelName(name) : !base::IsDatasetName(name)) {
    const fs::path better = folder.parent_path() / base::IdLike(name);
    return Unusable(fmt::format(
        "expected a folder whose name can be that of a {} ({}letters, digits, '-', '_' and '.'), "
        "found {}; rename it: mv {} {} && espalier init {}",
        is_model ? "model" : "data set", is_model ? "" : "lower-case ", Quoted(name),
        ShellWord(folder.string()), ShellWord(better.string()), ShellWord(better.string())));
  }
  return SourceAt(folder, is_model);
}

// A file that has no folder of its own.
absl::Status Loose(const fs::path& file) {
  const std::string stem = fs::path(PlainName(file)).stem().string();
  const std::string folder = "data/" + base::IdLike(stem);
  return Unusable(fmt::format(
      "expected a folder of its own for {}, since a data set is a folder and bears its name, found "
      "other files beside it; make one: mkdir -p {} && cp {} {}/ && espalier init {}",
      Quoted(file.filename().string()), folder, ShellWord(file.string()), folder, folder));
}

absl::StatusOr<Source> FileSource(const fs::path& given) {
  std::error_code error;
  const fs::path file =
      fs::is_symlink(given, error) ? fs::canonical(given, error) : given.lexically_normal();
  if (HasEnding(file, kImageEndings)) {
    return Unusable(fmt::format(
        "expected the folder that holds a folder of images for each class, found the single image "
        "{}; name that folder",
        Quoted(file.filename().string())));
  }
  if (!HasEnding(file, kDataEndings)) {
    return Unusable(fmt::format(
        "expected a data file (.csv, .tsv, .txt, .jsonl, .npy, IDX or CIFAR-10 binary, each "
        "perhaps "
        "with .gz; u.data or ratings.dat), found {}; save the data as one of these, a spreadsheet "
        "as CSV (see docs/data-sets.md)",
        Quoted(file.filename().string())));
  }
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  const fs::path named = Named(folder);
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<fs::path> entries, List(folder));
  const bool alone = std::all_of(entries.begin(), entries.end(), [&](const fs::path& entry) {
    std::error_code ignored;
    return entry.filename() == file.filename() || IsCompanion(entry) ||
           (IsPartOfDataset(entry) && !fs::is_directory(entry, ignored));
  });
  if (!base::IsDatasetName(named.filename().string()) || (!alone && !IsPartOfDataset(file))) {
    return Loose(file);
  }
  return FolderSource(folder);
}

}  // namespace

absl::StatusOr<Source> FindSource(const std::string& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return FolderSource(path);
  if (fs::is_regular_file(path, error)) return FileSource(path);
  const bool exists = fs::exists(fs::symlink_status(path, error));
  const std::string found = error && error != std::errc::no_such_file_or_directory ? error.message()
                            : exists ? "neither of the two"
                                     : "nothing there";
  return base::NotFound(
      "PATH_NOT_FOUND",
      fmt::format("expected a data file, or the folder of a data set or of a trained model, at {}, "
                  "found {}; what data may look like is in docs/data-sets.md",
                  Quoted(path), found));
}

}  // namespace espalier::cli::init
