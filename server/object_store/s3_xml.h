// The answers of an object store, which are small XML documents, as the texts that stand in them.
//
// This is no XML parser: it knows elements, text, entities, CDATA sections and comments, and
// refuses everything else, among it declarations of types, with which documents grow when they are
// read. Attributes are passed over, and so are the prefixes of names.
// Bounds:    time and memory follow the size of the document, which the caller has bounded; elements
//            are at most 16 deep.
// Threading: pure functions.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace espalier::server::object_store {

// Calls `visit` at the end of each element with the names that lead to it
// ("ListBucketResult/Contents/Key") and the text that stands in it, outside of the elements in it.
// Returns whether all of it could be read; visits made before are then worth nothing.
bool ReadXml(std::string_view document,
             const std::function<void(std::string_view path, const std::string& text)>& visit);

// `text` so that it can stand in an element.
std::string EscapeXml(std::string_view text);

}  // namespace espalier::server::object_store
