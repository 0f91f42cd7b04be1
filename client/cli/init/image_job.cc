// Images in a folder for each class: a convolutional network.
#include <algorithm>

#include "client/cli/init/draft.h"
#include "client/cli/init/network.h"
#include "client/cli/init/sections.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "fmt/format.h"

namespace espalier::cli::init {
namespace {

// Larger images are scaled to squares of kScaledSide.
constexpr int64_t kMostSide = 64;
constexpr int64_t kScaledSide = 32;
constexpr int64_t kColours = 3;

v1::DataSpec View(int64_t side, int64_t channels) {
  v1::DataSpec view;
  view.set_format(v1::DataSpec::FORMAT_IMAGES);
  if (side == 0) return view;
  view.mutable_image_size()->set_height(side);
  view.mutable_image_size()->set_width(side);
  view.mutable_image_size()->set_channels(channels);
  return view;
}

struct Images {
  Look look;
  std::string size_lines;  // of the job file
};

// Images as they are, or brought to one size where they differ or are large.
absl::StatusOr<Images> ReadImages(const Looker& look, Draft& draft) {
  Images images;
  const v1::DataSpec plain = View(0, 0);
  ESPALIER_ASSIGN_OR_RETURN(images.look, look(&plain));
  const v1::DatasetInfo info = images.look.info;
  if (!info.problem().empty()) return Unusable(info.problem());
  const bool alike = info.image_height() > 0;
  const int64_t longest = std::max(info.image_height(), info.image_width());
  if (alike && longest <= kMostSide) return images;
  const int64_t channels = alike ? info.image_channels() : kColours;
  const v1::DataSpec scaled = View(kScaledSide, channels);
  ESPALIER_ASSIGN_OR_RETURN(images.look, look(&scaled));
  if (!images.look.info.problem().empty()) return Unusable(images.look.info.problem());
  const std::string why =
      alike ? fmt::format("images have {} × {} pixels", info.image_height(), info.image_width())
            : "images differ in size or colours";
  draft.findings.push_back(fmt::format(
      "All are scaled to {0} × {0} pixels, since {1}; larger ones show more and take longer.",
      kScaledSide, why));
  images.size_lines = fmt::format(
      "  # The {}. Use the same sizes in model.input_image; channels: 1 makes them grey.\n"
      "  image_size: {{height: {}, width: {}, channels: {}}}\n",
      why, kScaledSide, kScaledSide, channels);
  return images;
}

}  // namespace

absl::StatusOr<Draft> ImageJob(const Source& source, const Wishes& wishes, const Looker& look) {
  Draft draft;
  ESPALIER_ASSIGN_OR_RETURN(const Images images, ReadImages(look, draft));
  const v1::DatasetInfo& info = images.look.info;
  const Network network = ConvolutionalNetwork(info);
  ESPALIER_ASSIGN_OR_RETURN(
      const MethodChoice method,
      ChooseMethod(wishes.method, network.density, {"rigl", "set", "static", "dense"}));
  const bool held_out = info.test_examples() == 0;
  draft.dataset = info;
  const std::string names = ClassesOf(info);
  draft.findings.insert(
      draft.findings.begin(),
      fmt::format("It holds {} in {}, a folder for each: {}.{}",
                  Counted(info.train_examples() + info.test_examples(), "image"),
                  Counted(info.classes(), "class", "classes"), names,
                  held_out
                      ? " There is no folder `test`: a fifth of each class is kept for testing."
                      : fmt::format(" {} of them are for testing.",
                                    config::Grouped(info.test_examples()))));
  std::string data = fmt::format(
      "data:\n  dataset: {}  # classes {}\n"
      "{}"
      "  scale: 255  # values are bytes\n"
      "  normalization: federated  # channels get mean 0 and standard deviation 1, over all sites\n"
      "  # For photographs, not for letters or digits:\n"
      "  # augmentation: {{crop_padding: 2, horizontal_flip: true}}\n",
      YamlName(source.name), names, images.size_lines);
  if (held_out) {
    data +=
        "  # There is no folder `test`: this share of each class is kept for testing.\n"
        "  test_fraction: 0.2\n";
  }
  Compose(source, wishes,
          {.heading = Heading(source, "images in folders by class"),
           .network = network.section,
           .work = network.work,
           .data = data,
           .method = method,
           .evaluate_every = 2},
          draft);
  return draft;
}

}  // namespace espalier::cli::init
