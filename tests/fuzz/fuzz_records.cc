// What the coordinator's store keeps of jobs: sealed values, and the records in them. What is
// opened is what was sealed, and a record of a run is the same after it was read and written again.
#include <cstdint>
#include <string>

#include "server/jobs/durable/run_record.h"
#include "server/store/records/records.pb.h"
#include "server/store/seal.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/messages.h"

namespace {

using espalier::fuzz::Input;
using espalier::fuzz::Require;
namespace jobs = espalier::server::jobs;
namespace store = espalier::server::store;

template <typename Record>
void ReadRecord(const std::string& bytes) {
  Record record;
  if (!espalier::fuzz::Parse(bytes, record)) return;
  Record again;
  Require(again.ParseFromString(record.SerializeAsString()),
          "a record that was read can be written");
  Require(again.ByteSizeLong() == record.ByteSizeLong(), "a record is as long as it was");
}

void ReadRuns(const std::string& bytes) {
  store::ProgressRecord progress;
  if (!espalier::fuzz::Parse(bytes, progress)) return;
  constexpr absl::Duration kNow = absl::Hours(1);
  for (const store::RunRecord& run : progress.runs()) {
    const store::RunRecord once = jobs::RecordOf(*jobs::BranchOf(run, "jobs/a", kNow), kNow);
    const store::RunRecord twice = jobs::RecordOf(*jobs::BranchOf(once, "jobs/a", kNow), kNow);
    Require(once.participants_size() == run.participants_size() && once.round() == run.round(),
            "a run has its participants and its round");
    Require(once.ByteSizeLong() == twice.ByteSizeLong(), "a record of a run is as long as it was");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const int kind = input.Choice(6);
  const bool honest = input.Choice(2) == 1;
  const std::string row(input.Part());
  std::string bytes(input.Rest());
  if (!honest) {
    const auto opened = store::Unseal(bytes, row);
    if (!opened.has_value()) return 0;
    Require(store::Seal(*opened, row) == bytes, "what was opened is what was sealed");
    bytes = *opened;
  }
  const std::string sealed = store::Seal(bytes, row);
  Require(store::Unseal(sealed, row) == bytes, "what was sealed can be opened");
  Require(!store::Unseal(sealed, row + "x").has_value(), "a value of another row is refused");
  switch (kind) {
    case 0:
      ReadRecord<store::AcceptedJob>(bytes);
      break;
    case 1:
      ReadRecord<store::JobRecord>(bytes);
      break;
    case 2:
      ReadRuns(bytes);
      break;
    case 3:
      ReadRecord<store::StateRecord>(bytes);
      break;
    case 4:
      ReadRecord<store::UpdateRecord>(bytes);
      break;
    default:
      ReadRecord<espalier::v1::JobEvent>(bytes);
  }
  return 0;
}
