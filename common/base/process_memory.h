// What a process has in memory (keys, tokens, models, data) stays there.
#pragma once

namespace espalier::base {

// To be called first in main(). Afterwards nothing of the process is written to a file when it crashes, and
// other processes of the same user can neither read its memory and environment nor trace it; root can.
// Programs that it starts begin without the second. Does nothing when the environment has
// ESPALIER_DEBUGGABLE=1.
void KeepMemoryPrivate();

}  // namespace espalier::base
