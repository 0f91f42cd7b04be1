#include "common/io/host_memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

namespace espalier::io {
namespace {

// A /proc and a /sys of these files, in a folder of their own.
std::string Host(const std::map<std::string, std::string>& files) {
  static int next = 0;
  const std::string root = testing::TempDir() + "host-memory-" + std::to_string(next++);
  std::filesystem::remove_all(root);
  for (const auto& [path, text] : files) {
    std::filesystem::create_directories(std::filesystem::path(root + path).parent_path());
    std::ofstream(root + path) << text;
  }
  return root;
}

constexpr char kMemory[] = "MemFree:  1000 kB\nMemTotal:  8000 kB\nBuffers: 1 kB\n";

TEST(HostMemoryTest, IsThatOfTheMachineWithoutControlGroups) {
  EXPECT_EQ(HostMemoryBytes(Host({{"/proc/meminfo", kMemory}})), 8000u * 1024);
}

TEST(HostMemoryTest, IsTheLeastLimitOfAGroupAndThoseAroundIt) {
  const auto bytes = [](const std::string& own, const std::string& outer) {
    return HostMemoryBytes(Host({{"/proc/meminfo", kMemory},
                                 {"/proc/self/cgroup", "0::/outer/own\n"},
                                 {"/sys/fs/cgroup/outer/own/memory.max", own},
                                 {"/sys/fs/cgroup/outer/memory.max", outer}}));
  };
  EXPECT_EQ(bytes("3000000\n", "max\n"), 3'000'000u);
  EXPECT_EQ(bytes("max\n", "2000000\n"), 2'000'000u);
  EXPECT_EQ(bytes("3000000\n", "2000000\n"), 2'000'000u);
  EXPECT_EQ(bytes("max\n", "max\n"), 8000u * 1024);
  EXPECT_EQ(bytes("9000000000\n", "max\n"), 8000u * 1024);
}

TEST(HostMemoryTest, KnowsTheFirstVersionOfControlGroups) {
  EXPECT_EQ(HostMemoryBytes(
                Host({{"/proc/meminfo", kMemory},
                      {"/proc/self/cgroup", "9:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/x\n"},
                      {"/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "4000000\n"},
                      {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"}})),
            4'000'000u);
}

// A container sees its own group at the top, and its path as the host names it.
TEST(HostMemoryTest, ContainersGroupAtTheTopCounts) {
  EXPECT_EQ(HostMemoryBytes(Host({{"/proc/meminfo", kMemory},
                                  {"/proc/self/cgroup", "4:memory:/docker/abc\n"},
                                  {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "4000000\n"}})),
            4'000'000u);
  EXPECT_EQ(HostMemoryBytes(Host({{"/proc/meminfo", kMemory},
                                  {"/proc/self/cgroup", "0::/\n"},
                                  {"/sys/fs/cgroup/memory.max", "5000000\n"}})),
            5'000'000u);
}

TEST(HostMemoryTest, WhatCannotBeReadLimitsNothing) { EXPECT_EQ(HostMemoryBytes(Host({})), 0u); }

TEST(HostMemoryTest, ThisMachineHasMemory) { EXPECT_GT(HostMemoryBytes(), 100u << 20); }

}  // namespace
}  // namespace espalier::io
