// Interactions of users with items: MovieLens, LightGCN and CSV. Lists are within the numbers of
// users and items, ascend, and are the same when they are loaded again.
#include <algorithm>
#include <cstdint>
#include <string>

#include "tests/fuzz/fuzz_input.h"
#include "worker/data/interactions/interactions.h"
#include "worker/data/load.h"

namespace {

using espalier::fuzz::Input;
using espalier::fuzz::Require;
namespace data = espalier::worker::data;
namespace v1 = espalier::v1;

constexpr data::LoadOptions kOptions = {.max_file_bytes = 1 << 22, .max_memory_bytes = 1 << 26};
constexpr uint64_t kSeed = 7;

struct Names {
  const char* train;
  const char* test;
};
constexpr Names kFiles[] = {{"set/ratings.csv", "set/test.csv"},
                            {"set/ratings.dat", "set/test.dat"},
                            {"set/train.txt", "set/test.txt"},
                            {"set/u.data", "set/u.test"},
                            {"set/train.csv", "set/test.csv"}};

v1::DataSpec SpecOf(Input& input) {
  v1::DataSpec spec;
  spec.set_dataset("set");
  spec.set_delimiter(static_cast<v1::DataSpec::Delimiter>(input.Choice(4)));
  spec.set_header(static_cast<v1::DataSpec::Header>(input.Choice(3)));
  spec.mutable_partition()->set_kind(v1::Partition::KIND_USERS);
  spec.mutable_partition()->set_shards(1);
  v1::Interactions& interactions = *spec.mutable_interactions();
  interactions.set_format(static_cast<v1::Interactions::Format>(input.Choice(4)));
  interactions.set_split(static_cast<v1::Interactions::Split>(input.Choice(5)));
  interactions.set_user_core(input.Choice(3));
  interactions.set_item_core(input.Choice(3));
  interactions.set_min_rating(input.Choice(3));
  interactions.set_order_by_time(input.Choice(2) == 1);
  interactions.set_validate(input.Choice(2) == 1);
  interactions.set_held_out_users(input.Choice(3));
  return spec;
}

void CheckLists(const data::ItemLists& lists, const data::InteractionData& all, bool ascend) {
  Require(lists.rows() == all.users, "each user has a list");
  Require(std::ranges::is_sorted(lists.offsets), "lists come one after the other");
  Require(lists.offsets.front() == 0 && lists.offsets.back() == lists.size(), "lists are whole");
  for (int32_t user = 0; user < lists.rows(); ++user) {
    const auto row = lists.row(user);
    for (const int32_t item : row) Require(item >= 0 && item < all.items, "items are items");
    Require(!ascend || std::ranges::is_sorted(row), "the items of a user ascend");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  Input input(bytes, size);
  const Names names = kFiles[input.Choice(5)];
  const v1::DataSpec spec = SpecOf(input);
  static const espalier::fuzz::Folder root;
  std::filesystem::remove_all(root / "set");
  root.Add("set");
  root.Write(names.train, input.Part());
  if (!input.Rest().empty()) root.Write(names.test, input.Rest());
  const auto opened = data::DataRoot::Open(root.path());
  Require(opened.ok(), "the folder can be opened");
  (void)data::DescribeByLooks(*opened, "set", kOptions);
  const auto found = data::LoadInteractions(*opened, spec, kSeed, kOptions);
  const auto info = data::DescribeInteractions(*opened, spec, kOptions);
  if (!found.ok()) return 0;
  const data::InteractionData& all = **found;
  CheckLists(all.train, all, /*ascend=*/true);
  CheckLists(all.known, all, /*ascend=*/false);
  CheckLists(all.asked, all, /*ascend=*/false);
  Require(all.user_ids.size() == all.users && all.item_ids.size() == all.items, "all have names");
  for (int32_t user = 0; user < all.users; ++user) {
    Require(all.user_ids.Find(all.user_ids.Name(user)) == user, "users are found by their names");
  }
  for (int32_t item = 0; item < all.items; ++item) {
    Require(all.item_ids.Find(all.item_ids.Name(item)) == item, "items are found by their names");
  }
  const auto again = data::LoadInteractions(*opened, spec, kSeed, kOptions);
  Require(again.ok() && (*again)->train.items == all.train.items &&
              (*again)->asked.items == all.asked.items,
          "what is loaded is the same every time");
  Require(info.ok() && info->users() == all.users && info->items() == all.items,
          "a description counts users and items");
  return 0;
}
