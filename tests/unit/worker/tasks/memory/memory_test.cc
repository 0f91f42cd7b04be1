#include "worker/tasks/memory/memory.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <new>
#include <stdexcept>
#include <string>

#include "common/base/status.h"

namespace espalier::worker::tasks {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kMegabyte = 1'000'000;

v1::Task TrainingTask(int64_t units) {
  v1::Task task;
  task.mutable_data()->set_dataset("digits");
  v1::ModelSpec& spec = *task.mutable_model()->mutable_spec();
  spec.set_input_features(1000);
  spec.add_layers()->mutable_linear()->set_units(units);
  task.mutable_model()->mutable_values()->set_size_bytes(4 * 1001 * units);
  task.mutable_train()->mutable_training()->set_batch_size(16);
  return task;
}

class WithinMemoryTest : public ::testing::Test {
 protected:
  absl::StatusOr<Partial> Run(const std::function<absl::StatusOr<Partial>()>& run,
                              int64_t limit = 700 * kMegabyte, int64_t units = 100) {
    return WithinMemory(
        TrainingTask(units), {limit, "RLIMIT_AS"},
        [&] {
          ++runs_;
          return run();
        },
        [this] { ++forgotten_; });
  }

  int runs_ = 0;
  int forgotten_ = 0;
};

TEST_F(WithinMemoryTest, TaskThatFitsIsLeftAlone) {
  EXPECT_TRUE(Run([] { return Partial(); }).ok());
  EXPECT_EQ(base::ReasonOf(Run([] { return base::NotFound("X", ""); }).status()), "X");
  EXPECT_EQ(forgotten_, 0);
}

TEST_F(WithinMemoryTest, EveryWayToRunOutSaysTheSizesAndFreesWhatIsKept) {
  const std::function<absl::StatusOr<Partial>()> ways[] = {
      []() -> absl::StatusOr<Partial> { throw std::bad_alloc(); },
      []() -> absl::StatusOr<Partial> { throw std::length_error("vector"); },
      []() -> absl::StatusOr<Partial> {
        return base::MakeError(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY", "data");
      }};
  for (const auto& way : ways) {
    const absl::Status status = Run(way).status();
    EXPECT_EQ(base::ReasonOf(status), "OUT_OF_MEMORY");
    EXPECT_THAT(base::MessageOf(status),
                AllOf(HasSubstr("model of 0.4 MB of values"), HasSubstr("batches of 16"),
                      HasSubstr("'digits'"), HasSubstr("at most 700.0 MB (RLIMIT_AS)"),
                      HasSubstr("are in use")));
  }
  EXPECT_EQ(forgotten_, 3);
}

TEST_F(WithinMemoryTest, TaskBeyondTheLimitIsNotBegun) {
  const absl::Status status =
      Run([] { return Partial(); }, 700 * kMegabyte, /*units=*/1'000'000).status();
  EXPECT_EQ(base::ReasonOf(status), "OUT_OF_MEMORY");
  EXPECT_THAT(base::MessageOf(status), AllOf(HasSubstr("in all"), HasSubstr("not begun")));
  EXPECT_EQ(runs_, 0);
}

class MemoryLimitTest : public ::testing::Test {
 protected:
  MemoryLimitTest() {
    std::string pattern = ::testing::TempDir() + "/limits-XXXXXX";
    root_ = ::mkdtemp(pattern.data());
  }
  ~MemoryLimitTest() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }

  std::string root_;
};

TEST_F(MemoryLimitTest, MachineIsTheLimitWithoutAnyOther) {
  const MemoryLimit limit = FindMemoryLimit(root_);
  EXPECT_GT(limit.bytes, 100 * kMegabyte);
  EXPECT_EQ(limit.source, "this machine");
}

TEST_F(MemoryLimitTest, SmallestGroupAboveTheProcessCounts) {
  Write("/proc/self/cgroup", "0::/a/b\n");
  Write("/sys/fs/cgroup/a/b/memory.max", "max\n");
  Write("/sys/fs/cgroup/a/memory.max", "50000000\n");
  Write("/sys/fs/cgroup/memory.max", "80000000\n");
  EXPECT_EQ(FindMemoryLimit(root_).bytes, 50 * kMegabyte);
  EXPECT_EQ(FindMemoryLimit(root_).source, "the control group");
}

TEST_F(MemoryLimitTest, GroupsOfTheFirstVersionCount) {
  Write("/proc/self/cgroup", "5:cpu,memory:/docker/x\n0::/\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "60000000\n");
  EXPECT_EQ(FindMemoryLimit(root_).bytes, 60 * kMegabyte);
  Write("/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "40000000\n");
  EXPECT_EQ(FindMemoryLimit(root_).bytes, 40 * kMegabyte);
}

TEST_F(MemoryLimitTest, AddressSpaceCounts) {
  rlimit before{};
  getrlimit(RLIMIT_AS, &before);
  const rlimit small = {rlim_t{2'000'000'000}, before.rlim_max};
  setrlimit(RLIMIT_AS, &small);
  const MemoryLimit limit = FindMemoryLimit(root_);
  setrlimit(RLIMIT_AS, &before);
  EXPECT_EQ(limit.bytes, 2000 * kMegabyte);
  EXPECT_EQ(limit.source, "RLIMIT_AS");
}

}  // namespace
}  // namespace espalier::worker::tasks
