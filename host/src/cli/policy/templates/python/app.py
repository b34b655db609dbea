"""An alert filter: suppresses one rule where it is ordinary, with a reason, and keeps everything else.

The names that are imported here are made of `wit/` by componentize-py when the filter is built.
"""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import filter as wit

import decide
from batch import alerts_of


class Filter(exports.Filter):
    def evaluate(self, batch, settings):
        return [decision(alert) for alert in alerts_of(batch)]

    def describe(self):
        return wit.Description(
            name="{{name}}",
            version="0.1.0",
            author="you",
            summary="suppresses files in memory that Node.js makes",
            settings_schema="",
        )

    def validate_settings(self, settings):
        if settings.strip() != "{}":
            raise Err("this filter has no settings: give {}")


def decision(alert):
    # The process that did it; its ancestors follow.
    process = alert.ancestry[0].name if alert.ancestry else ""
    why = decide.reason(alert.rule, process)
    action = wit.Action_Suppress() if why else wit.Action_Keep()
    return wit.Decision(id=alert.id, action=action, pin=False, reason=why, tags=[])
