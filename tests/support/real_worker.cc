#include "tests/support/real_worker.h"

#include <gtest/gtest.h>

#include "common/base/status.h"
#include "worker/data/describe/description_cache.h"
#include "worker/data/load.h"

namespace espalier::test {

RealWorker::RealWorker(const std::string& id, const std::string& data_root,
                       const std::string& state_dir, server::scheduler::Fleet& fleet,
                       server::jobs::JobManager& jobs, server::round::BlobStore& blobs, int threads)
    : FakeWorker(id, {}, fleet, jobs, blobs),
      data_root_(data_root),
      executor_(
          {.data_root = data_root, .state_dir = state_dir, .threads = threads},
          [this](const v1::BlobRef& ref) -> absl::StatusOr<std::string> { return Fetch(ref); }) {
  // A data set may be of use only in the view of a job.
  std::vector<std::string> problems;
  SetDatasets(worker::data::ScanDataRoot(data_root, problems));
}

v1::DatasetInfo RealWorker::Describe(const v1::DataSpec& view) {
  return worker::data::DescribeOrExplain(data_root_, view, {});
}

absl::StatusOr<Update> RealWorker::Run() {
  executor_.BeginTask();
  ESPALIER_ASSIGN_OR_RETURN(worker::tasks::Partial partial, executor_.Run(task()));
  Update update{std::move(partial.header), std::move(partial.body)};
  Complete(update);
  return update;
}

Update RealWorker::Compute() {
  auto update = Run();
  EXPECT_TRUE(update.ok()) << update.status();
  return update.ok() ? *std::move(update) : Update();
}

void RealWorker::Work() {
  const auto update = Run();
  if (update.ok()) {
    Send(*update);
  } else {
    Fail(base::ReasonOf(update.status()), base::MessageOf(update.status()));
  }
}

}  // namespace espalier::test
