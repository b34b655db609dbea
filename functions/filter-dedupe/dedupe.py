"""Suppresses what was seen in earlier scans of the same project, unless it is too urgent to get used to.

The logic alone: plain values in, plain values out, so that it is tested without WebAssembly. `app` binds it to the world.
"""

import json

# Most urgent first, as in Falco: the place in the list is the rank.
PRIORITIES = ["emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug"]
MAX_SCANS = 1000

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "required": ["scans", "never"],
    "properties": {
        "scans": {
            "description": "In how many earlier scans of the project an alert must have been seen.",
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_SCANS,
        },
        "never": {
            "description": "Alerts of this priority, and more urgent ones, are never suppressed.",
            "enum": PRIORITIES,
        },
    },
}


def read(settings):
    """The number of scans and the rank from which on alerts are kept; ValueError names the key."""
    try:
        document = json.loads(settings)
    except (ValueError, RecursionError):
        raise ValueError("the settings are not JSON") from None
    if not isinstance(document, dict):
        raise ValueError("the settings are no object")
    for key in document:
        if key not in SCHEMA["properties"]:
            raise ValueError(f"the settings have the unknown key {key}")
    scans = document.get("scans")
    # True is an int in Python.
    if not isinstance(scans, int) or isinstance(scans, bool) or not 1 <= scans <= MAX_SCANS:
        raise ValueError(f"scans: give a whole number from 1 to {MAX_SCANS}")
    never = document.get("never")
    if never not in PRIORITIES:
        raise ValueError(f"never: give one of {', '.join(PRIORITIES)}")
    return scans, PRIORITIES.index(never)


def reason(rank, seen_before, scans, never):
    """Why an alert of this rank is suppressed; None keeps it."""
    if rank <= never or seen_before < scans:
        return None
    return f"seen in {seen_before} earlier scans of this project; {scans} are enough"
