// ForgetfulProgram: a program as it is when the coordinator is killed in each step. Nothing is kept
// from step to step but the bytes of the state, and each step is answered by a new program.
//
// Ownership: borrows `parts`.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "server/methods/program.h"
#include "server/methods/program_state_codec.h"
#include "server/pretrained/part_store.h"

namespace espalier::test {

class ForgetfulProgram : public server::methods::Program {
 public:
  using Transition = server::methods::Transition;
  using ProgramState = server::methods::ProgramState;
  using Make = std::function<std::unique_ptr<Program>()>;

  explicit ForgetfulProgram(Make make, const server::pretrained::PartStore* parts = nullptr)
      : make_(std::move(make)), parts_(parts) {}

  absl::StatusOr<Transition> Start() const override { return Saved(make_()->Start()); }
  absl::StatusOr<Transition> Next(ProgramState state,
                                  server::reduce::Reduced reduced) const override {
    return Saved(make_()->Next(std::move(state), std::move(reduced)));
  }
  absl::StatusOr<Transition> NextOfRuns(
      ProgramState state, std::vector<server::reduce::Reduced> reduced) const override {
    return Saved(make_()->NextOfRuns(std::move(state), std::move(reduced)));
  }
  bool asks_planner() const override { return make_()->asks_planner(); }
  absl::Status CheckDecision(const ProgramState& state, std::string_view decision) const override {
    return make_()->CheckDecision(state, decision);
  }

 private:
  // `transition` with the state that its bytes give.
  absl::StatusOr<Transition> Saved(absl::StatusOr<Transition> transition) const {
    if (!transition.ok()) return transition;
    const auto in_work = StepsInWork(transition->state);
    if (in_work.empty()) return transition;
    auto state = server::methods::DecodeProgramState(
        server::methods::EncodeProgramState(transition->state),
        in_work.front()->model.topology->shared_layout(), parts_);
    if (!state.ok()) return state.status();
    transition->state = *std::move(state);
    return transition;
  }

  const Make make_;
  const server::pretrained::PartStore* const parts_;
};

}  // namespace espalier::test
