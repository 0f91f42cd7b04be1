#include "common/base/sleep.h"

#include <gtest/gtest.h>

#include <chrono>
#include <stop_token>
#include <thread>

namespace espalier::base {
namespace {

TEST(SleepTest, LastsItsTimeWhenNobodyStopsIt) {
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(SleepUnlessStopped(std::chrono::milliseconds(2), std::stop_source().get_token()));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(2));
}

TEST(SleepTest, DoesNotBeginWhenItIsStoppedAlready) {
  std::stop_source source;
  source.request_stop();
  EXPECT_FALSE(SleepUnlessStopped(std::chrono::hours(1), source.get_token()));
}

TEST(SleepTest, EndsWhenItIsStopped) {
  std::stop_source source;
  const std::jthread other([&source] { source.request_stop(); });
  EXPECT_FALSE(SleepUnlessStopped(std::chrono::hours(1), source.get_token()));
}

}  // namespace
}  // namespace espalier::base
