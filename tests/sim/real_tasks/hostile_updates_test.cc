// Every method beside a worker that does its tasks by the code of a worker process and then changes
// the result as a hostile one might: each such result is refused with its reason before it is added
// to anything, and the job ends with the bits of one that nobody disturbed.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <set>
#include <string>

#include "common/base/status.h"
#include "common/io/sha256.h"
#include "tests/sim/real_tasks/method_jobs.h"
#include "tests/support/language_model.h"

namespace espalier::test {
namespace {

using server::methods::FamilyOf;
using server::methods::MethodRegistry;

// What a hostile worker makes of a good result; false: this one has nothing of the kind.
struct Attack {
  std::string name;
  std::string reason;  // of the refusal
  std::function<bool(Update&)> change;
};

uint64_t PlaceOf(const v1::PartialHeader& header, int section) {
  uint64_t place = 0;
  for (int i = 0; i < section; ++i) place += header.sections(i).bytes();
  return place;
}

std::optional<int> SectionOf(const v1::PartialHeader& header, v1::SectionType type) {
  for (int i = 0; i < header.sections_size(); ++i) {
    if (header.sections(i).type() == type && header.sections(i).bytes() > 0) return i;
  }
  return std::nullopt;
}

// Puts `bytes` over the beginning of the first section of that type.
bool Overwrite(Update& update, v1::SectionType type, std::string_view bytes) {
  const std::optional<int> section = SectionOf(update.header, type);
  if (!section.has_value()) return false;
  if (update.header.sections(*section).bytes() < bytes.size()) return false;
  update.body.replace(PlaceOf(update.header, *section), bytes.size(), bytes);
  return true;
}

bool OverwriteValue(Update& update, float value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return Overwrite(update, v1::SECTION_TYPE_F32, bytes);
}

// What is wrong is in the header: the task stays with the worker.
std::vector<Attack> HeaderAttacks() {
  const auto header = [](const std::function<bool(v1::PartialHeader&)>& change) {
    return [change](Update& update) { return change(update.header); };
  };
  return {
      {"no sections", "SHAPE_MISMATCH", header([](auto& h) {
         h.clear_sections();
         h.set_body_bytes(h.body_bytes() + 4);
         return true;
       })},
      {"a section twice", "SHAPE_MISMATCH", header([](auto& h) {
         if (h.sections().empty()) return false;
         *h.add_sections() = v1::Section(h.sections(0));
         return true;
       })},
      {"another kind of section", "SHAPE_MISMATCH", header([](auto& h) {
         if (h.sections().empty()) return false;
         h.mutable_sections(0)->set_kind(h.sections(0).kind() == v1::SECTION_KIND_PREDICTIONS
                                             ? v1::SECTION_KIND_VALUES
                                             : v1::SECTION_KIND_PREDICTIONS);
         return true;
       })},
      {"another type of section", "SHAPE_MISMATCH", header([](auto& h) {
         if (h.sections().empty()) return false;
         h.mutable_sections(0)->set_type(h.sections(0).type() == v1::SECTION_TYPE_I64
                                             ? v1::SECTION_TYPE_F32
                                             : v1::SECTION_TYPE_I64);
         return true;
       })},
      {"a wrong count", "SHAPE_MISMATCH", header([](auto& h) {
         const auto values = SectionOf(h, v1::SECTION_TYPE_F32);
         if (!values.has_value()) return false;
         h.mutable_sections(*values)->set_count(h.sections(*values).count() + 1);
         return true;
       })},
      {"a body of another size", "SHAPE_MISMATCH", header([](auto& h) {
         h.set_body_bytes(h.body_bytes() + 1);
         return true;
       })},
      {"a body of 2^64 - 1 bytes", "SHAPE_MISMATCH", header([](auto& h) {
         h.set_body_bytes(std::numeric_limits<uint64_t>::max());
         return true;
       })},
      {"another structure", "TOPOLOGY_VERSION_MISMATCH", header([](auto& h) {
         h.set_topology_hash(std::string(64, 'a'));
         return true;
       })},
      {"examples below 0", "EXAMPLES_OUT_OF_RANGE", header([](auto& h) {
         h.set_examples(-1);
         return true;
       })},
      {"more examples than there are", "EXAMPLES_OUT_OF_RANGE", header([](auto& h) {
         h.set_examples(int64_t{1} << 40);
         return true;
       })},
      {"a loss that is none", "CLAIM_OUT_OF_RANGE", header([](auto& h) {
         h.set_loss_sum(std::nan(""));
         return true;
       })},
      {"more hits than examples", "CLAIM_OUT_OF_RANGE", header([](auto& h) {
         h.set_correct(h.examples() + 1);
         return true;
       })},
      {"a time that is none", "CLAIM_OUT_OF_RANGE", header([](auto& h) {
         h.mutable_compute_time()->set_seconds(std::numeric_limits<int64_t>::max());
         return true;
       })},
  };
}

// What is wrong is in the body.
std::vector<Attack> BodyAttacks() {
  return {
      {"not a number", "NON_FINITE",
       [](Update& update) { return OverwriteValue(update, std::nanf("")); }},
      {"infinite", "NON_FINITE",
       [](Update& update) {
         return OverwriteValue(update, std::numeric_limits<float>::infinity());
       }},
      {"huge", "VALUE_OUT_OF_RANGE",
       [](Update& update) { return OverwriteValue(update, std::numeric_limits<float>::max()); }},
      {"scores that are none", "SCORES_INVALID",
       [](Update& update) {
         return Overwrite(update, v1::SECTION_TYPE_SCORES, "\xff\xff\xff\xff");
       }},
      {"statistics that are none", "STATISTICS_INVALID",
       [](Update& update) {
         return Overwrite(update, v1::SECTION_TYPE_EXACT_SUMS, std::string(8, '\xff'));
       }},
      {"a structure that is none", "READJUSTMENT_INVALID",
       [](Update& update) {
         return Overwrite(update, v1::SECTION_TYPE_TOPOLOGY_UPDATE, "\xff\xff\xff\xff");
       }},
      {"counts that cannot be", "VALUE_IMPOSSIBLE",
       [](Update& update) {
         return Overwrite(update, v1::SECTION_TYPE_I64, std::string(8, '\xff'));
       }},
  };
}

// A coordinator's core with an honest worker and a hostile one, for one job of a method.
class Siege {
 public:
  explicit Siege(const std::string& method) {
    std::string config = support::SmallConfig("llama");
    const std::string small = "\"vocab_size\":17";
    config.replace(config.find(small), small.size(), "\"vocab_size\":256");
    EXPECT_TRUE(support::SaveLanguageModel(support::RandomLanguageModel(config, 1),
                                           sim_.models_folder() + "/tiny")
                    .ok());
    for (const char* id : {"w0", "w1"}) {
      workers_.push_back(std::make_unique<RealWorker>(id, SmallData().path(),
                                                      sim_.models_folder() + "-" + id, sim_.fleet,
                                                      sim_.jobs, sim_.blobs));
      EXPECT_TRUE(workers_.back()->Connect().ok());
    }
    Start(method);
  }

