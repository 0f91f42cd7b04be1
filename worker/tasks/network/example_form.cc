#include "worker/tasks/network/example_form.h"

#include "worker/tasks/network/rows.h"
#include "worker/tasks/network/tokens.h"

namespace espalier::worker::tasks {

const ExampleForm& FormOf(const v1::ModelSpec& model) {
  static const RowForm rows;
  static const TokenForm tokens;
  if (model.has_transformer()) return tokens;
  return rows;
}

}  // namespace espalier::worker::tasks
