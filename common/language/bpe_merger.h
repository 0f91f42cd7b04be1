// Byte-pair encoding's inner loop: of all adjacent pairs that may be merged the one of highest
// score is, the leftmost on ties, until none is left. Internal to this folder.
//
// Cost:      O(n log n) for n tokens.
// Threading: pure function.
// Source:    Sennrich, Haddow and Birch 2016.
#pragma once

#include <cstdint>
#include <optional>
#include <queue>
#include <string_view>
#include <utility>
#include <vector>

namespace espalier::language {

// Bytes of the code point at the front of `text`, which is not empty: the first byte and at most
// three continuation bytes, whether they fit it or not.
inline size_t CodePointBytes(std::string_view text) {
  constexpr size_t kMost = 4;
  size_t size = 1;
  while (size < text.size() && size < kMost &&
         (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) {
    ++size;
  }
  return size;
}

struct BpeMerge {
  float score = 0;
  int32_t token = 0;  // that takes the place of the pair
};

// `find`: (left token, right token) → std::optional<BpeMerge>.
template <typename Find>
class BpeMerger {
 public:
  BpeMerger(std::vector<int32_t> tokens, Find find)
      : tokens_(std::move(tokens)), find_(std::move(find)) {
    const auto size = static_cast<int32_t>(tokens_.size());
    for (int32_t i = 0; i < size; ++i) {
      previous_.push_back(i - 1);
      next_.push_back(i + 1 < size ? i + 1 : -1);
    }
    for (int32_t i = 0; i + 1 < size; ++i) Propose(i);
  }

  std::vector<int32_t> Run() {
    while (!candidates_.empty()) {
      const Candidate best = candidates_.top();
      candidates_.pop();
      const int32_t right = next_[best.left];
      // Either may have been merged with something else since.
      if (right < 0 || tokens_[best.left] != best.left_token ||
          tokens_[right] != best.right_token) {
        continue;
      }
      tokens_[best.left] = best.merged;
      tokens_[right] = kGone;
      next_[best.left] = next_[right];
      if (next_[right] >= 0) previous_[next_[right]] = best.left;
      if (previous_[best.left] >= 0) Propose(previous_[best.left]);
      Propose(best.left);
    }
    std::erase(tokens_, kGone);
    return std::move(tokens_);
  }

 private:
  static constexpr int32_t kGone = -1;

  struct Candidate {
    float score = 0;
    int32_t left = 0;
    int32_t left_token = 0;
    int32_t right_token = 0;
    int32_t merged = 0;
    bool operator<(const Candidate& other) const {
      return score < other.score || (score == other.score && left > other.left);
    }
  };

  void Propose(int32_t left) {
    const int32_t right = next_[left];
    if (right < 0) return;
    const std::optional<BpeMerge> merge = find_(tokens_[left], tokens_[right]);
    if (!merge) return;
    candidates_.push({merge->score, left, tokens_[left], tokens_[right], merge->token});
  }

  std::vector<int32_t> tokens_;
  Find find_;
  std::vector<int32_t> previous_;
  std::vector<int32_t> next_;
  std::priority_queue<Candidate> candidates_;
};

template <typename Find>
std::vector<int32_t> MergeTokens(std::vector<int32_t> tokens, Find find) {
  return BpeMerger<Find>(std::move(tokens), std::move(find)).Run();
}

}  // namespace espalier::language
