"""A text that nobody should print as it is."""

# A line at line start, controls of terminals (C0, C1), of direction and of lines, invisible characters.
HOSTILE = (
    "x\nforged  SUCCEEDED\r\tforged\x1b[2J\x1b]0;title\x07\x7f\x9b2J\u202e\u2066\u061c\u2028forged\u2029"
    "\u200b\ufeff\U000e0041y"
)
