// Every method on every family of models, with every optimizer and way of aggregation, by the code
// that a worker process runs: a job is refused when it is created, with the reason, or it does what
// it says to its end. It never fails on the way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <map>

#include "common/base/status.h"
#include "tests/sim/real_tasks/method_jobs.h"
#include "tests/sim/real_tasks/real_fleet.h"
#include "tests/support/language_model.h"

namespace espalier::test {
namespace {

using server::methods::FamilyOf;
using server::methods::MethodDeclaration;
using server::methods::MethodRegistry;
using server::methods::ModelFamily;

using Change = std::function<void(v1::JobSpec&)>;

std::map<std::string, Change> Optimizers() {
  const auto with = [](v1::Optimizer::Kind kind, double rate, bool averaged) {
    return [=](v1::JobSpec& spec) {
      v1::Optimizer& optimizer = *spec.mutable_training()->mutable_optimizer();
      optimizer.set_kind(kind);
      optimizer.set_learning_rate(rate);
      if (averaged) optimizer.set_across_rounds(v1::Optimizer::ACROSS_ROUNDS_AVERAGE);
    };
  };
  return {{"sgd", with(v1::Optimizer::KIND_SGD, 0.05, false)},
          {"adam averaged", with(v1::Optimizer::KIND_ADAM, 0.005, true)}};
}

std::map<std::string, Change> Options() {
  return {
      {"mean", [](v1::JobSpec&) {}},
      {"median",
       [](v1::JobSpec& spec) {
         spec.mutable_aggregation()->set_rule(v1::Aggregation::RULE_MEDIAN);
       }},
      {"server adam",
       [](v1::JobSpec& spec) {
         spec.mutable_aggregation()->set_server_optimizer(v1::Aggregation::SERVER_OPTIMIZER_ADAM);
       }},
      {"control variates",
       [](v1::JobSpec& spec) { spec.mutable_training()->set_control_variates(true); }},
      {"local data",
       [](v1::JobSpec& spec) {
         v1::Partition& partition = *spec.mutable_data()->mutable_partition();
         partition.clear_shards();
         partition.set_kind(v1::Partition::KIND_LOCAL);
         spec.mutable_federation()->set_min_workers(2);
       }},
      {"clipping", [](v1::JobSpec& spec) { spec.mutable_aggregation()->set_clip_norm(0.5); }},
      {"compact values", [](v1::JobSpec& spec) {
         spec.mutable_wire()->set_up(v1::Wire::VALUES_INT8);
         spec.mutable_wire()->set_down(v1::Wire::VALUES_BF16);
       }}};
}

// Where tests/golden/model_hashes/compare.py asks for it: what every job ended with.
void RecordHash(const std::string& method, const std::string& tried, const v1::Job& job) {
  const char* path = std::getenv("ESPALIER_MODEL_HASHES");
  if (path == nullptr) return;
  std::ofstream file(path, std::ios::app);
  file << method << ": " << tried << "\t" << job.model_hash() << "\n";
}

// What is tried, for messages of failures.
std::string Description(const v1::JobSpec& family, const std::string& one,
                        const std::string& other) {
  std::string text = FamilyOf(family.model()).word();
  if (family.model().recommender().private_users()) text.append(" with private users");
  return text.append(", ").append(one).append(", ").append(other);
}

// A coordinator's core and two workers, for jobs of one method.
class Cluster {
 public:
  explicit Cluster(std::string method, Simulation::Memory memory = Simulation::Memory::kKept)
      : sim_(0, 1, memory), method_(std::move(method)) {
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
  }

  const MethodDeclaration& method() { return *sim_.methods().Find(method_); }
  const v1::Job& last() const { return last_; }

  // Until the job has ended, or nothing moves any more.
  void RunToItsEnd(const std::string& name) { test::RunToItsEnd(sim_, workers_, name); }

  // Whether the job is accepted; then it has run to its end. `tried` names it among recorded
  // hashes.
  bool IsDone(const v1::JobSpec& spec, const std::string& tried) {
    std::vector<config::Violation> violations;
    const auto job = sim_.Create(spec, violations);
    if (!job.ok()) {
      EXPECT_EQ(job.status().code(), absl::StatusCode::kInvalidArgument) << job.status();
      EXPECT_FALSE(violations.empty()) << job.status();
      for (const config::Violation& violation : violations) {
        EXPECT_FALSE(violation.description.empty()) << violation.field;
        reasons_.append(violation.field).append(": ").append(violation.description).append("\n");
      }
      return false;
    }
    sim_.Settle();
    RunToItsEnd(job->name());
    ExpectDone(sim_.Job(job->name()));
    last_ = sim_.Job(job->name());
    RecordHash(method_, tried, last_);
    return true;
  }

