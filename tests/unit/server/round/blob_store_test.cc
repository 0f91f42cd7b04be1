#include "server/round/blob_store.h"

#include <gtest/gtest.h>

namespace espalier::server::round {
namespace {

TEST(BlobStoreTest, EveryJobIsChargedForItsOwnTransfersOfTheSameBytes) {
  BlobStore store;
  const auto first = store.Put("model", true, std::make_shared<Traffic>("jobs/first"));
  const auto second = store.Put("model", true, std::make_shared<Traffic>("jobs/second"));
  ASSERT_EQ(first->digest, second->digest);
  for (const auto& blob : {first, second}) {
    store.Get(blob->digest, blob->traffic->job)->Charge(5);
    EXPECT_EQ(blob->traffic->sent, 5);
    EXPECT_EQ(blob->traffic->values_sent, 5);
  }
}

TEST(BlobStoreTest, WhoeverHoldsTheBytesServesThem) {
  BlobStore store;
  const auto blob = store.Put("model", true, std::make_shared<Traffic>("jobs/first"));
  EXPECT_EQ(store.Get(blob->digest, "jobs/other"), blob);
  EXPECT_EQ(store.Get(blob->digest, ""), blob);
}

TEST(BlobStoreTest, ABlobEndsWithItsLastHandle) {
  BlobStore store;
  auto blob = store.Put("model", true, std::make_shared<Traffic>("jobs/first"));
  const std::string digest = blob->digest;
  blob.reset();
  EXPECT_EQ(store.Get(digest, "jobs/first"), nullptr);
}

}  // namespace
}  // namespace espalier::server::round
