#include "common/wire/model_spec/channel_groups.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::wire {
namespace {

using ::testing::ElementsAre;

// "<channels>[ fixed]: <tensor><r or c>×<width> …", one text for each group.
std::vector<std::string> Describe(const std::string& text) {
  v1::ModelSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  const std::vector<ChannelGroup> groups = ChannelGroups(spec).value();
  std::vector<std::string> lines;
  for (const ChannelGroup& group : groups) {
    std::string& line =
        lines.emplace_back(fmt::format("{}{}:", group.channels, group.fixed ? " fixed" : ""));
    for (const auto& [tensor, axis, width] : group.members) {
      line += fmt::format(" {}{}", tensor, axis == ChannelMember::Axis::kRows ? "r" : "c");
      if (width > 1) line += fmt::format("×{}", width);
    }
  }
  return lines;
}

TEST(ChannelGroupsTest, UnitsOfAPerceptronAreRowsOfOneLayerAndColumnsOfTheNext) {
  EXPECT_THAT(Describe("input_features: 8 layers { linear { units: 6 } } "
                       "layers { batch_norm {} } layers { linear { units: 3 no_bias: true } }"),
              ElementsAre("8 fixed: 0c", "6: 0r 1r 2r 3r 4r 5r 6c", "3 fixed: 6r"));
}

TEST(ChannelGroupsTest, ResidualLayersCoupleTheirBranchesAndFlattenKeepsPositionsTogether) {
  EXPECT_THAT(Describe(R"pb(
                input_image { channels: 2 height: 6 width: 4 }
                layers { conv2d { channels: 3 no_bias: true } }
                layers {
                  residual {
                    body { conv2d { channels: 4 standardize: true } }
                    body { conv2d { channels: 3 } }
                  }
                }
                layers {
                  residual {
                    body { conv2d { channels: 5 no_bias: true } }
                    shortcut { conv2d { channels: 5 kernel: 1 no_bias: true } }
                  }
                }
                layers { max_pool {} }
                layers { flatten {} }
                layers { batch_norm {} }
                layers { linear { units: 7 } })pb"),
              ElementsAre("2 fixed: 0c×9",
                          // The first block adds to what it is given.
                          "3: 0r 1c×9 4r 5r 6c×9 7c", "4: 1r 2r 3r 4c×9",
                          // 3 × 2 positions of each channel are left after pooling.
                          "5: 6r 7r 8r×6 9r×6 10r×6 11r×6 12c×6", "7 fixed: 12r 13r"));
}

TEST(ChannelGroupsTest, ABlockThatAddsToTheExamplesHasFixedChannels) {
  EXPECT_THAT(Describe("input_image { channels: 2 height: 4 width: 4 } "
                       "layers { residual { body { conv2d { channels: 2 no_bias: true } } } } "
                       "layers { linear { units: 3 no_bias: true } }"),
              ElementsAre("2 fixed: 0r 0c×9 1c×16", "3 fixed: 1r"));
}

TEST(ChannelGroupsTest, OtherModelsHaveNone) {
  v1::ModelSpec spec;
  spec.mutable_recommender()->set_users(3);
  spec.mutable_recommender()->set_items(4);
  spec.mutable_recommender()->mutable_lightgcn();
  EXPECT_EQ(base::ReasonOf(ChannelGroups(spec).status()), "NO_CHANNELS");
}

}  // namespace
}  // namespace espalier::wire