  // Whether the last job was refused for rows of users that stay on workers.
  bool KeepsNoPrivateRows() const {
    const std::set<std::string> may_refuse = {"imp", "n-of-m"};
    return may_refuse.contains(method_) &&
           reasons_.find("model.recommender.private_users") != std::string::npos;
  }

  void ExpectDone(const v1::Job& job) {
    EXPECT_EQ(job.state(), v1::Job::STATE_SUCCEEDED)
        << job.failure_reason() << ": " << job.failure_message();
    if (job.state() != v1::Job::STATE_SUCCEEDED) return;
    EXPECT_EQ(job.history_size(), job.total_rounds());
    for (const v1::RoundSummary& round : job.history()) {
      EXPECT_TRUE(std::isfinite(round.train_loss())) << round.round();
      EXPECT_GT(round.density(), 0);
    }
  }

  // What a method that says so does to a structure, on real gradients too.
  void ExpectStructureChanges() {
    const std::set<std::string> changing = {"set",    "rigl",    "dsl", "feddst", "fedtiny",
                                            "fedmef", "prunefl", "gmp", "n-of-m"};
    if (!changing.contains(method_)) return;
    int64_t changed = 0;
    for (const v1::RoundSummary& round : last_.history()) changed += round.weights_changed();
    const bool sparser = last_.history_size() > 0 &&
                         last_.history().rbegin()->density() < last_.history(0).density();
    EXPECT_TRUE(changed > 0 || sparser) << "accepted, and trained something else";
  }

  // Names the model that a dense job trains, unless the family's own is a trained one.
  void BeginWithTrained(v1::JobSpec& family) {
    if (FamilyOf(family.model()).form() == wire::ModelForm::kInParts) return;
    v1::JobSpec spec = family;
    UseTraining(spec);
    UseMethod(*sim_.methods().Find("dense"), spec);
    Optimizers().at("sgd")(spec);
    ASSERT_TRUE(IsDone(spec, Description(spec, "trained", "dense"))) << reasons_;
    family.mutable_model()->set_pretrained(last_.name());
  }

  // A job on this family with nothing out of the ordinary. Whether it is accepted; then it has run
  // to its end.
  bool IsDonePlainly(v1::JobSpec spec) {
    const std::string why_not = MethodRegistry::WhyNotOn(method(), FamilyOf(spec.model()));
    if (!why_not.empty()) return false;
    if (method().prunes || method().needs_trained) BeginWithTrained(spec);
    if (method().prunes && FamilyOf(spec.model()).form() != wire::ModelForm::kInParts) {
      NameAlone(spec);
    } else if (!method().prunes) {
      UseTraining(spec);
      Optimizers().at("sgd")(spec);
    }
    UseMethod(method(), spec);
    SuitModel(method(), spec);
    return IsDone(spec, Description(spec, "plain", "plain"));
  }

 protected:
  Simulation sim_;
  std::vector<std::unique_ptr<RealWorker>> workers_;
  v1::Job last_;
  std::string reasons_;

