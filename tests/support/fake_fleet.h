// FakeFleet: participants in memory for tests of programs: a step in, its reduced result out.
//
// Each participant pulls every weight towards a target of its own (a quadratic loss), so that
// training is deterministic, finite and differs between participants; growth candidates are the
// inactive positions with the largest targets. Saliency is gradient times weight, importance the
// squared gradient.
//
// Determinism: pure function of seed, step and model.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/methods/program.h"
#include "server/reduce/reducer.h"

namespace espalier::test {

class FakeFleet {
 public:
  explicit FakeFleet(int participants, uint64_t seed = 1)
      : participants_(participants), seed_(seed) {}

  // What a participant would have at an inactive position, and the gradient there is −this.
  float Target(uint64_t participant, size_t tensor, int64_t position) const;

  // `server` has the control variates that the step's participants correct their gradients by.
  absl::StatusOr<server::reduce::Reduced> Run(
      const server::methods::Step& step, const tensor::ModelState& model,
      const server::methods::ServerState& server = {}) const;

 private:
  server::reduce::Partial Execute(uint64_t participant, const server::methods::Step& step,
                                  const tensor::ModelState& model,
                                  const server::methods::ServerState& server) const;
  std::vector<float> Saliencies(uint64_t participant, const tensor::ModelState& model) const;
  // The result carries `sets` numbers for each weight: its value, then optimizer state.
  void Train(uint64_t participant, const v1::TrainTask& task, int sets,
             const tensor::ModelState& model, std::span<const float> correction,
             server::reduce::Partial& partial) const;
  // Goes over to a structure of its own: `values` in, those of the new structure out.
  void Readjust(uint64_t participant, float rate, const v1::Readjustment& asked,
                const tensor::ModelState& model, std::vector<float>& values,
                server::reduce::Partial& partial) const;
  // Gradients at inactive positions.
  void Grow(uint64_t participant, const v1::GrowthTask& task, const tensor::ModelState& model,
            server::reduce::Partial& partial) const;

  int participants_;
  uint64_t seed_;
};

// Everything a finished job left behind.
struct JobTrace {
  std::vector<v1::RoundSummary> rounds;
  std::vector<server::methods::Transition> transitions;  // the first is Start()'s
  server::methods::ProgramState final_state;
};

// Runs `program` to its end.
absl::StatusOr<JobTrace> RunJob(const server::methods::Program& program, const FakeFleet& fleet);

// The same as if the coordinator were killed in each step: nothing is kept from step to step but
// the bytes of the program's state, and `make` makes a program anew.
absl::StatusOr<JobTrace> RunJobFromSavedStates(
    const std::function<std::unique_ptr<server::methods::Program>()>& make, const FakeFleet& fleet);

}  // namespace espalier::test
