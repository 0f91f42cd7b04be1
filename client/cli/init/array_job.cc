// Arrays with labels under well-known names: IDX, CIFAR-10's binary format, NumPy.
#include "client/cli/init/draft.h"
#include "client/cli/init/network.h"
#include "client/cli/init/sections.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "fmt/format.h"

namespace espalier::cli::init {
namespace {

std::string Shape(const v1::DatasetInfo& info) {
  if (info.image_height() == 0) return Counted(info.features(), "feature");
  return fmt::format("{} × {} × {} values (channels, height, width)", info.image_channels(),
                     info.image_height(), info.image_width());
}

// Bytes have one scale; other numbers may have any.
std::string ScaleLines(const v1::DatasetInfo& info) {
  if (info.format() == "npy") return NormalizationLine(info.features(), "feature");
  std::string lines = "  scale: 255  # values are bytes: this brings them to 0..1\n";
  if (info.image_channels() > 1) {
    lines += NormalizationLine(info.image_channels(), "channel");
  }
  if (info.format() != "cifar10") return lines;
  return lines +
         "  # Photographs mean the same when they are shifted a little or mirrored.\n"
         "  augmentation: {crop_padding: 4, horizontal_flip: true}\n";
}

}  // namespace

absl::StatusOr<Draft> ArrayJob(const Source& source, const Wishes& wishes, const Look& looks) {
  const v1::DatasetInfo& info = looks.info;
  if (info.train_examples() == 0) return TooLarge();
  const bool colours = info.image_channels() > 1;
  const Network network = colours ? ConvolutionalNetwork(info) : LinearNetwork(info);
  ESPALIER_ASSIGN_OR_RETURN(
      const MethodChoice method,
      ChooseMethod(wishes.method, network.density,
                   colours ? std::vector<std::string>{"rigl", "set", "static", "dense"}
                           : std::vector<std::string>{"set", "rigl", "static", "dense"}));
  Draft draft;
  draft.dataset = info;
  draft.findings.push_back(
      fmt::format("It holds {} for training and {} for testing, each of {}, in {} ({}).",
                  Counted(info.train_examples(), "example"), config::Grouped(info.test_examples()),
                  Shape(info), Counted(info.classes(), "class", "classes"), info.format()));
  Compose(
      source, wishes,
      {.heading = Heading(source, Counted(info.train_examples(), "example") + " of " + Shape(info)),
       .network = network.section,
       .work = network.work,
       .data = fmt::format("data:\n  dataset: {}\n", YamlName(source.name)) + ScaleLines(info) +
               HoldOutLine(info, 0.2),
       .method = method,
       .evaluate_every = 2},
      draft);
  TellIfSorted(source, looks, draft);
  return draft;
}

}  // namespace espalier::cli::init
