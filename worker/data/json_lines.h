// Text in JSON lines: one object a line, of which one field holds a document.
//
// Between documents: a tokenizer with a begin-of-sequence token begins each document with it; one
//              that only has an end-of-sequence token ends each with it; with neither (bytes) a
//              line end follows each. Lines of blanks are passed over; a byte order mark in front
//              is too.
// Memory:      the tokens and one line, of at most 16 MiB, whatever the file's size.
// Errors:      DATASET_INVALID with the line: no JSON object, a key twice, not UTF-8, no such field
//              (with those that are there), a field that is no text, no document at all;
//              DATASET_TOO_LARGE, Cancelled.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/language/tokenizer.h"
#include "worker/data/byte_stream.h"

namespace espalier::worker::data {

// The tokens of all documents in `stream`, from the field called `field`.
absl::StatusOr<std::vector<int32_t>> ReadJsonLines(ByteStream& stream, const std::string& field,
                                                   const language::Tokenizer& tokenizer);

}  // namespace espalier::worker::data
