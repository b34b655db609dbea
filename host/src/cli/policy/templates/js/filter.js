// An alert filter: suppresses one rule where it is ordinary, with a reason, and keeps everything else.

import { alertsOf } from "./batch.js";

// Why an alert is suppressed; an empty text keeps it.
export function reason(rule, process) {
  return rule === "File in memory" && process === "node" ? "Node.js compiles while it runs, in memory" : "";
}

export const filter = {
  evaluate(batch, _settings) {
    return alertsOf(batch).map((alert) => {
      // The process that did it; its ancestors follow.
      const why = reason(alert.rule, alert.ancestry[0]?.name ?? "");
      return { id: alert.id, action: { tag: why ? "suppress" : "keep" }, pin: false, reason: why, tags: [] };
    });
  },

  describe() {
    return {
      name: "{{name}}",
      version: "0.1.0",
      author: "you",
      summary: "suppresses files in memory that Node.js makes",
      settingsSchema: "",
    };
  },

  // What is thrown is the sentence that the operator reads.
  validateSettings(settings) {
    if (settings.trim() !== "{}") throw "this filter has no settings: give {}";
  },
};
