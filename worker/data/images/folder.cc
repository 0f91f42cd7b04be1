#include "worker/data/images/folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "common/base/status.h"
#include "common/io/sha256.h"
#include "worker/data/dataset.h"
#include "worker/data/errors.h"

namespace espalier::worker::data {
namespace {

// One file's place in memory, about: two names and the numbers.
constexpr int64_t kBytesPerFile = sizeof(ImageFile) + 64;

std::string LowerCase(std::string_view name) {
  std::string lower(name);
  absl::AsciiStrToLower(&lower);
  return lower;
}

bool IsImageName(std::string_view name) {
  const std::string lower = LowerCase(name);
  return lower.ends_with(".png") || lower.ends_with(".jpg") || lower.ends_with(".jpeg");
}

// What systems leave in folders by themselves.
bool IsDebris(std::string_view name) {
  const std::string lower = LowerCase(name);
  return lower == "thumbs.db" || lower == "desktop.ini" || lower == "__macosx";
}

std::string Joined(const std::string& folder, const std::string& name) {
  return folder.empty() ? name : folder + "/" + name;
}

bool HasImage(const FolderListing& listing) {
  return std::any_of(listing.files.begin(), listing.files.end(),
                     [](const FileEntry& file) { return IsImageName(file.name); });
}

void DropDebris(FolderListing& listing) {
  std::erase_if(listing.files, [](const FileEntry& file) { return IsDebris(file.name); });
  std::erase_if(listing.folders, [](const std::string& name) { return IsDebris(name); });
}

// The images of one class.
struct Class {
  std::string name;
  std::vector<ImageFile> files;
};

class Lister {
 public:
  Lister(const DataRoot& root, const std::string& dataset, const LoadOptions& options)
      : root_(root), dataset_(dataset), options_(options) {}

  absl::StatusOr<FolderListing> List(const std::string& folder) const {
    ESPALIER_ASSIGN_OR_RETURN(FolderListing listing, root_.List(dataset_, folder, options_));
    DropDebris(listing);
    return listing;
  }

  // The classes that are the sub-folders of `folder`.
  absl::StatusOr<std::vector<Class>> Classes(const std::string& folder,
                                             const FolderListing& listing) {
    for (const FileEntry& file : listing.files) {
      if (!IsImageName(file.name)) continue;
      return DatasetInvalid(Named(Joined(folder, file.name)),
                            {"", "images in folders that are called as their classes",
                             "an image outside of them", "move it into the folder of its class"});
    }
    std::vector<Class> classes;
    for (const std::string& name : listing.folders) {
      ESPALIER_ASSIGN_OR_RETURN(std::vector<ImageFile> files, ClassFiles(Joined(folder, name)));
      classes.push_back({name, std::move(files)});
    }
    if (!classes.empty()) return classes;
    return DatasetInvalid(Named(folder),
                          {"", "a folder for each class, with PNG or JPEG images in it", "none",
                           "put the images into train/CLASS/ or CLASS/"});
  }

 private:
  std::string Named(const std::string& path) const { return Joined(dataset_, path); }

  absl::StatusOr<std::vector<ImageFile>> ClassFiles(const std::string& folder) {
    ESPALIER_ASSIGN_OR_RETURN(const FolderListing listing, List(folder));
    if (!listing.folders.empty()) {
      return DatasetInvalid(Named(Joined(folder, listing.folders[0])),
                            {"", "images directly in the folder of their class", "a folder",
                             "write train/CLASS/*.png (and test/CLASS/*.png) or CLASS/*.png"});
    }
    std::vector<ImageFile> files;
    for (const FileEntry& file : listing.files) {
      if (!IsImageName(file.name)) {
        return DatasetInvalid(Named(Joined(folder, file.name)),
                              {"", "only .png, .jpg and .jpeg files in the folder of a class",
                               "another file", "convert it to PNG, or remove it"});
      }
      files.push_back({Joined(folder, file.name), 0, file.bytes, file.modified_ns});
    }
    if (files.empty()) {
      return DatasetInvalid(Named(folder), {"", "at least one image of the class", "no image",
                                            "put images there, or remove the folder"});
    }
    count_ += static_cast<int64_t>(files.size());
    if (count_ > DataRoot::kMostFiles) {
      return DatasetTooLarge(dataset_, {"", fmt::format("at most {} files", DataRoot::kMostFiles),
                                        "more", "divide the data set into several"});
    }
    ESPALIER_RETURN_IF_ERROR(options_.CheckMemory(dataset_, count_ * kBytesPerFile));
    ESPALIER_RETURN_IF_ERROR(options_.CheckGoesOn());
    return files;
  }

