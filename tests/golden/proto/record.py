#!/usr/bin/env python3
"""Records the protocol as it is now, as the one that later changes are compared with. To be run for a release."""

import descriptors

descriptors.RECORDED.write_text(descriptors.describe(descriptors.ROOT / "proto"), encoding="utf-8")
print(f"recorded {descriptors.RECORDED.relative_to(descriptors.ROOT)}")
