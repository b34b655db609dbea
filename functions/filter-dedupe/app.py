"""Binds `dedupe` to the world `alert-filter`. The names here are those that componentize-py makes of the WIT."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import filter as wit

import dedupe


class Filter(exports.Filter):
    def evaluate(self, batch, settings):
        scans, never = dedupe.read(settings)
        return [decision(alert, scans, never) for alert in batch.alerts]

    def describe(self):
        return wit.Description(
            name="dedupe",
            version="0.1.0",
            author="Lanner",
            summary="suppresses what earlier scans of the same project have shown, below a priority",
            settings_schema=json.dumps(dedupe.SCHEMA),
        )

    def validate_settings(self, settings):
        try:
            dedupe.read(settings)
        except ValueError as error:
            raise Err(str(error)) from None


def decision(alert, scans, never):
    reason = dedupe.reason(alert.priority.value, alert.seen_before, scans, never)
    if reason is None:
        return wit.Decision(alert.id, wit.Action_Keep(), False, "", [])
    return wit.Decision(alert.id, wit.Action_Suppress(), False, reason, ["seen-before"])
