#include "worker/data/table/encoding.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "common/base/printable.h"
#include "worker/data/errors.h"

namespace espalier::worker::data {
namespace {

struct Mark {
  std::string_view bytes;
  const char* name;
};

// The longer ones first: UTF-32's begins with UTF-16's.
constexpr std::array kMarks = {
    Mark{{"\xFF\xFE\0\0", 4}, "UTF-32"},
    Mark{{"\0\0\xFE\xFF", 4}, "UTF-32"},
    Mark{{"\xFF\xFE", 2}, "UTF-16"},
    Mark{{"\xFE\xFF", 2}, "UTF-16"},
};

// The encoding in which ASCII text has its zero bytes where `text` has them.
const char* EncodingOfZeros(std::string_view text) {
  std::array<size_t, 4> zeros = {};
  for (size_t i = 0; i < text.size(); ++i) zeros[i % 4] += text[i] == '\0' ? 1 : 0;
  const auto all = [&](size_t place) { return 10 * zeros[place] >= 9 * (text.size() / 4); };
  const auto places = static_cast<int>(all(0)) + static_cast<int>(all(1)) +
                      static_cast<int>(all(2)) + static_cast<int>(all(3));
  if (text.size() < 4) return "";
  if (places == 3) return "UTF-32";
  if (places == 2 && ((all(0) && all(2)) || (all(1) && all(3)))) return "UTF-16";
  return "";
}

absl::Status OtherEncoding(std::string_view file, std::string_view name) {
  return DatasetInvalid(
      file, {AtLine(1), "text in UTF-8", fmt::format("{}", name),
             fmt::format("save it as UTF-8 (in a spreadsheet \"CSV UTF-8\"), or convert it with "
                         "'iconv -f {} -t UTF-8'",
                         name)});
}

}  // namespace

absl::Status CheckTextEncoding(std::string_view beginning, std::string_view file) {
  for (const Mark& mark : kMarks) {
    if (beginning.starts_with(mark.bytes)) return OtherEncoding(file, mark.name);
  }
  const size_t zero = beginning.find('\0');
  if (zero == std::string_view::npos) return absl::OkStatus();
  const std::string_view name = EncodingOfZeros(beginning);
  if (!name.empty()) return OtherEncoding(file, name);
  const auto lines = std::count(beginning.begin(), beginning.begin() + zero, '\n');
  return ZeroByte(file, lines + 1);
}

absl::Status ZeroByte(std::string_view file, int64_t line) {
  return DatasetInvalid(file, {AtLine(line), "text in UTF-8", "a zero byte, which no text has",
                               "check that it is a text file and not, for instance, a spreadsheet "
                               "or an archive under the name of one"});
}

void MakeUtf8(std::vector<std::string_view>& cells, size_t bytes, std::string& converted) {
  converted.clear();
  // Room for all of them at once, so that none moves.
  converted.reserve(2 * bytes);
  for (std::string_view& cell : cells) {
    if (base::IsUtf8(cell)) continue;
    const size_t from = converted.size();
    base::AppendLatin1(cell, converted);
    cell = std::string_view(converted).substr(from);
  }
}

}  // namespace espalier::worker::data
