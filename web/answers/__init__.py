"""What the routes answer, as structs: money with its exact text, instants as text and ns.

One module for each subject. JavaScript rounds integers above 2**53, so every ``*_ns`` has an RFC
3339 twin beside it.
"""

from __future__ import annotations

import msgspec

ENCODER = msgspec.json.Encoder(decimal_format="number")
"""Writes a Decimal as the number it is, digit for digit."""