  const DataRoot& root_;
  const std::string& dataset_;
  const LoadOptions& options_;
  int64_t count_ = 0;
};

// The number that a class's name is, or −1.
int32_t NumberOf(const std::string& name) {
  int32_t number = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  const bool whole = error == std::errc() && end == name.data() + name.size();
  return whole && number >= 0 && number < kMaxClasses ? number : -1;
}

// Names to labels, over both parts.
void NumberClasses(std::vector<Class>& train, std::vector<Class>& test, ImageFolder& folder) {
  std::set<std::string> names;
  for (const std::vector<Class>* part : {&train, &test}) {
    for (const Class& one : *part) names.insert(one.name);
  }
  const bool numbers = std::all_of(names.begin(), names.end(),
                                   [](const std::string& name) { return NumberOf(name) >= 0; });
  if (!numbers) folder.classes.assign(names.begin(), names.end());
  for (std::vector<Class>* part : {&train, &test}) {
    for (Class& one : *part) {
      const auto label =
          numbers ? NumberOf(one.name)
                  : static_cast<int32_t>(std::distance(names.begin(), names.find(one.name)));
      for (ImageFile& file : one.files) file.label = label;
      folder.num_classes = std::max(folder.num_classes, label + 1);
    }
  }
}

absl::Status SortByHash(std::vector<ImageFile>& files, const LoadOptions& options) {
  std::vector<std::pair<std::string, ImageFile>> keyed;
  keyed.reserve(files.size());
  for (ImageFile& file : files) {
    ESPALIER_RETURN_IF_ERROR(options.CheckGoesOn());
    std::string key = io::Sha256Hex(std::string_view(file.path).substr(file.path.rfind('/') + 1));
    keyed.emplace_back(std::move(key), std::move(file));
  }
  ESPALIER_RETURN_IF_ERROR(SortUnlessCancelled(
      options, [&](const auto& less) { std::sort(keyed.begin(), keyed.end(), less); },
      [](const auto& a, const auto& b) { return a.first < b.first; }));
  std::transform(keyed.begin(), keyed.end(), files.begin(),
                 [](auto& entry) { return std::move(entry.second); });
  return absl::OkStatus();
}

// The examples of all classes, each spread evenly over the whole.
absl::StatusOr<std::vector<ImageFile>> Interleaved(std::vector<Class> classes,
                                                   const LoadOptions& options) {
  struct Place {
    size_t one;
    size_t index;
    int64_t odd;   // 2i + 1
    int64_t size;  // n
  };
  std::vector<Place> places;
  for (size_t c = 0; c < classes.size(); ++c) {
    ESPALIER_RETURN_IF_ERROR(SortByHash(classes[c].files, options));
    const size_t size = classes[c].files.size();
    for (size_t i = 0; i < size; ++i) {
      places.push_back({c, i, static_cast<int64_t>(2 * i + 1), static_cast<int64_t>(size)});
    }
  }
  ESPALIER_RETURN_IF_ERROR(SortUnlessCancelled(
      options, [&](const auto& less) { std::stable_sort(places.begin(), places.end(), less); },
      [](const Place& a, const Place& b) { return a.odd * b.size < b.odd * a.size; }));
  std::vector<ImageFile> files;
  files.reserve(places.size());
  for (const Place& place : places) {
    files.push_back(std::move(classes[place.one].files[place.index]));
  }
  return files;
}

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The folder of the test images; "" when there is none.
std::string TestFolder(const std::vector<std::string>& names) {
  for (const char* name : {"test", "val", "validation", "valid"}) {
    if (Contains(names, name)) return name;
  }
  return "";
}

// Both parts, files by name.
struct Parts {
  std::vector<Class> train;
  std::vector<Class> test;
};

absl::StatusOr<Parts> ListParts(const DataRoot& root, const std::string& dataset,
                                const LoadOptions& options) {
  Lister lister(root, dataset, options);
  ESPALIER_ASSIGN_OR_RETURN(const FolderListing top, lister.List(""));
  FolderListing train;
  if (Contains(top.folders, "train")) {
    ESPALIER_ASSIGN_OR_RETURN(train, lister.List("train"));
  }
  // A class may be called "train"; then its images are there, beside those of other classes.
  const bool divided = !train.folders.empty();
  if (!divided && Contains(top.folders, "train") &&
      (top.folders.size() == 1 || !TestFolder(top.folders).empty())) {
    return DatasetInvalid(dataset + "/train",
                          {"", "a folder for each class, with PNG or JPEG images in it",
                           "no folders", "put the images into train/CLASS/"});
  }
  Parts parts;
  ESPALIER_ASSIGN_OR_RETURN(parts.train,
                            lister.Classes(divided ? "train" : "", divided ? train : top));
  const std::string test = divided ? TestFolder(top.folders) : "";
  if (!test.empty()) {
    ESPALIER_ASSIGN_OR_RETURN(const FolderListing listing, lister.List(test));
    ESPALIER_ASSIGN_OR_RETURN(parts.test, lister.Classes(test, listing));
  }
  return parts;
}

}  // namespace

bool HoldsImageFolders(const DataRoot& root, const std::string& dataset,
                       const LoadOptions& options) {
  const Lister lister(root, dataset, options);
  const auto top = lister.List("");
  if (!top.ok()) return false;
  for (const std::string& name : top->folders) {
    const auto inner = lister.List(name);
    if (!inner.ok()) continue;
    if (HasImage(*inner)) return true;
    if (name != "train") continue;
    for (const std::string& deeper : inner->folders) {
      const auto images = lister.List(Joined(name, deeper));
      if (images.ok() && HasImage(*images)) return true;
    }
  }
  return false;
}

absl::StatusOr<ImageFolder> ListImages(const DataRoot& root, const std::string& dataset,
                                       const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(Parts parts, ListParts(root, dataset, options));
  ImageFolder folder;
  NumberClasses(parts.train, parts.test, folder);
  ESPALIER_ASSIGN_OR_RETURN(folder.train, Interleaved(std::move(parts.train), options));
  ESPALIER_ASSIGN_OR_RETURN(folder.test, Interleaved(std::move(parts.test), options));
  return folder;
}

int64_t ListingBytes(const ImageFolder& folder) {
  return static_cast<int64_t>(folder.train.size() + folder.test.size()) * kBytesPerFile;
}

absl::StatusOr<std::string> FingerprintOfImages(const DataRoot& root, const std::string& dataset,
                                                const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const Parts parts, ListParts(root, dataset, options));
  io::Sha256 digest;
  for (const std::vector<Class>* part : {&parts.train, &parts.test}) {
    for (const Class& one : *part) {
      for (const ImageFile& file : one.files) {
        digest.Update(fmt::format("{}\n{} {}\n", file.path, file.bytes, file.modified_ns));
      }
    }
  }
  return digest.HexDigest();
}

}  // namespace espalier::worker::data
