#include "server/api/received_body.h"

#include <gtest/gtest.h>

#include <string>

#include "common/io/sha256.h"
#include "tests/support/fake_clock.h"

namespace espalier::server::api {
namespace {

class UnfinishedBodiesTest : public testing::Test {
 protected:
  // The first half of `text` has arrived of a body with the digest of `announced`.
  std::unique_ptr<ReceivedBody> Half(const std::string& text, const std::string& announced) {
    auto spool = io::SpoolFile::Create(
        io::PosixFileSystem(), testing::TempDir() + "received-body-" + std::to_string(next_++));
    auto body = std::make_unique<ReceivedBody>(announced.size(), io::Sha256Hex(announced),
                                               *std::move(spool));
    EXPECT_TRUE(body->Add(wire::MakeChunk(0, text.substr(0, text.size() / 2))).ok());
    return body;
  }

  const std::string good_ = std::string(1000, 'g');
  test::FakeClock clock_;
  UnfinishedBodies bodies_{clock_};

 private:
  int next_ = 0;
};

TEST_F(UnfinishedBodiesTest, TheSameWorkerGoesOnWhereItsUploadBroke) {
  bodies_.Keep("w1", Half(good_, good_));
  auto body = bodies_.Take("w1", io::Sha256Hex(good_), good_.size());
  ASSERT_NE(body, nullptr);
  EXPECT_EQ(body->received(), 500U);
  EXPECT_TRUE(body->Add(wire::MakeChunk(500, good_.substr(500))).ok());
  EXPECT_TRUE(body->Finish().ok());
  EXPECT_EQ(bodies_.Take("w1", io::Sha256Hex(good_), good_.size()), nullptr);
}

// What somebody else left under a digest may be anything; who goes on with it would be blamed.
TEST_F(UnfinishedBodiesTest, NobodyGoesOnWithWhatAnotherWorkerLeft) {
  bodies_.Keep("hostile", Half(std::string(1000, 'b'), good_));
  EXPECT_EQ(bodies_.Take("w1", io::Sha256Hex(good_), good_.size()), nullptr);
  bodies_.Keep("w1", Half(good_, good_));
  ASSERT_NE(bodies_.Take("w1", io::Sha256Hex(good_), good_.size()), nullptr);
}

TEST_F(UnfinishedBodiesTest, WhatIsLongAgoIsForgotten) {
  bodies_.Keep("w1", Half(good_, good_));
  clock_.Advance(UnfinishedBodies::kKept + absl::Seconds(1));
  EXPECT_EQ(bodies_.Take("w1", io::Sha256Hex(good_), good_.size()), nullptr);
}

}  // namespace
}  // namespace espalier::server::api