 private:
  const std::string method_;
};

class MethodFamilyTest : public testing::TestWithParam<std::string>, public Cluster {
 protected:
  MethodFamilyTest() : Cluster(GetParam()) {}
};

// As if the coordinator were killed in each step, and a new one went on from the saved state.
TEST_P(MethodFamilyTest, JobsGoOnFromSavedStatesWithTheSameBits) {
  Cluster saved(GetParam(), Simulation::Memory::kSavedStates);
  for (const v1::JobSpec& family : Families()) {
    SCOPED_TRACE(FamilyOf(family.model()).word());
    const bool done = IsDonePlainly(family);
    EXPECT_EQ(saved.IsDonePlainly(family), done);
    if (!done) continue;
    EXPECT_EQ(saved.last().model_hash(), last().model_hash());
  }
}

TEST_P(MethodFamilyTest, IsRefusedWithTheReasonOrDoesWhatItSays) {
  if (method().prunes) return;  // below
  for (v1::JobSpec family : Families()) {
    const std::string why_not = MethodRegistry::WhyNotOn(method(), FamilyOf(family.model()));
    if (method().needs_trained && why_not.empty()) BeginWithTrained(family);
    for (const auto& [optimizer, set_optimizer] : Optimizers()) {
      for (const auto& [option, set_option] : Options()) {
        const std::string tried = Description(family, optimizer, option);
        SCOPED_TRACE(tried);
        v1::JobSpec spec = family;
        UseTraining(spec);
        UseMethod(method(), spec);
        SuitModel(method(), spec);
        set_optimizer(spec);
        set_option(spec);
        reasons_.clear();
        const bool done = IsDone(spec, tried);
        const bool plain = optimizer == "sgd" && option == "mean";
        if (!why_not.empty()) {
          EXPECT_FALSE(done);
          EXPECT_THAT(reasons_, testing::HasSubstr(why_not));
        } else if (plain) {
          EXPECT_TRUE(done || KeepsNoPrivateRows()) << reasons_;
        }
        if (done) ExpectStructureChanges();
      }
    }
  }
}

TEST_P(MethodFamilyTest, PrunesWhatIsTrainedOrSaysWhyNot) {
  if (!method().prunes) return;  // above
  for (const v1::JobSpec& family : Families()) {
    const ModelFamily& kind = FamilyOf(family.model());
    SCOPED_TRACE(kind.word());
    v1::JobSpec spec = family;
    BeginWithTrained(spec);
    if (kind.form() != wire::ModelForm::kInParts) {
      NameAlone(spec);
    }
    UseMethod(method(), spec);
    SuitModel(method(), spec);
    reasons_.clear();
    const std::string why_not = MethodRegistry::WhyNotOn(method(), kind);
    EXPECT_EQ(IsDone(spec, Description(family, "pruned", "trained")), why_not.empty()) << reasons_;
  }
}

// prunefl's other start, and growth at the exact largest gradients.
TEST_P(MethodFamilyTest, OtherParametersAreRefusedWithTheReasonOrDoWhatTheySay) {
  const std::map<std::string, std::string> choices = {
      {"initial", "random"},        {"costs", "measured"}, {"top_k", "exact"},
      {"initial_weights", "fresh"}, {"scored_by", "one"},  {"selection", "vanilla"},
      {"drop", "magnitude"},        {"mode", "sr-ste"}};
  for (const v1::JobSpec& family : Families()) {
    for (const config::Parameter& parameter : method().parameters) {
      const auto choice = choices.find(parameter.name);
      if (choice == choices.end() || method().prunes) continue;
      if (std::ranges::find(parameter.choices, choice->second) == parameter.choices.end()) continue;
      const std::string tried = Description(family, choice->first, choice->second);
      SCOPED_TRACE(tried);
      v1::JobSpec spec = family;
      UseTraining(spec);
      UseMethod(method(), spec);
      SuitModel(method(), spec);
      Optimizers().at("sgd")(spec);
      auto& parameters = *spec.mutable_method()->mutable_parameters();
      parameters[choice->first].set_string_value(choice->second);
      if (choice->first == "initial") {
        for (const char* other : {"initial_adjustments", "initial_updates", "initial_sum"}) {
          parameters.erase(other);
        }
      }
      IsDone(spec, tried);
    }
  }
}

std::vector<std::string> AllMethods() { return MethodRegistry::Builtin().names(); }

INSTANTIATE_TEST_SUITE_P(Methods, MethodFamilyTest, testing::ValuesIn(AllMethods()),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

// The table in the documentation says what the methods declare.
TEST(MethodFamiliesTest, DocumentationShowsWhatMethodsDeclare) {
  const MethodRegistry registry = MethodRegistry::Builtin();
  std::string expected;
  for (const MethodDeclaration& method : registry.all()) {
    expected += "| `" + method.name + "` |";
    const v1::Method described = registry.Describe(method);
    for (const v1::FamilySupport& support : described.families()) {
      expected += support.supported() ? " yes |" : " – |";
    }
    expected += "\n";
  }
  const char* source = std::getenv("ESPALIER_SOURCE_DIR");
  std::ifstream file(std::string(source == nullptr ? "." : source) + "/docs/methods/README.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_THAT(text.str(), testing::HasSubstr(expected));
}

}  // namespace
}  // namespace espalier::test