  Siege(const Siege&) = delete;
  Siege& operator=(const Siege&) = delete;

  // w0 attacks whenever it can, w1 works, until the job has ended. Returns the attacks that were
  // made, by name.
  std::set<std::string> Run(const std::vector<Attack>& header, const std::vector<Attack>& body) {
    std::set<std::string> made;
    for (int idle = 0; sim_.State(name_) == v1::Job::STATE_RUNNING && idle < 100;) {
      bool worked = false;
      for (const auto& worker : workers_) {
        if (!worker->busy()) continue;
        if (worker->id() == "w1" || !Assault(*worker, header, body, made)) worker->Work();
        worked = true;
        sim_.Settle();
      }
      idle = worked ? 0 : idle + 1;
      for (const auto& worker : workers_) worker->Heartbeat();
      sim_.Tick();
    }
    return made;
  }

  // Whether w0 had a result with a body at all.
  bool sends_bodies() const { return sends_bodies_; }
  v1::Job Job() { return sim_.Job(name_); }
  v1::Worker::State State(const std::string& worker) { return sim_.fleet.Find(worker)->state(); }

 private:
  // Whether the worker's task is gone with it.
  bool Assault(RealWorker& worker, const std::vector<Attack>& header,
               const std::vector<Attack>& body, std::set<std::string>& made) {
    if (header.empty() && body.empty()) return false;
    const Update good = worker.Compute();
    sends_bodies_ = sends_bodies_ || !good.body.empty();
    for (const Attack& attack : header) {
      Update update = good;
      if (!attack.change(update)) continue;
      ExpectRefused(worker, attack, update);
      made.insert(attack.name);
      // With the third strike it is in quarantine.
      if (!worker.busy()) return true;
    }
    for (const Attack& attack : body) {
      Update update = good;
      if (!attack.change(update)) continue;
      update.header.set_body_sha256(io::Sha256Hex(update.body));
      ExpectRefused(worker, attack, update);
      made.insert(attack.name);
      return true;
    }
    return false;
  }

