#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/checkpoint/checkpoint_file.h"
#include "common/config/job_file.h"
#include "common/io/byte_codec.h"
#include "common/language/part_codec.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/planning/decision.h"
#include "server/methods/program_state_codec.h"
#include "server/reduce/saved.h"
#include "server/store/records/records.pb.h"
#include "server/store/seal.h"
#include "tests/fuzz/result_tasks.h"
#include "tests/fuzz/seeds/seeds.h"
#include "tests/fuzz/small_model.h"
#include "tests/support/language_model.h"

namespace espalier::fuzz {
namespace {

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void AddJobs(const Seeds& seeds, const std::string& examples) {
  for (const auto& entry : std::filesystem::directory_iterator(examples)) {
    if (entry.path().extension() != ".yaml") continue;
    const std::string name = entry.path().stem().string();
    const std::string text = Read(entry.path().string());
    seeds.Add("job", name, Chosen(1) + AsPart("federation.rounds=5") + text);
    std::vector<config::Violation> violations;
    const config::JobFile file = config::ParseJobFile(text, violations);
    seeds.Add("job", name + ".message", Chosen(0) + file.spec.SerializeAsString());
  }
  const std::string_view assignments[] = {"model.layers[0].linear.units=100", "data.partition=null",
                                          "method.parameters.density=0.5", "seed: 3"};
  int index = 0;
  for (const std::string_view assignment : assignments) {
    seeds.Add("job", "assignment-" + std::to_string(index++),
              Chosen(1) + AsPart(assignment) + "seed: 1\n");
  }
}

void AddRecord(const Seeds& seeds, const std::string& name, int kind, const std::string& bytes) {
  seeds.Add("records", name, Chosen(kind, 1) + AsPart("row") + bytes);
  seeds.Add("records", name + ".sealed",
            Chosen(kind, 0) + AsPart("row") + server::store::Seal(bytes, "row"));
}

void AddRecords(const Seeds& seeds) {
  server::store::AcceptedJob accepted;
  accepted.mutable_spec()->mutable_data()->set_dataset("digits");
  accepted.set_request_id("id");
  accepted.set_workers(3);
  AddRecord(seeds, "accepted", 0, accepted.SerializeAsString());
  server::store::JobRecord job;
  job.mutable_job()->set_name("jobs/a");
  job.set_agreed(true);
  (*job.mutable_owners())[1] = "worker";
  AddRecord(seeds, "job", 1, job.SerializeAsString());
  server::store::ProgressRecord progress;
  server::store::RunRecord& run = *progress.add_runs();
  run.set_round(3);
  run.set_sent(10);
  run.mutable_since_round_start()->set_seconds(5);
  run.mutable_since_prelude_start()->set_nanos(7);
  run.mutable_sites();
  run.mutable_confusion();
  run.add_participants()->set_name("shard-1");
  progress.set_events(4);
  AddRecord(seeds, "progress", 2, progress.SerializeAsString());
  server::store::StateRecord state;
  state.set_state("ESPSTATE");
  state.add_files("file");
  AddRecord(seeds, "state", 3, state.SerializeAsString());
  server::store::UpdateRecord update;
  update.set_participant("shard-1");
  update.mutable_header()->set_update_id("u");
  update.set_bytes("body");
  AddRecord(seeds, "update", 4, update.SerializeAsString());
  v1::JobEvent event;
  event.set_sequence(1);
  event.mutable_round_started()->set_round(2);
  AddRecord(seeds, "event", 5, event.SerializeAsString());
}

tensor::ModelState SmallState() {
  tensor::ModelState state;
  state.topology = SmallStructure();
  state.values = StartValues();
  return state;
}

void AddStates(const Seeds& seeds) {
  server::methods::ProgramState state;
  state.model = SmallState();
  state.phase = "train";
  state.memory = "memory";
  state.server.momentum = std::make_shared<const std::vector<float>>(state.model.values);
  state.server.controls["shard-1"] = state.server.momentum;
  state.kept = std::make_shared<const tensor::ModelState>(state.model);
  state.step.emplace();
  state.step->task = TrainTask();
  state.step->task.clear_model();
  seeds.Add("program_state", "state", Chosen(0) + server::methods::EncodeProgramState(state));
  server::methods::ProgramState own;
  own.model_spec = std::make_shared<const v1::ModelSpec>(TrainTask().model().spec());
  own.runs = {state, state};
  for (server::methods::ProgramState& run : own.runs) run.kept = nullptr;
  own.runs[1].step.reset();
  own.runs[1].run = "second";
  seeds.Add("program_state", "runs", Chosen(0) + server::methods::EncodeProgramState(own));
  const support::LanguageModel model =
      support::RandomLanguageModel(support::SmallConfig("llama"), 1, 0.5);
  seeds.Add("program_state", "block", Chosen(1) + language::EncodeBlock(model.blocks[0]));
  seeds.Add("program_state", "outer", Chosen(2) + language::EncodeOuter(model.outer));
  server::methods::Evolution decision;
  decision.push_back({0, {{1, 4}, {4, 21}}, {}});
  seeds.Add("program_state", "decision", Chosen(3) + server::methods::EncodeDecision(decision));
  decision[0].diff.grown.clear();
  decision[0].growth_key = 7;
  seeds.Add("program_state", "drawn", Chosen(3) + server::methods::EncodeDecision(decision));
}

// The sums of two participants.
void AddSums(const Seeds& seeds) {
  using server::reduce::SavedKind;
  constexpr size_t kFrame = 13;
  constexpr size_t kChecksum = 4;
  int index = 0;
  for (const ResultTask& task : ResultTasks()) {
    const auto reducer = ReducerOf(task);
    for (const char* name : {"a", "b"}) {
      server::reduce::Partial partial;
      partial.participant = name;
      partial.examples = 2;
      partial.loss_sum = 1;
      partial.metric_sums["top_5"] = 1;
      const int64_t count = wire::ResultLayoutOf(task.task, *SmallStructure()).values;
      if (count > 0) {
        partial.values_count = count;
        partial.values = [count](const auto& sink) {
          return sink(std::vector<float>(static_cast<size_t>(count), 0.5F));
        };
      }
      if (task.kind == server::reduce::ReducerKind::kMetrics) partial.counts.assign(9, 1);
      (void)reducer->Merge(partial);
    }
    const auto saved = reducer->Save();
    ESPALIER_CHECK(saved.ok(), "what was merged can be saved");
    const std::string name = std::to_string(index);
    const auto kind = static_cast<int>((*saved)[kFrame - 1]);
    seeds.Add("saved_sums", name,
              Chosen(index, kind) + saved->substr(kFrame, saved->size() - kFrame - kChecksum));
    seeds.Add("saved_sums", name + ".framed",
              Chosen(index, static_cast<int>(SavedKind::kKept) + 1) + *saved);
    ++index;
  }
}

void AddAnswers(const Seeds& seeds) {
  const std::string head = Chosen(152) + AsPart("eu-central-1");
  seeds.Add(
      "s3_answer", "error",
      head +
          "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code><Message>The "
          "key &quot;a&quot; is &#x6e;ot there</Message><Region>x</Region></Error>");
  seeds.Add(
      "s3_answer", "list",
      head +
          "<ListBucketResult xmlns=\"http://s3\"><!-- c "
          "--><IsTruncated>true</IsTruncated><Contents><Key>a"
          "</Key></Contents><s:CommonPrefixes><Prefix><![CDATA[b/]]></Prefix></s:CommonPrefixes>"
          "<NextContinuationToken/></ListBucketResult>");
}

void AddNetworks(const Seeds& seeds) {
  checkpoint::CheckpointMetadata metadata;
  metadata.job = "a";
  metadata.round = 3;
  metadata.model_spec = TrainTask().model().spec();
  metadata.data_spec.emplace().set_dataset("digits");
  metadata.main_metric_name = "accuracy";
  metadata.main_metric = 0.5;
  metadata.create_time = absl::FromUnixSeconds(1'700'000'000);
  const Folder folder;
  const checkpoint::AttachedFile tokenizer{"tokenizer.json", "{}"};
  const auto written = checkpoint::WriteCheckpointFile(io::PosixFileSystem(), folder / "a",
                                                       SmallState(), metadata, {{tokenizer}});
  ESPALIER_CHECK(written.ok(), "a checkpoint can be written");
  seeds.Add("network_file", "network", Chosen(1) + Read(folder / "a"));
  seeds.Add("network_file", "as-it-is", Chosen(0) + Read(folder / "a"));
}

}  // namespace

void AddServerSeeds(const Seeds& seeds, const std::string& examples) {
  AddJobs(seeds, examples);
  AddRecords(seeds);
  AddStates(seeds);
  AddSums(seeds);
  AddAnswers(seeds);
  AddNetworks(seeds);
}

}  // namespace espalier::fuzz
