// WordSplitter: cuts text into the words that byte-level BPE never merges across. Internal to this
// folder.
//
// Patterns:    those of GPT-2, LLaMA 3 and Qwen 2 as they stand in their tokenizer.json, and no
//              others: a file from outside does not bring regular expressions of its own.
// Text:        any bytes; what is no UTF-8 becomes pieces of its own.
// Threading:   immutable after Create().
#pragma once

#include <functional>
#include <memory>
#include <string_view>

namespace espalier::language {

// GPT-2's.
inline constexpr std::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

class WordSplitter {
 public:
  // Null for a pattern that is not known.
  static std::unique_ptr<WordSplitter> Create(std::string_view pattern);
  ~WordSplitter();
  WordSplitter(const WordSplitter&) = delete;
  WordSplitter& operator=(const WordSplitter&) = delete;

  // Calls `visit` with pieces of `text` that follow each other without gaps.
  void Split(std::string_view text, const std::function<void(std::string_view)>& visit) const;

 private:
  struct Code;
  explicit WordSplitter(std::unique_ptr<Code> code);
  std::unique_ptr<Code> code_;
};

}  // namespace espalier::language