  void ExpectRefused(RealWorker& worker, const Attack& attack, const Update& update) {
    const auto answer = worker.Send(update);
    sim_.Settle();
    ASSERT_TRUE(answer->answered);
    EXPECT_EQ(base::ReasonOf(answer->status), attack.reason)
        << attack.name << ": " << answer->status;
  }

  // The job of the method on the first family that it is for.
  void Start(const std::string& method) {
    const auto& declaration = *sim_.methods().Find(method);
    for (v1::JobSpec spec : Families()) {
      if (!MethodRegistry::WhyNotOn(declaration, FamilyOf(spec.model())).empty()) continue;
      const bool in_parts = FamilyOf(spec.model()).form() == wire::ModelForm::kInParts;
      if (declaration.needs_trained || (declaration.prunes && !in_parts)) {
        if (in_parts) continue;
        BeginWithTrained(spec);
      }
      if (declaration.prunes) {
        NameAlone(spec);
      } else {
        UseTraining(spec);
        spec.mutable_training()->mutable_optimizer()->set_learning_rate(0.05);
      }
      UseMethod(declaration, spec);
      SuitModel(declaration, spec);
      if (declaration.prunes && in_parts) {
        spec.mutable_data()->mutable_partition()->set_shards(2);
      }
      name_ = sim_.Start(spec);
      return;
    }
    FAIL() << "the method is for no family";
  }

  void BeginWithTrained(v1::JobSpec& spec) {
    v1::JobSpec dense = spec;
    UseTraining(dense);
    UseMethod(*sim_.methods().Find("dense"), dense);
    dense.mutable_training()->mutable_optimizer()->set_learning_rate(0.05);
    const std::string name = sim_.Start(dense);
    RunToItsEnd(sim_, workers_, name);
    ASSERT_EQ(sim_.State(name), v1::Job::STATE_SUCCEEDED);
    spec.mutable_model()->set_pretrained(name);
  }

  Simulation sim_;
  std::vector<std::unique_ptr<RealWorker>> workers_;
  std::string name_;
  bool sends_bodies_ = false;
};

class HostileUpdatesTest : public testing::TestWithParam<std::string> {
 protected:
  std::string CalmHash() {
    Siege calm(GetParam());
    calm.Run({}, {});
    EXPECT_EQ(calm.Job().state(), v1::Job::STATE_SUCCEEDED) << calm.Job().failure_message();
    return calm.Job().model_hash();
  }
  void ExpectUnharmed(Siege& siege, const std::string& hash, const std::string& attack) {
    EXPECT_EQ(siege.Job().state(), v1::Job::STATE_SUCCEEDED)
        << attack << ": " << siege.Job().failure_message();
    EXPECT_EQ(siege.Job().model_hash(), hash) << attack;
    EXPECT_EQ(siege.State("w1"), v1::Worker::STATE_ACTIVE);
  }
};

TEST_P(HostileUpdatesTest, EachKindIsRefusedWithItsReasonAndChangesNothing) {
  const std::string hash = CalmHash();
  Siege headers(GetParam());
  const std::set<std::string> made = headers.Run(HeaderAttacks(), {});
  EXPECT_GE(made.size(), 8U);
  ExpectUnharmed(headers, hash, "headers");
  std::set<std::string> bodies;
  for (const Attack& attack : BodyAttacks()) {
    Siege siege(GetParam());
    bodies.merge(siege.Run({}, {attack}));
    ExpectUnharmed(siege, hash, attack.name);
  }
  // Where workers only evaluate, they have nothing to say but their headers.
  EXPECT_EQ(!bodies.empty(), headers.sends_bodies());
}

std::vector<std::string> AllMethods() { return MethodRegistry::Builtin().names(); }

INSTANTIATE_TEST_SUITE_P(Methods, HostileUpdatesTest, testing::ValuesIn(AllMethods()),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace espalier::test
