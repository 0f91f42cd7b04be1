#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "common/base/flags.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Ask a recommender for the best items for a user

Examples:
  espalier recommend checkpoints/my-job-20 --user 42
  espalier recommend my-job-20 --user 42 -k 5 -o json

Items that the user had in training are left out. A worker that has the data
set computes the answer, so one must be connected: the user's own, where rows
of users stay on workers (model.recommender.private_users).)";

absl::StatusOr<int> Recommend(Context& context, const v1::RecommendRequest& request) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const v1::RecommendResponse response, client->Recommend(request));
  if (context.PrintAsData(response)) return kExitDone;
  Table table({{"RANK", true}, {"ITEM"}, {"SCORE", true}});
  int rank = 0;
  bool scored = true;
  for (const v1::RecommendedItem& item : response.items()) {
    scored = scored && item.has_score();
    table.Add({std::to_string(++rank), item.item(),
               item.has_score() ? fmt::format("{:.4f}", item.score()) : "-"});
  }
  table.Print(context.out, context.out_terminal);
  if (!scored) {
    context.err
        << "The user's row stays on its worker, which therefore tells no scores: they would "
           "give the row away.\n";
  }
  return kExitDone;
}

}  // namespace

void AddRecommend(CLI::App& parent, Command& chosen) {
  struct Options {
    std::string checkpoint;
    std::string user;
    std::string dataset;
    int32_t k = 20;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = parent.add_subcommand("recommend", kDescription);
  command->add_option("CHECKPOINT", options->checkpoint, "checkpoints/NAME, or only NAME")
      ->required();
  command->add_option("--user", options->user, "The user, as the data set calls them")
      ->required()
      ->type_name("USER");
  command->add_option("-k", options->k, "Items wanted, 1 to 1000")
      ->check(base::Between(1, 1000))
      ->capture_default_str()
      ->type_name("N");
  command
      ->add_option("--data", options->dataset,
                   "Data set of the workers to take the user's history from; default: the job's")
      ->type_name("NAME");
  command->callback([&chosen, options] {
    chosen = [options](Context& context) {
      v1::RecommendRequest request;
      request.set_checkpoint(ResourceName("checkpoints", options->checkpoint));
      request.set_user(base::AsUtf8(options->user));
      request.set_k(options->k);
      request.set_dataset(options->dataset);
      return Recommend(context, request);
    };
  });
}

}  // namespace espalier::cli
