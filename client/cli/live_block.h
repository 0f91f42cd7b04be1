// LiveBlock: the last lines of a terminal, drawn again in place. Everything that moves uses it.
//
// It moves the cursor up within its own lines only: no alternative screen, no hidden cursor, so
// that a process that dies leaves a usable terminal behind. For terminals only; whoever writes into
// a pipe prints plain lines instead.
//
// Threading: not thread-safe. Each change is one write, so that no half of a frame is seen.
#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace espalier::cli {

class LiveBlock {
 public:
  // Borrows `out`, a terminal of so many columns.
  LiveBlock(std::ostream& out, int columns) : out_(out), columns_(columns) {}
  ~LiveBlock() { Finish(); }
  LiveBlock(const LiveBlock&) = delete;
  LiveBlock& operator=(const LiveBlock&) = delete;

  // Replaces the block. Lines are plain text, of which nothing reaches the terminal as a control
  // (base::Printable); what does not fit in a row is cut.
  void Show(std::vector<std::string> lines);
  // A line that stays, above the block; text as in Show().
  void Print(const std::string& text);
  // Takes the block away: further output starts where it was.
  void Clear();
  // Keeps the block as it is: further output starts below.
  void Finish();

 private:
  // Moves the cursor from the last line of the block to its first.
  std::string ToFirstLine() const;

  std::ostream& out_;
  int columns_;
  std::vector<std::string> lines_;
};

}  // namespace espalier::cli
